"""The conversations of a store: create, ask, edit, regenerate, stop, choose a branch, read the past.

Every protocol comes in here. A question and the place of its reply are saved by one action before the model is called.
Repeating a question returns the reply that it has.

Invariants: the stored messages are the conversation. No request owns a reply: a task makes it, on a node with a lease,
and if the node is lost, another one ends it.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Self, TypeVar

from statestream.chat.blobs import Blobs
from statestream.chat.chats import exists, missing, state_of
from statestream.chat.file_keeper import FileKeeper
from statestream.chat.mcp.server import all_tried
from statestream.chat.members import belongs, person_key
from statestream.chat.messages import State, find, streaming, unfinished, waiting
from statestream.chat.nodes.asking_later import AskingLater
from statestream.chat.nodes.chores import Chores
from statestream.chat.nodes.in_progress import INDEXED, InProgress, Recovery
from statestream.chat.nodes.lease import Lease
from statestream.chat.nodes.presence import Presence
from statestream.chat.operators.run_list import INDEX, ListedRun, keys_in, listed_runs
from statestream.chat.people import People
from statestream.chat.question import Question
from statestream.chat.questions import Asked, Questions
from statestream.chat.replies.ends import STOPPED, end_reply
from statestream.chat.replies.measurements import Totals
from statestream.chat.replies.quota import Quota
from statestream.chat.replies.reply_maker import ReplyMaker
from statestream.chat.replies.reply_tasks import ReplyTasks
from statestream.chat.replies.run_queue import RunQueue
from statestream.chat.schedule import Schedule
from statestream.chat.settings import Settings
from statestream.chat.slices import archive, conversation
from statestream.chat.slices.conversation import chat_slice, optional
from statestream.chat.waiting_calls import WaitingCalls
from statestream.core.errors import Refused, Unavailable, VersionConflict
from statestream.core.principal import Identity
from statestream.store.notifier import Notifier
from statestream.store.view import StoreView

T = TypeVar("T")


class Conversations:
    """The chats of one store. Use it as `async with`, while the store is open.

    `view` is the store as the server's own code sees it, `node` the name of this node in the store. `people` are
    those of the chats, `files` their files, `calls` the tool calls that wait, `queue` the runs that wait for their
    turn, `schedule` the questions that the server asks by itself, `shared` the state that clients may set. The methods
    check no right: requests use a Visit. `by` is the person on whose behalf a chat is changed, which its actions check.
    """

    def __init__(
        self,
        view: StoreView,
        settings: Settings,
        quota: Quota,
        queue: RunQueue,
        find_blobs: Callable[[], Blobs | None],
    ) -> None:
        self.view, self.node = view, secrets.token_hex(4)
        self.notifier, self.shared = Notifier(), settings.shared
        self._model, self._keep = settings.model, settings.keep
        self._agents, self._servers = settings.agents, settings.servers
        self._reply_tasks = ReplyTasks(self.node)
        self._in_progress = InProgress(view, self._reply_over)
        self._lease = Lease(view, self.node, settings.lease, self._in_use, self._in_progress.nodes)
        self.presence = Presence(view, self.node, self._lease.take, self._may_be_present)
        self._recovery = Recovery(view, self._in_progress)
        self.files = FileKeeper(view, settings.files, find_blobs, quota, self.shielded)
        self.people = People(view, self.files.delete_chat)
        self.queue = queue
        self._maker = ReplyMaker(
            view, settings, self._reply_tasks, self.node, self._lease.take, quota, self.queue, self.files
        )
        self.calls = WaitingCalls(view, settings, self._maker, self.existing, self.current)
        self.questions = Questions(view, settings, self._maker, self.files, self)
        self.schedule = Schedule(view, settings, self.questions, self.files, self)
        self._later = AskingLater(view, self._in_progress, self.questions.ask_later)
        self._chores = Chores(
            self.node, self._lease, self._recovery, self.presence, self._later, self.people, self.files, self._servers
        )
        self._unsubscribe: list[Callable[[], None]] = []
        self._held = contextlib.AsyncExitStack()
        """What listeners read, which cannot wait."""

    async def __aenter__(self) -> Self:
        await self._held.enter_async_context(self.view.holding(INDEXED))
        await self.files.open()
        self._in_progress.load()
        listeners = (self._in_progress, self.notifier, self.presence)
        self._unsubscribe = [self.view.subscribe(listener) for listener in listeners]
        self._chores.begin()
        try:
            await all_tried(self._servers)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop_all()
        await self._chores.end()
        await self.presence.withdraw(self._in_progress.presences(self.node))
        await self._lease.give_back()
        await self._model.close()
        await self.files.close()
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        await self._held.aclose()

    def _reply_over(self, reply: str) -> None:
        if reply in self._reply_tasks:
            self._reply_tasks.abandon(reply)
            self._later.wake()

    async def stop_all(self) -> None:
        """Ends the replies that this node makes, then the streams of all viewers, who see how the replies ended."""
        self._later.stop()
        await self._reply_tasks.close()
        self.notifier.close()

    @property
    def totals(self) -> Totals:
        """The runs of this process, for monitoring."""
        return self._reply_tasks.totals

    async def unfinished(self) -> list[ListedRun]:
        """The replies of all chats that are in progress or waiting, on whatever node, the oldest first."""
        keys = keys_in(self.view.versions(INDEX)) | self._in_progress.replies.keys()
        return await self.view.complete(
            lambda: listed_runs(keys, lambda key: state_of(self.view, key), self._reply_tasks.spending_of)
        )

    def _in_use(self) -> bool:
        """Whether this node holds anything that other nodes would have to end if it were lost."""
        return bool(self._reply_tasks) or self.presence.in_use

    def _may_be_present(self, key: str, user: str) -> bool:
        """Raises NotLoaded."""
        return exists(self.view, key) and (
            not self.view.guards(chat_slice) or belongs(state_of(self.view, key), person_key(user))
        )

    # chats

    async def create(self, *, user: str | None = None, by: Identity | None = None) -> str:
        """Creates an empty chat, owned by that user, and returns its key.

        It counts as an instance that `by` has created. Raises RateLimited.
        """
        key = secrets.token_hex(6)
        owner = None if user is None else person_key(user)
        creator = None if by is None else by.subject
        created = conversation.created(key, **optional(user=owner))
        await self.view.on_behalf_of(by).dispatch(created, creator=creator)
        return key

    async def find(self, key: str) -> State:
        """The chat's committed state, which must not be mutated; the initial state if the chat does not exist."""
        state = await self.view.complete(lambda: state_of(self.view, key))
        self._in_progress.note(key, state)
        return state

    async def caught_up(self) -> None:
        """Returns once this node has read what other nodes have written, or cannot because the journal is unavailable.

        For callers that are about to report that something does not exist.
        """
        with contextlib.suppress(Unavailable):
            await self.view.caught_up()

    async def current(self, key: str) -> State:
        """The chat's state as the journal has it, and not only this node; see `find`."""
        await self.caught_up()
        return await self.find(key)

    async def existing(self, key: str) -> State:
        """The chat's committed state. Raises NotFound."""
        if not exists(self.view, key):
            await self.caught_up()
        if not exists(self.view, key):
            raise missing()
        return await self.find(key)

    async def in_progress(self, key: str) -> Any:
        """The reply in progress, made by whatever node, or None.

        If another node makes it, this one may not have heard that it has ended: then it reads what others have written.
        """
        known = streaming(await self.find(key))
        if known is not None and known["id"] in self._reply_tasks:
            return known
        return streaming(await self.current(key))

    async def older(self, key: str, *, before: str, limit: int) -> list[Any]:
        """Up to `limit` messages created before that one, oldest first, live or archived. Raises NotFound."""
        await self.existing(key)
        return await self.view.complete(lambda: archive.older(self.view, key, before=before, limit=limit))

    async def is_archived(self, key: str, message: str) -> bool:
        """Whether the message with that id has moved to the archive."""
        if find(await self.find(key), message) is not None:
            return False
        return await self.view.complete(lambda: archive.is_archived(self.view, key, message))

    async def newest_below(self, key: str, message: str) -> str:
        """The id of the newest live message at or below that one: the leaf if `message` is chosen. Raises NotFound.

        If there is none, this is the id of `message`.
        """
        await self.existing(key)
        return await self.view.complete(lambda: archive.newest_below(self.view, key, message))

    async def branch(self, key: str, message: str, *, leaf: str | None = None, by: Identity | None = None) -> None:
        """Shows the branch with that message to everybody, down to its newest live message.

        `leaf` is the leaf that the sender has seen: if the chat shows another one, this is refused. Raises NotFound,
        Refused.
        """
        newest = await self.newest_below(key, message)
        await self.restore(key, newest)
        await self.view.on_behalf_of(by).dispatch(conversation.branched(key, message=newest, **optional(leaf=leaf)))
        actions, expect = await self.view.complete(lambda: archive.archiving(self.view, key, self._keep))
        if actions:
            with contextlib.suppress(Refused, VersionConflict):  # the next reply archives them
                await self.view.dispatch(actions, expect=expect)

    async def restore(self, key: str, message: str | None) -> None:
        """Restores archived messages above the given one, so that the branch that ends with it can be shown."""
        while message is not None and unfinished(await self.find(key)) is None:
            restoring = partial(archive.restoring, self.view, key, message, self._keep)
            actions, expect = await self.view.complete(restoring)
            if not actions:
                return
            with contextlib.suppress(VersionConflict):
                await self.view.dispatch(actions, expect=expect)

    def shielded(self, work: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """The result of work that continues even if its caller is cancelled. Raises Unavailable at the server's end."""
        return self._reply_tasks.shielded(work)

    # questions and replies

    async def submit(
        self,
        key: str,
        question: Question,
        *,
        create: bool = False,
        leaf: str | None = None,
        show: bool = True,
        by: Identity | None = None,
    ) -> Asked:
        """Like `ask`, but does not wait for a question that is queued."""
        return await self.questions.submit(key, question, create=create, leaf=leaf, show=show, by=by)

    async def ask(
        self,
        key: str,
        question: Question,
        *,
        create: bool = False,
        leaf: str | None = None,
        show: bool = True,
        by: Identity | None = None,
    ) -> str:
        """Saves the question and the reply's place, then lets the model answer. Returns the reply's id.

        Repeating a question, by its id, returns the reply that it has. `show`: whether that reply is then shown to
        everybody. `create`: whether a chat that does not exist is created. `leaf` is the leaf that the sender has seen.
        If a reply is unfinished and the chat queues questions, this waits until the question is asked. Raises NotFound,
        and Refused: with the code `busy` while a reply is in progress, with `stale` if the chat shows another leaf,
        with `file_refused` for a file that may not be posted, with `unknown_agent` for an agent that does not exist,
        with `removed` if the question was removed from the queue.
        """
        asked = await self.submit(key, question, create=create, leaf=leaf, show=show, by=by)
        return asked.reply or await self.questions.reply_of(key, asked.question)

    async def regenerate(self, key: str, question: str, *, leaf: str | None = None, by: Identity | None = None) -> str:
        """Makes another reply to an existing question, by the agent that made the last one, and returns its id.

        `leaf` is the leaf that the sender has seen: if the chat shows another one, this is refused. Raises NotFound,
        Refused.
        """
        return await self.questions.regenerate(key, question, leaf=leaf, by=by)

    async def continue_reply(
        self, key: str, message: str, *, leaf: str | None = None, by: Identity | None = None
    ) -> str:
        """Continues a reply that was cut off, as a sibling that begins with its parts. Returns the sibling's id.

        While the sibling is unfinished, repeating this returns it. `leaf` is the leaf that the sender has seen. Raises
        NotFound, and Refused: with the code `not_continuable` for a reply that was not cut off, or has no content.
        """
        return await self.questions.continue_reply(key, message, leaf=leaf, by=by)

    async def stop(self, key: str, reply: str | None = None, *, by: Identity | None = None) -> bool:
        """Ends the reply that is in progress or waiting, or only the given one. Its text stays. Returns False if there
        is none.

        Raises NotFound.
        """
        current = await self.in_progress(key)
        if current is None:
            current = waiting(await self.existing(key))
        if current is None or reply not in (None, current["id"]):
            return False
        if current["status"] == "waiting" or not self._reply_tasks.stop(current["id"]):  # no run, or of another node
            try:
                await end_reply(self.view.on_behalf_of(by), key, current["id"], STOPPED)
            except Refused:
                return False
        return True
