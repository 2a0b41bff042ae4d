"""A client that follows a reply to its end, and is cut on the way.

Invariants: a cut counts when it has happened. What a client held at a cut is kept, because it must be the beginning of
what it holds in the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from statestream.tools.conformance.chats.client import Client, understanding
from statestream.tools.conformance.chats.comparison import Texts, first_difference, not_a_beginning
from statestream.tools.conformance.chats.connections import Connection, Lost
from statestream.tools.conformance.chats.cuts import Cut
from statestream.tools.conformance.chats.reply_under_test import ReplyUnderTest
from statestream.tools.conformance.violation import Violation

SHOWN_CUTS: Final = 3


class Following:
    """One client on one reply. `cuts` are those that have happened, `frames` counts the frames of all connections.

    `another` makes another client, which has nothing yet.
    """

    def __init__(self, another: Callable[[], Client], reply: ReplyUnderTest, plan: Sequence[Cut] = ()) -> None:
        self.client, self._another, self._reply, self._plan = another(), another, reply, deque(plan)
        self.cuts: list[Cut] = []
        self.frames = 0
        self.problem: str | None = None
        self._held: list[Texts] = []

    async def follow(self) -> None:
        """Follows the reply to its end. A violation becomes the `problem`."""
        try:
            with understanding():
                await self._follow()
        except Violation as violation:
            self.problem = str(violation)

    async def _follow(self) -> None:
        cut: Cut | None = None
        while True:
            turn, acting, was_over = self._reply.turns, self._reply.acting, self._reply.over
            connection = await self.client.connect()
            if cut is not None:
                await self._reply.is_back(cut.back)
            cut = None if connection is None else await self._read(connection)
            if cut is not None:
                await self._reply.back(cut.back, cut.pause)
                continue
            is_over = await self._reply.look()
            # what was loaded may be older
            current = was_over if connection is None else turn == self._reply.turns and not acting
            if is_over and (self.client.follows or current):
                return
            if connection is not None and not self.client.follows:
                await self._compare(turn)
            await self._reply.goes_on(turn)

    async def _compare(self, turn: int) -> None:
        """What a stream has led to that ended because the reply waits must be what is loaded meanwhile."""
        if self._reply.status != "waiting" or self._reply.turns != turn:
            return
        loaded = self._another()
        await loaded.load()
        found = first_difference(loaded.reader.held(), self.client.reader.held())
        if found is not None and self._reply.turns == turn:
            raise Violation(f"while the reply waits, {found}")

    async def _read(self, connection: Connection) -> Cut | None:
        """Reads up to the next cut, which is returned, or to the end."""
        cut, number = self._plan[0] if self._plan else None, 0
        try:
            while cut is None or number < cut.after:
                frame = await connection.next()
                if frame is None:
                    self.client.end()
                    return None
                self.client.take(frame)
                self.frames, number = self.frames + 1, number + 1
                if self.client.ended:
                    return None
            rest = await connection.middle() if cut.middle else b""
        except Lost as lost:
            await self.client.lost(str(lost))
            return None
        finally:
            await connection.close()
        self.client.cut(rest)
        self.cuts.append(self._plan.popleft())
        self._held.append(dict(self.client.reader.texts()))
        return cut

    def verdict(self, loaded: Client) -> str | None:
        """What is wrong, compared with a client that was loaded after the end. None if nothing is."""
        found = self.problem or first_difference(loaded.reader.held(), self.client.reader.held())
        if found is None:
            problems = (not_a_beginning(held, loaded.reader.texts()) for held in self._held)
            found = next((problem for problem in problems if problem is not None), None)
        if found is None:
            return None
        shown = [str(cut) for cut in self.cuts[-SHOWN_CUTS:]]
        before = ["…"] if len(self.cuts) > SHOWN_CUTS else []
        return f"{'; '.join([*before, *shown]) or 'never cut'}: {found}"
