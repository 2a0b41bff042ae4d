"""Presence: a person is in a chat while a stream of theirs is open, on any node.

    presence/<chat>  {"people": {user: {"since", "typing", "nodes": {node: "here" | "typing"}}}}

Each node reports changes among its own streams only. Of each chat, all nodes together report at most once a second,
however many streams open and close; the first change is reported at once. A person who returns soon has never been
away, and several streams of one person count once. When a node is lost, what it has reported is removed, see Recovery.

Invariants: presence depends on open streams and on leases, never on messages that somebody has to send in time. Each
entry of `nodes` is written by that node, and removed for it only when it is lost. An instance without people is
removed. Only people who belong to a chat are present in it. A chat that does not exist has no presence, so nobody can
write to the journal by following invented names. The handlers of the slice are pure.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import math
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, Literal

import orjson

from statestream.chat.slices import conversation
from statestream.core.change import REMOVED, Action, Change
from statestream.core.errors import StatestreamError, VersionConflict
from statestream.core.slices import Slice
from statestream.store.bus import ResetReason
from statestream.store.view import StoreView

log = logging.getLogger("statestream")


NAME: Final = "presence"
PACE_SECONDS: Final = 1.0
SPREAD_SECONDS: Final = 0.25
"""Up to so much longer a node waits after another one has reported, so that they do not all report at once."""
OWN_SECONDS: Final = 1.5
"""How long a node waits after it has reported itself: longer, because the others learn of it a moment later."""
LINGER_SECONDS: Final = 1.5
TYPING_SECONDS: Final = 6.0
CHECK_SECONDS: Final = 0.05
"""Checks of a chat that are due within this time of each other are joined: each covers everybody who is present."""

Activity = Literal["here", "typing", "gone"]
_MEMBERSHIP: Final = frozenset((conversation.invited.type, conversation.removed.type))

presence_slice = Slice(NAME, initial={"people": {}}, keyed=True, internal=True)


@presence_slice.action
def seen(state: Any, action: Action, *, node: str, people: dict[str, Activity]) -> Any:
    """The people whose streams a node holds have changed: what they do now."""
    for user, activity in people.items():
        entry = state["people"].get(user)
        if activity != "gone":
            if entry is None:
                typing = activity == "typing"
                state["people"][user] = {"since": action.at, "typing": typing, "nodes": {node: activity}}
            else:
                entry["nodes"][node] = activity
                entry["typing"] = "typing" in entry["nodes"].values()
        elif entry is not None:
            _remove(state, user, node)
    return REMOVED if not state["people"] else None


@presence_slice.action
def node_lost(state: Any, *, node: str) -> Any:
    """A node is lost, and with it the streams that it held."""
    for user in list(state["people"]):
        _remove(state, user, node)
    return REMOVED if not state["people"] else None


@presence_slice.on(conversation.deleted)
def _deleted(state: Any) -> Any:
    return REMOVED


def _remove(state: Any, user: str, node: str) -> None:
    entry = state["people"][user]
    if entry["nodes"].pop(node, None) is not None and not entry["nodes"]:
        del state["people"][user]
    else:
        entry["typing"] = "typing" in entry["nodes"].values()


class Person:
    """One person in one chat, as this node sees them. Times are the event loop's."""

    __slots__ = ("here_until", "streams", "typing_until")

    def __init__(self) -> None:
        self.streams = 0
        self.here_until = 0.0
        self.typing_until = 0.0

    def activity(self, now: float) -> Activity:
        if not self.streams and self.here_until <= now:
            return "gone"
        return "typing" if self.typing_until > now else "here"


class Presence:
    """The people whose streams this node holds.

    `take_lease` returns once the node has a lease, `belongs` says whether a person belongs to the chat with that key.
    """

    def __init__(
        self,
        view: StoreView,
        node: str,
        take_lease: Callable[[], Awaitable[None]],
        belongs: Callable[[str, str], bool],
    ) -> None:
        self._view, self._node, self._take_lease, self._belongs = view, node, take_lease, belongs
        self._chats: dict[str, dict[str, Person]] = {}
        self._quiet_until: dict[str, float] = {}
        self._due: list[tuple[int, str]] = []
        """A heap of the times at which to check a chat, in units of CHECK_SECONDS, with its key."""
        self._checks: set[tuple[int, str]] = set()
        self._phase = random.uniform(0.0, CHECK_SECONDS)  # noqa: S311  # so that nodes do not check at the same moment
        self._wanted = asyncio.Event()

    @property
    def in_use(self) -> bool:
        return bool(self._chats)

    def enter(self, key: str, user: str) -> Callable[[], None]:
        """A stream of that person has opened in that chat. Call the result once, when it has closed."""
        person = self._chats.setdefault(key, {}).setdefault(user, Person())
        person.streams += 1
        self._check_after(key, 0.0)

        def leave() -> None:
            person.streams -= 1
            person.here_until = asyncio.get_running_loop().time() + LINGER_SECONDS
            self._check_after(key, LINGER_SECONDS)

        return leave

    def typing(self, key: str, user: str, *, on: bool) -> bool:
        """The person types, for TYPING_SECONDS unless repeated. Returns False if no stream of theirs is open here."""
        person = self._chats.get(key, {}).get(user)
        if person is None:
            return False
        now = asyncio.get_running_loop().time()
        if on and person.typing_until > now + TYPING_SECONDS / 2:
            return True  # repeated too soon to matter
        person.typing_until = now + (TYPING_SECONDS if on else 0.0)
        self._check_after(key, 0.0)
        if on:
            self._check_after(key, TYPING_SECONDS)
        return True

    # a listener of the bus

    def changed(self, changes: Sequence[Change]) -> None:
        """A node that was taken for lost reports again; one that hears another node's report is quiet for a while."""
        for change in changes:
            family, _, key = change.slice.partition("/")
            if family == conversation.NAME and key in self._chats and _concerns_people(change):
                self._check_after(key, 0.0)
            if change.cause.type == seen.type:  # even if nobody is here yet: somebody may come in that time
                if orjson.loads(change.cause.payload)["node"] != self._node:
                    self._quiet(key, PACE_SECONDS + random.uniform(0.0, SPREAD_SECONDS))  # noqa: S311  # no secret
            elif change.cause.type == node_lost.type and key in self._chats:
                self._check_after(key, 0.0)

    def reset(self, reason: ResetReason) -> None:
        """The state has been replaced, and may not be what this node has reported."""
        for key in self._chats:
            self._check_after(key, 0.0)

    # reporting

    def _check_after(self, key: str, seconds: float) -> None:
        due = math.ceil((asyncio.get_running_loop().time() + seconds - self._phase) / CHECK_SECONDS), key
        if due not in self._checks:
            self._checks.add(due)
            heapq.heappush(self._due, due)
            self._wanted.set()

    def _quiet(self, key: str, seconds: float) -> None:
        self._quiet_until[key] = asyncio.get_running_loop().time() + seconds
        self._check_after(key, seconds)

    async def run(self) -> None:
        """Reports changes until cancelled."""
        while True:
            await asyncio.sleep(0)  # thousands of chats may be due at once
            key = await self._next_due()
            try:
                await self._report(key, asyncio.get_running_loop().time())
            except StatestreamError as error:
                message = "the presence in a chat could not be reported, trying again soon: %s"
                self._view.vitals.troubles.warn(message, error)
                self._check_after(key, PACE_SECONDS)
            except Exception:
                log.exception("the presence in a chat could not be reported, trying again soon")
                self._check_after(key, PACE_SECONDS)

    async def _next_due(self) -> str:
        """The next chat to check, when it is time."""
        loop = asyncio.get_running_loop()
        while True:
            self._wanted.clear()
            wait = self._due[0][0] * CHECK_SECONDS + self._phase - loop.time() if self._due else None
            if wait is not None and wait <= 0:
                self._checks.discard(self._due[0])
                return heapq.heappop(self._due)[1]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wanted.wait()

    async def _report(self, key: str, now: float) -> None:
        """Reports what has changed in a chat, unless it is to be quiet: then it is checked again after that."""
        if self._quiet_until.get(key, 0.0) > now:
            return
        self._quiet_until.pop(key, None)
        news = await self._view.complete(lambda: self._news(key, now))
        if not news:
            return
        name = f"{NAME}/{key}"
        state = self._view.get(name)
        version = 0 if state is None else state.version
        await self._take_lease()
        self._quiet(key, OWN_SECONDS)
        with contextlib.suppress(VersionConflict):  # another node reported first; this one reports later
            await self._view.dispatch(seen(key, node=self._node, people=news), expect={name: version})

    def _news(self, key: str, now: float) -> dict[str, Activity]:
        """Where the state is wrong about the people of this node. Forgets people who are gone. Raises NotLoaded."""
        people = self._chats.get(key, {})
        actual = {user: person.activity(now) for user, person in people.items()}
        for user, activity in actual.items():
            if activity == "gone":
                del people[user]
        if not people:
            self._chats.pop(key, None)
        reported = self._reported(key)
        actual = {user: what for user, what in actual.items() if self._belongs(key, user)}
        changed = {user: what for user, what in actual.items() if what not in ("gone", reported.get(user))}
        left = [user for user in reported if actual.get(user, "gone") == "gone"]
        gone: dict[str, Activity] = dict.fromkeys(left, "gone")
        return changed | gone

    def _reported(self, key: str) -> dict[str, Activity]:
        """What this node has reported, as far as the state has it."""
        state = self._view.get(f"{NAME}/{key}")
        entries = {} if state is None else state.value["people"]
        return {user: entry["nodes"][self._node] for user, entry in entries.items() if self._node in entry["nodes"]}

    async def withdraw(self, keys: Iterable[str]) -> None:
        """Removes what this node, which stops, has reported of these chats, if the journal is available."""
        for key in keys:
            try:
                await self._view.dispatch(node_lost(key, node=self._node))
            except StatestreamError as error:
                log.warning("the presence in a chat could not be withdrawn: %s", error)
                return


def _concerns_people(change: Change) -> bool:
    """Whether a change of a chat can decide who is present in it: people may be here before they belong to it."""
    return not change.from_version or change.kind == "removed" or change.cause.type in _MEMBERSHIP
