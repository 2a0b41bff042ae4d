"""The slice `presence`, and who is there: a person is in a chat while a stream of theirs is open, on any node.

    presence/<chat>  {"people": {user: {"since", "typing", "nodes": {node: "here" | "typing"}}}}

Several streams of a person count once. Each node says about its own streams only, what has changed, and of a chat one
node once a second at most, however many come and go and wherever; the first at once. Who comes back soon was never
away. What a node that died has said is taken back when its lease has run out.

Invariants: presence rests on open streams and leases, never on a message that somebody must send in time.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, Literal

import orjson

from statestream.core.change import REMOVED, Action, Change
from statestream.core.errors import StatestreamError, VersionConflict
from statestream.core.slices import Slice
from statestream.store.bus import ResetReason
from statestream.store.view import StoreView

log = logging.getLogger("statestream")

NAME: Final = "presence"
PACE_SECONDS: Final = 1.0
SPREAD_SECONDS: Final = 0.25
OWN_SECONDS: Final = 1.5
"""After it has spoken a node lets others speak first, who hear of it a moment later."""
LINGER_SECONDS: Final = 1.5
TYPING_SECONDS: Final = 6.0

Doing = Literal["here", "typing", "gone"]

presence_slice = Slice(NAME, initial={"people": {}}, keyed=True, internal=True)


@presence_slice.action
def seen(state: Any, action: Action, *, node: str, people: dict[str, Doing]) -> Any:
    """What has changed among the streams that a node holds."""
    for user, doing in people.items():
        entry = state["people"].get(user)
        if doing != "gone":
            if entry is None:
                state["people"][user] = {"since": action.at, "typing": doing == "typing", "nodes": {node: doing}}
            else:
                entry["nodes"][node] = doing
                entry["typing"] = "typing" in entry["nodes"].values()
        elif entry is not None:
            _without(state, user, node)
    return REMOVED if not state["people"] else None


@presence_slice.action
def node_lost(state: Any, *, node: str) -> Any:
    """A node is gone, and with it the streams that it held."""
    for user in list(state["people"]):
        _without(state, user, node)
    return REMOVED if not state["people"] else None


def _without(state: Any, user: str, node: str) -> None:
    entry = state["people"][user]
    if entry["nodes"].pop(node, None) is not None and not entry["nodes"]:
        del state["people"][user]
    else:
        entry["typing"] = "typing" in entry["nodes"].values()


class Person:
    """One person in one chat, as this node knows them. Times are the event loop's."""

    __slots__ = ("here_until", "streams", "typing_until")

    def __init__(self) -> None:
        self.streams = 0
        self.here_until = 0.0
        self.typing_until = 0.0

    def doing(self, now: float) -> Doing:
        if not self.streams and self.here_until <= now:
            return "gone"
        return "typing" if self.typing_until > now else "here"


class Presence:
    """The people whose streams this node holds."""

    def __init__(self, store: StoreView, node: str, lease: Callable[[], Awaitable[None]]) -> None:
        self._store, self._node, self._lease = store, node, lease
        self._chats: dict[str, dict[str, Person]] = {}
        self._quiet_until: dict[str, float] = {}
        self._due: list[tuple[float, str]] = []
        self._wanted = asyncio.Event()

    @property
    def in_use(self) -> bool:
        return bool(self._chats)

    def enter(self, key: str, user: str) -> Callable[[], None]:
        """A stream of that person has opened in that chat; call what this gives, once, when it has closed."""
        person = self._chats.setdefault(key, {}).setdefault(user, Person())
        person.streams += 1
        self._look_at(key, 0.0)

        def leave() -> None:
            person.streams -= 1
            person.here_until = asyncio.get_running_loop().time() + LINGER_SECONDS
            self._look_at(key, LINGER_SECONDS)

        return leave

    def typing(self, key: str, user: str, *, on: bool) -> bool:
        """The person types, for some seconds unless it is said again. False where no stream of theirs is open here."""
        person = self._chats.get(key, {}).get(user)
        if person is None:
            return False
        now = asyncio.get_running_loop().time()
        if on and person.typing_until > now + TYPING_SECONDS / 2:
            return True  # it was said just now
        person.typing_until = now + (TYPING_SECONDS if on else 0.0)
        self._look_at(key, 0.0)
        if on:
            self._look_at(key, TYPING_SECONDS)
        return True

    def changed(self, changes: Sequence[Change]) -> None:
        """A listener of the bus: who was taken for dead speaks again, who hears another node is quiet."""
        for change in changes:
            key = change.slice.partition("/")[2]
            if change.cause.type == seen.type:  # also where nobody is here yet: somebody may come within the second
                if orjson.loads(change.cause.payload)["node"] != self._node:
                    self._quiet(key, PACE_SECONDS + random.uniform(0.0, SPREAD_SECONDS))  # noqa: S311  # no secret
            elif change.cause.type == node_lost.type and key in self._chats:
                self._look_at(key, 0.0)

    def reset(self, reason: ResetReason) -> None:
        """The state is another one, and may say something else than what is true."""
        for key in self._chats:
            self._look_at(key, 0.0)

    def _look_at(self, key: str, after: float) -> None:
        heapq.heappush(self._due, (asyncio.get_running_loop().time() + after, key))
        self._wanted.set()

    def _quiet(self, key: str, seconds: float) -> None:
        self._quiet_until[key] = asyncio.get_running_loop().time() + seconds
        self._look_at(key, seconds)

    async def run(self) -> None:
        """Says what has changed, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            self._wanted.clear()
            wait = self._due[0][0] - loop.time() if self._due else None
            if wait is None or wait > 0:
                try:
                    async with asyncio.timeout(wait):
                        await self._wanted.wait()
                except TimeoutError:
                    pass
                continue
            _, key = heapq.heappop(self._due)
            try:
                await self._say(key, loop.time())
            except StatestreamError as error:
                log.warning("who is in a chat could not be said, trying again soon: %s", error)
                self._look_at(key, PACE_SECONDS)
            except Exception:
                log.exception("who is in a chat could not be said")
                self._look_at(key, PACE_SECONDS)

    async def _say(self, key: str, now: float) -> None:
        """What this node has to say of a chat, unless one has spoken within the last second: then after it."""
        if self._quiet_until.get(key, 0.0) > now:
            return
        self._quiet_until.pop(key, None)
        news = self._news(key, now)
        if news:
            held = self._store.get(f"{NAME}/{key}")
            expect = {f"{NAME}/{key}": 0 if held is None else held.version}
            await self._lease()
            self._quiet(key, OWN_SECONDS)
            with contextlib.suppress(VersionConflict):  # another node was first: after it, then
                await self._store.dispatch(seen(key, node=self._node, people=news), expect=expect)

    def _news(self, key: str, now: float) -> dict[str, Doing]:
        """What the state says of this node's people that is not so; who is gone is forgotten here."""
        held = self._store.get(f"{NAME}/{key}")
        known = (
            {}
            if held is None
            else {user: entry["nodes"].get(self._node) for user, entry in held.value["people"].items()}
        )
        people = self._chats.get(key, {})
        true = {user: person.doing(now) for user, person in people.items()}
        for user, doing in true.items():
            if doing == "gone":
                del people[user]
        if not people:
            self._chats.pop(key, None)
        news = {user: doing for user, doing in true.items() if known.get(user) != doing and doing != "gone"}
        return news | {user: "gone" for user, said in known.items() if said and true.get(user, "gone") == "gone"}

    async def take_back(self, keys: Iterable[str]) -> None:
        """For the end: what this node has said about these chats, if the journal is there."""
        for key in keys:
            try:
                await self._store.dispatch(node_lost(key, node=self._node))
            except StatestreamError as error:
                log.warning("who was in a chat could not be taken back: %s", error)
                return
