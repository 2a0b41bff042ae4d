"""Questions become replies: asked now, or queued until the reply in progress has ended; regenerated, continued.

A question and the place of its reply are saved by one action before the model is called. Repeating a question returns
the reply that it has, and a queued one is not queued twice.

Invariants: nothing here checks a right; the actions do. A question that is queued stays the same question, by its id:
it is asked once, whichever node does so.
"""

from __future__ import annotations

from typing import Final, Protocol

from msgspec import Struct

from statestream.chat.chats import check_length, exists, missing, owner_in
from statestream.chat.file_keeper import FileKeeper
from statestream.chat.members import person_key
from statestream.chat.messages import (
    State,
    asked_maker,
    find,
    is_queued,
    last_speaker,
    path,
    queued,
    reply_to,
    unfinished,
)
from statestream.chat.provisions import Provisions
from statestream.chat.question import Question
from statestream.chat.replies.reply_maker import ReplyMaker
from statestream.chat.settings import Settings
from statestream.chat.slices import continuations, conversation, erasures, later, listing, waits
from statestream.chat.slices.conversation import QuestionPayload, ReplyPayload, name_of, optional
from statestream.chat.slices.later import Later
from statestream.chat.slices.turn import UNFINISHED
from statestream.core.change import Action
from statestream.core.errors import Forbidden, NotFound, Refused, Unavailable, VersionConflict
from statestream.core.principal import Identity
from statestream.store.notifier import Notifier
from statestream.store.revocations import is_revoked
from statestream.store.view import StoreView

REMOVED: Final = ("removed", "This question was removed before it was asked.")


class Asked(Struct, frozen=True, kw_only=True):
    """A question that was accepted, and its reply; None as long as the question is queued."""

    question: str
    reply: str | None


class Chats(Protocol):
    """What questions need of the conversations, which describe it."""

    notifier: Notifier

    async def find(self, key: str) -> State: ...
    async def existing(self, key: str) -> State: ...
    async def caught_up(self) -> None: ...
    async def is_archived(self, key: str, message: str) -> bool: ...
    async def restore(self, key: str, message: str | None) -> None: ...
    async def branch(self, key: str, message: str, *, leaf: str | None = None, by: Identity | None = None) -> None: ...


class Questions:
    """The questions of the chats of one node. The conversations describe the methods that they have, too."""

    def __init__(self, view: StoreView, settings: Settings, maker: ReplyMaker, files: FileKeeper, chats: Chats) -> None:
        self._view, self._maker, self._files, self._chats = view, maker, files, chats
        self._agents = settings.agents
        self._queues = settings.while_busy == "queue"

    async def submit(
        self, key: str, question: Question, *, create: bool, leaf: str | None, show: bool, by: Identity | None
    ) -> Asked:
        if create:
            check_length(key)
        else:
            await self._chats.existing(key)
        payload = question.payload()
        id = payload["id"]
        if find(await self._chats.find(key), id) is None:
            await self._chats.caught_up()  # another node may have asked this, and archived it since
        if await self._chats.is_archived(key, id):
            raise Refused("archived", "This question was answered long ago. Load the older messages of the chat.")
        state = await self._chats.find(key)
        known = reply_to(state, id)
        if known is None and is_queued(state, id):
            return Asked(question=id, reply=None)
        if known is None:
            self._agents.check(question.agent)
            payload["parts"] = await self._files.take_in(key, question.parts, None if by is None else by.subject)
            agent = question.agent or await self._agent_for(key, question.edits)
            try:
                return Asked(question=id, reply=await self._ask_or_queue(key, payload, leaf, agent, question, by))
            except Refused as refused:  # the same question has come in meanwhile
                state = await self._chats.find(key)
                known = reply_to(state, id)
                if refused.reason != conversation.KNOWN or (known is None and not is_queued(state, id)):
                    raise
        if known is None:
            return Asked(question=id, reply=None)
        if show:
            await self._show(key, str(known["id"]), leaf, by)
        return Asked(question=id, reply=str(known["id"]))

    async def reply_of(self, key: str, question: str) -> str:
        """The id of the reply to a question, once it has been asked. Raises Refused if it was removed, Unavailable."""
        notifier = self._chats.notifier
        with notifier.on([name_of(key)]) as signal:
            while True:
                signal.clear()
                state = await self._chats.find(key)
                known = reply_to(state, question)
                if known is not None:
                    return str(known["id"])
                if not is_queued(state, question):
                    raise Refused(*REMOVED)
                if notifier.closed:
                    raise Unavailable("the server is stopping; ask again in a moment")
                await signal.wait()

    # the queue

    async def _ask_or_queue(
        self,
        key: str,
        question: QuestionPayload,
        leaf: str | None,
        agent: str | None,
        asked: Question,
        by: Identity | None,
    ) -> str | None:
        """The id of the reply; None if the question is queued instead. Raises Refused."""
        may_queue = self._queues and asked.edits is None and asked.settings is None
        while True:
            state = await self._chats.find(key)
            if may_queue and (unfinished(state) is not None or queued(state)):
                try:
                    await self._queue(key, question, leaf, asked, by)
                except Refused as refused:  # the reply has ended in the meantime
                    if refused.reason != later.IDLE:
                        raise
                else:
                    return None
            try:
                return await self._ask(key, question, leaf, agent, asked.provisions, by)
            except Refused as refused:  # another question came first
                if not may_queue or refused.reason not in UNFINISHED:
                    raise
                await self._chats.caught_up()

    async def _queue(
        self, key: str, question: QuestionPayload, leaf: str | None, asked: Question, by: Identity | None
    ) -> None:
        self._maker.check_quota(by)
        hidden = optional(agent=asked.agent, asker=waits.kept(by), brought=asked.provisions.kept())
        enqueued = later.enqueued(key, question=question, **optional(leaf=leaf))
        kept = later.kept(key, id=question["id"], **hidden)
        files = await self._view.complete(lambda: self._files.keeping(key, question["parts"]))
        await self._view.on_behalf_of(by).dispatch([enqueued, kept, *files])

    async def remove(self, key: str, question: str, *, by: Identity | None = None) -> None:
        """Removes a question from the queue. Raises NotFound, and Forbidden if `by` has not asked it."""
        await self._chats.existing(key)
        await self._chats.caught_up()
        try:
            await self._view.on_behalf_of(by).dispatch(later.dequeued(key, question=question))
        except Refused as refused:
            if refused.reason == later.GONE:
                raise NotFound("there is no such question in the queue; it may have been asked already") from None
            if refused.reason == later.NOT_AUTHOR:
                raise Forbidden(refused.sentence) from None
            raise

    async def ask_later(self, key: str, found: Later) -> None:
        """Asks a question that has waited, with the rights of the person who asked it. Raises what `ask` raises."""
        asker = found.asker
        if asker is not None and await self._view.complete(lambda: is_revoked(self._view, asker)):
            raise Forbidden("the login of the person who asked was revoked")
        self._agents.check(found.agent)
        if await self.is_known(key, found.question["id"]):
            raise Refused(conversation.KNOWN, "This was asked before.")
        agent = found.agent or await self._agent_for(key, None)
        await self._ask(key, found.question, None, agent, found.brought, found.asker, later_id=found.question["id"])

    async def is_known(self, key: str, question: str) -> bool:
        """Whether a question has been asked, however long ago."""
        return find(await self._chats.find(key), question) is not None or await self._chats.is_archived(key, question)

    # asking

    async def _ask(
        self,
        key: str,
        question: QuestionPayload,
        leaf: str | None,
        agent: str | None,
        brought: Provisions,
        by: Identity | None,
        *,
        later_id: str | None = None,
    ) -> str:
        """`later_id`: the question has waited under this id, and cannot be refused because too much is going on."""
        state = await self._chats.find(key)
        await self._chats.restore(key, question.get("edits", state.get("leaf")))
        owner, create, expect = owner_in(await self._chats.find(key)), [], {}
        if not exists(self._view, key):
            author = question.get("author")
            owner = None if author is None else person_key(author)
            create = [conversation.created(key, **optional(user=owner))]
            expect = erasures.undeleted(key)

        def actions(reply: ReplyPayload) -> list[Action]:
            more = optional(user=owner, leaf=leaf)
            taken = [] if later_id is None else [later.taken(key, id=later_id)]
            asked = conversation.asked(key, question=question, reply=reply, **more)
            files = self._files.keeping(key, question["parts"])
            return [*taken, *create, asked, *files, *listing.updating(self._view, key, status=listing.STREAMING)]

        try:
            return await self._maker.make(
                key,
                owner,
                actions,
                agent=agent,
                brought=brought,
                by=by,
                expect=expect,
                refusable=later_id is None,
            )
        except VersionConflict:  # there was a chat with this id, and nobody may find out
            raise missing() from None

    async def _show(self, key: str, reply: str, leaf: str | None, by: Identity | None) -> None:
        """Shows an existing reply, unless it is shown already or another reply is in progress. Raises Refused."""
        if all(message["id"] != reply for message in path(await self._chats.find(key))):
            try:
                await self._chats.branch(key, reply, leaf=leaf, by=by)
            except Refused as refused:
                if refused.reason == conversation.STALE:
                    raise

    async def regenerate(self, key: str, question: str, *, leaf: str | None = None, by: Identity | None = None) -> str:
        await self._chats.existing(key)
        await self._chats.restore(key, question)
        owner = owner_in(await self._chats.find(key))

        def actions(reply: ReplyPayload) -> list[Action]:
            more = optional(user=owner, leaf=leaf)
            regenerated = conversation.regenerated(key, question=question, reply=reply, **more)
            return [regenerated, *listing.updating(self._view, key, status=listing.STREAMING)]

        return await self._maker.make(key, owner, actions, agent=await self._agent_for(key, question), by=by)

    async def continue_reply(
        self, key: str, message: str, *, leaf: str | None = None, by: Identity | None = None
    ) -> str:
        state = await self._chats.existing(key)
        current = unfinished(state)
        if current is not None and current.get("continues") == message:
            return str(current["id"])
        await self._chats.restore(key, message)
        state = await self._chats.find(key)
        owner, found = owner_in(state), find(state, message)
        continuations.check_continuable(found)

        def actions(reply: ReplyPayload) -> list[Action]:
            more = optional(user=owner, leaf=leaf)
            continued = continuations.continued(key, message=message, reply=reply, **more)
            return [continued, *listing.updating(self._view, key, status=listing.STREAMING)]

        return await self._maker.make(key, owner, actions, agent=found.get("model"), by=by, continues=found)

    async def _agent_for(self, key: str, question: str | None) -> str | None:
        """Who was asked to answer that question before; for a new question, whoever others have handed over to."""
        state = await self._chats.find(key)
        return last_speaker(state) if question is None else asked_maker(reply_to(state, question))
