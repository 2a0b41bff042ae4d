"""One reply of the chat under test: how far it is, and what makes it go on.

The clients of all protocols share a reply. A client that was cut may wait here until it is time to come back. While the
reply waits for approval, nobody decides until those have come back who wanted to come back then.

Invariants: what is known of the reply comes from `GET /api/chats/{id}`. `turns` changes before and after everything
that may make the reply continue: a stream that began in an earlier turn may have ended because the reply waited.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

from statestream.tools.conformance.chats.chat_server import PATIENCE, ChatServer, in_path
from statestream.tools.conformance.violation import Violation, expect

Back = Literal["at once", "during the reply", "while it waited", "after two others", "after its end"]
"""When a client comes back."""
UNFINISHED: Final = ("streaming", "waiting")
LOOK_SECONDS: Final = 0.05
COMING_SECONDS: Final = 5.0
"""How long nobody decides because somebody still has to come back."""
REPLY_SECONDS: Final = 330.0
RESULT: Final = "The checks ran this tool."
NOT_RUN: Final = "The checks run no tools."


class ReplyUnderTest:
    """The reply to `text` in a chat. `approve`: tool calls that wait are approved, otherwise denied.

    `stop_after`: so many seconds after its beginning the reply is stopped; None: never.
    """

    def __init__(self, server: ChatServer, chat: str, text: str, *, approve: bool, stop_after: float | None) -> None:
        self.server, self.chat, self.text, self.approve = server, chat, text, approve
        self.stops = stop_after is not None
        self.question = f"q-{secrets.token_hex(6)}"
        self.message: dict[str, Any] = {}
        self.turns = self.returns = 0
        self.has_waited = False
        self._stop_after = stop_after
        self._coming = self._acting = 0
        self._changed = asyncio.Condition()

    # what is known

    @property
    def id(self) -> str:
        """The id of the reply; none if it has not begun."""
        return str(self.message.get("id", ""))

    @property
    def acting(self) -> bool:
        """Whether somebody is doing something that may make the reply continue or end."""
        return self._acting > 0

    @property
    def status(self) -> str:
        return str(self.message.get("status", ""))

    @property
    def over(self) -> bool:
        return bool(self.message) and self.status not in UNFINISHED

    async def look(self) -> bool:
        """Reads how far the reply is. Returns whether it is over. Raises Violation."""
        if not self.over:
            chat = await self.server.ask("GET", f"api/chats/{in_path(self.chat)}")
            replies = [message for message in chat["messages"] if message.get("parent") == self.question]
            if replies and not self.over:  # somebody may have looked later, and be back sooner
                await self._note(replies[-1])
        return self.over

    async def _note(self, message: dict[str, Any]) -> None:
        async with self._changed:
            self.message = message
            self.has_waited = self.has_waited or message["status"] == "waiting"
            self._changed.notify_all()

    async def exists(self) -> None:
        """Returns when the reply has begun. Raises Violation."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not (await self.look() or self.message):
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            raise Violation(f"expected a reply within {PATIENCE:.0f} s, got none") from None

    # what clients wait for

    async def back(self, when: Back, pause: float) -> None:
        """Returns when it is time to come back. `pause`: seconds that a client is away during the reply."""
        match when:
            case "during the reply":
                await asyncio.sleep(pause)
            case "while it waited":
                self._coming += 1
                await self._until(lambda: self.status == "waiting" or self.over)
            case "after two others":
                since = self.returns
                await self._until(lambda: self.returns >= since + 2 or self.over)
            case "after its end":
                await self._until(lambda: self.over)
            case "at once":
                pass

    async def is_back(self, when: Back) -> None:
        """Somebody has come back, and has received something, or knows that there is nothing."""
        async with self._changed:
            self.returns += 1
            self._coming -= when == "while it waited"
            self._changed.notify_all()

    async def goes_on(self, turn: int) -> None:
        """Returns when the reply may have something for a client whose last stream began in that turn."""
        await self._until(lambda: self.over or (self.turns > turn and not self.acting))

    async def _until(self, so: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(so)

    # what makes it go on

    async def conduct(self) -> None:
        """Decides about what waits, and stops the reply if it is to be stopped, until it is over. Raises Violation."""
        clock = asyncio.get_running_loop().time
        began = clock()
        while not await self.look():
            expect(clock() - began < REPLY_SECONDS, f"expected a reply to end within {REPLY_SECONDS:.0f} s")
            if self._stop_after is not None and clock() - began >= self._stop_after:
                self._stop_after = None
                async with self.turn():
                    await self._post("stop", {})
            elif self.status == "waiting" and self._stop_after is None:
                await self._everybody_back()
                async with self.turn():
                    await self._decide()
            await asyncio.sleep(LOOK_SECONDS)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """The context of whatever may make the reply continue."""
        self.turns, self._acting = self.turns + 1, self._acting + 1
        try:
            yield
            await self.look()
        finally:
            async with self._changed:
                self.turns, self._acting = self.turns + 1, self._acting - 1
                self._changed.notify_all()

    async def _everybody_back(self) -> None:
        try:
            async with asyncio.timeout(COMING_SECONDS):
                await self._until(lambda: self._coming == 0)
        except TimeoutError:
            pass  # they are cut later than now

    async def _decide(self) -> None:
        waiting = [part for part in self.message["parts"] if part.get("status") == "waiting"]
        asked = [part["approval"]["id"] for part in waiting if "approved" not in part.get("approval", {"approved": 1})]
        if asked:
            await self._post("approvals", {"decisions": [{"id": id, "approved": self.approve} for id in asked]})
        offers = [part["offer"]["id"] for part in waiting if "offer" in part]
        outcome = {"result": RESULT} if self.approve else {"error": NOT_RUN}
        if offers:
            await self._post("results", {"results": [{"id": id, **outcome} for id in offers]})

    async def _post(self, route: str, body: Any) -> None:
        await self.server.ask("POST", f"api/chats/{in_path(self.chat)}/{route}", body)
