"""Conversations over an open store: ask, ask otherwise, answer again, stop; and what keeps them true.

Every protocol comes in here. A question and the place of its reply are saved by one action before the model is
called; whoever repeats a question gets the run that there is.

Invariants: the store's messages are the conversation. No request owns a reply: it is made by a task of `runs`, whose
node has a lease; when the node is gone, another one ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, Self, TypeVar

from msgspec import Struct

from statestream.chat import archive, presence
from statestream.chat import conversation as chat
from statestream.chat.generation import INTERRUPTED, Generation, Job, Timeouts
from statestream.chat.index import Index
from statestream.chat.leases import Lease
from statestream.chat.messages import find, path, reply_to, streaming, text_of
from statestream.chat.models import Model, Turn
from statestream.chat.presence import Presence
from statestream.chat.reply_tasks import ReplyTasks
from statestream.chat.titles import title_of
from statestream.chat.tools import Tools
from statestream.chat.turns import turns_of
from statestream.core.change import Action
from statestream.core.errors import Malformed, NotFound, Refused, Unavailable, VersionConflict
from statestream.core.names import escape_key
from statestream.store.notifier import Notifier
from statestream.store.view import StoreView

log = logging.getLogger("statestream")

MAX_KEY: Final = 128 - archive.KEY_ROOM
T = TypeVar("T")


class Settings(Struct, frozen=True, kw_only=True):
    """What a Chat was told, see there."""

    model: Model
    tools: Tools
    timeouts: Timeouts
    window: int
    keep: int
    lease: float
    titles: bool


class Asked(Struct, frozen=True, kw_only=True):
    """A message of a person. `edits`: the message that it is to stand in the place of."""

    parts: Sequence[dict[str, Any]]
    id: str | None = None
    author: str | None = None
    edits: str | None = None

    @classmethod
    def text(cls, said: str, *, author: str | None = None) -> Self:
        """A message that is nothing but text."""
        return cls(parts=[{"type": "text", "text": said}], author=author)


class Conversations:
    """The chats of one store. Use it as `async with`, while the store is open."""

    def __init__(self, store: StoreView, settings: Settings) -> None:
        self.store = store
        self._settings = settings
        self._runs = ReplyTasks()
        self.notifier = Notifier()
        self._index: Index
        self._lease = Lease(store, settings.lease, self._in_use, lambda: self._index.nodes())
        self.presence = Presence(store, self._lease.node, self._lease.take)
        self._tasks: list[asyncio.Task[None]] = []
        self._unsubscribe: list[Callable[[], None]] = []

    async def __aenter__(self) -> Self:
        self._index = Index(self.store, self._runs.let_go)
        self._unsubscribe = [self.store.subscribe(listener) for listener in (self._index, self.notifier, self.presence)]
        self._tasks = [
            asyncio.create_task(self._lease.keep(self._node_gone)),
            asyncio.create_task(self.presence.run()),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.presence.take_back(self._index.presences(self._lease.node))
        await self._lease.give_back()
        await self._settings.model.close()
        for unsubscribe in self._unsubscribe:
            unsubscribe()

    async def stop_all(self) -> None:
        """Ends every reply that is being made here, then every viewer's stream."""
        await self._runs.close()
        self.notifier.close()

    # chats

    async def create(self, *, user: str | None = None) -> str:
        """Makes an empty chat, whose it is, and gives its key."""
        key = secrets.token_hex(6)
        whose = None if user is None else escape_key(user)
        await self.store.dispatch(chat.created(key, **_given(user=whose)))
        return key

    def find(self, key: str) -> Any:
        """The chat's committed state, or that of an empty one."""
        held = self.store.get(name_of(key))
        return chat.chat_slice.initial if held is None else held.value

    async def caught_up(self) -> None:
        """What other nodes have written is read, before anyone is told that something is not there."""
        with contextlib.suppress(Unavailable):  # then what this node knows must do
            await self.store.caught_up()

    async def current(self, key: str) -> Any:
        """The chat's state, or that of an empty one, as the journal has it and not only this node."""
        await self.caught_up()
        return self.find(key)

    async def existing(self, key: str) -> Any:
        """The chat's committed state. Raises NotFound."""
        if self.store.get(name_of(key)) is None:
            await self.caught_up()
        if self.store.get(name_of(key)) is None:
            raise NotFound("expected the id of a chat that exists; make one with POST /api/chats")
        return self.find(key)

    async def making(self, key: str) -> Any:
        """The reply that is being made, by whatever node; None where there is none.

        Of one that is not made here this node may not have heard yet that it is over.
        """
        known = streaming(self.find(key))
        return known if known is not None and known["id"] in self._runs else streaming(await self.current(key))

    async def older(self, key: str, *, before: str, limit: int) -> list[Any]:
        """The messages made before that one, oldest first, also those that are not live any more. Raises NotFound."""
        await self.existing(key)
        return archive.older(self.store, key, before=before, limit=limit)

    def archived(self, key: str, message: str) -> bool:
        """Whether a message of that id has left the chat."""
        return find(self.find(key), message) is None and archive.holds(self.store, key, message)

    async def branch(self, key: str, message: str) -> None:
        """Shows the branch with that message. Raises NotFound, Refused."""
        await self.existing(key)
        await self.store.dispatch(chat.branched(key, message=message))

    def owned(self, work: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """The result of work that goes on whatever becomes of its caller. Raises Unavailable where the server stops."""
        return self._runs.owned(work)

    # questions and replies

    async def ask(self, key: str, asked: Asked, *, create: bool = False) -> str:
        """Saves the question and the reply's place, then lets the model answer; gives the reply's id.

        A question that is there already, by its id, gives the reply that it has. `create`: a chat that does not
        exist is made. Raises NotFound, and Refused (`busy`) while a reply is being made.
        """
        if not create:
            await self.existing(key)
        elif len(key) > MAX_KEY:
            raise Malformed(f"expected the id of a chat of at most {MAX_KEY} characters, got more")
        question: chat.Question = {
            "id": asked.id or secrets.token_hex(6),
            "parts": list(asked.parts),
            **_given(author=asked.author, edits=asked.edits),  # type: ignore[typeddict-item]  # of the optional ones
        }
        if self.archived(key, question["id"]):
            raise Refused("archived", "This question was answered long ago; look into the chat's past.")
        user = self._user(key, asked.author)
        make = [chat.created(key, **_given(user=user))] if self.store.get(name_of(key)) is None else []

        def actions(reply: chat.Reply) -> list[Action]:
            return [*make, chat.asked(key, question=question, reply=reply, **_given(user=user))]

        known = reply_to(self.find(key), question["id"])
        if known is None:
            try:
                return await self._runs.owned(self._answer(key, user, actions))
            except Refused as refused:  # another one was first
                known = reply_to(self.find(key), question["id"])
                if refused.reason != chat.KNOWN or known is None:
                    raise
        return await self._show(key, str(known["id"]))

    async def regenerate(self, key: str, question: str) -> str:
        """Another reply to a question that is there; gives its id. Raises NotFound, Refused."""
        await self.existing(key)
        user = self._user(key, None)
        return await self._runs.owned(
            self._answer(
                key, user, lambda reply: [chat.regenerated(key, question=question, reply=reply, **_given(user=user))]
            )
        )

    async def stop(self, key: str, reply: str | None = None) -> bool:
        """Ends the reply that is being made, or only if it is that one; its text stays. False where there is none.

        Raises NotFound.
        """
        making = await self.making(key)
        if making is None:
            await self.existing(key)
        if making is None or reply not in (None, making["id"]):
            return False
        if not self._runs.stop(making["id"]):
            try:
                await self._end(key, making["id"], status="stopped")
            except Refused:
                return False
        return True

    async def _answer(self, key: str, user: str | None, actions: Callable[[chat.Reply], list[Action]]) -> str:
        """Not the request's own: one that leaves in the middle must not leave a place that nobody fills."""
        await self._lease.take()
        settings = self._settings
        reply: chat.Reply = {
            "id": secrets.token_hex(6),
            "run": secrets.token_hex(6),
            "node": self._lease.node,
            "model": settings.model.name,
        }
        job = Job(key=key, reply=reply["id"], user=user, turns=lambda: turns_of(path(self.find(key)), settings.window))
        generation = Generation(self.store, job, settings.model, settings.tools, settings.timeouts)
        try:
            await self.store.dispatch(actions(reply))
        except Unavailable:
            generation.stop()  # the place may be there all the same: then it ends when the journal is back
            self._runs.start(generation, partial(self._after, job))
            raise
        if find(self.find(key), reply["id"]) is not None:
            self._runs.start(generation, partial(self._after, job))
        return reply["id"]

    async def _after(self, job: Job) -> None:
        """What follows a reply: the oldest messages leave the chat, and the chat gets a title."""
        actions, expect = archive.due(self.store, job.key, self._settings.keep)
        if actions:
            with contextlib.suppress(Refused, VersionConflict):  # something came between: after the next reply then
                await self.store.dispatch(actions, expect=expect)
        state = self.find(job.key)
        reply = find(state, job.reply)
        if self._settings.titles and "title" not in state and reply is not None and reply["status"] == "complete":
            said = [Turn(role=message["role"], text=text_of(message)) for message in path(state)[:2]]
            title = await title_of(said, self._settings.model)
            if title is not None:
                await self.store.dispatch(chat.titled(job.key, title=title, **_given(user=job.user)))

    async def _show(self, key: str, reply: str) -> str:
        """A reply that there is already: its branch is chosen, unless it is shown, or another reply is being made."""
        if all(message["id"] != reply for message in path(self.find(key))):
            with contextlib.suppress(Refused):
                await self.branch(key, reply)
        return reply

    def _user(self, key: str, author: str | None) -> str | None:
        """Whose chat it is, as a key; one that does not exist yet is its first author's."""
        held = self.store.get(name_of(key))
        if held is None:
            return None if author is None else escape_key(author)
        return None if "user" not in held.value else str(held.value["user"])

    # what keeps it true

    def _in_use(self) -> bool:
        return bool(self._runs) or self.presence.in_use

    async def _node_gone(self, node: str) -> None:
        """A node's lease has run out: its replies end, and nobody is present by it any more."""
        for key, (reply, owner) in tuple(self._index.making.items()):
            if owner == node:
                with contextlib.suppress(Refused):  # another node was first
                    await self._end(key, reply, **INTERRUPTED)
        for key in self._index.presences(node):
            await self.store.dispatch(presence.node_lost(key, node=node))
        log.info("node %s is gone; what it left behind was ended", node)

    async def _end(self, key: str, reply: str, **how: Any) -> None:
        await self.store.dispatch(chat.ended(key, reply=reply, **how, **_given(user=self._user(key, None))))


def name_of(key: str) -> str:
    """The full name of a chat's slice."""
    return f"{chat.NAME}/{key}"


def _given(**fields: str | None) -> dict[str, Any]:
    """What is not None: an optional field of a payload is absent, not null."""
    return {name: value for name, value in fields.items() if value is not None}
