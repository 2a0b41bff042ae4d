"""All protocols of a chat, checked at once: clients follow the same replies, are cut, and come back.

The first reply is a rehearsal: nobody is cut, and its length says where others may be cut. A quarter of the other
replies are stopped on the way.

Invariants: the server's limits for one identity are respected. A server that offers no chat, or none that this program
may use, is an error. A protocol that it does not offer is none.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from statestream.core.errors import Malformed, StreamRefused
from statestream.tools.conformance.chats.chat_server import ChatServer
from statestream.tools.conformance.chats.client import Client, understanding
from statestream.tools.conformance.chats.cuts import CutChooser
from statestream.tools.conformance.chats.following import Following
from statestream.tools.conformance.chats.protocols import PROTOCOLS, ChatProtocol
from statestream.tools.conformance.chats.reply_under_test import ReplyUnderTest
from statestream.tools.conformance.checks import Outcome, select
from statestream.tools.conformance.violation import Violation
from statestream.tools.target import Target

QUESTION: Final = "Please tell me about yourself, in a few paragraphs."
STREAMS: Final = 240
STREAMS_OF_ONE: Final = 90
"""Connections at a time, and those of an identity, which may have a hundred by default."""
FEWEST: Final = 2
SETTLE_SECONDS: Final = 10.0
"""How long clients may take to see the end of a reply that is over."""
STOPPED: Final = 0.25
SPARE: Final = 10
"""Some planned cuts never happen, because the client sees the end before."""
FRUITLESS: Final = 10
"""After so many replies without any cut for a protocol, it is given up."""


class ProtocolRun(Struct, kw_only=True):
    """What is known of a protocol so far."""

    protocol: ChatProtocol
    chooser: CutChooser
    cuts: int = 0
    fruitless: int = 0
    problem: str | None = None

    def needs(self, cuts: int) -> int:
        """How many cuts are still to be made."""
        return 0 if self.problem is not None or self.fruitless >= FRUITLESS else max(0, cuts - self.cuts)


async def check_chat(
    url: str,
    *,
    ask: str = QUESTION,
    cuts: int = 200,
    seed: int | None = None,
    approve: bool = False,
    headers: Mapping[str, str] | None = None,
    only: Collection[str] = (),
    tell: Callable[[int, int], None] = lambda replies, cuts: None,
) -> list[Outcome]:
    """Verifies that nothing is lost or repeated wherever clients of the server's chat lose their connection.

    `url` is the root of the server. The question `ask` is asked in new chats until the clients of each protocol were
    cut off `cuts` times. Each client must end up with what a client has that was never cut off, and what a new page
    loads. `seed` chooses the cuts; None takes a new seed. `approve`: whether waiting tool calls are approved or denied.
    `headers` are sent with every request; a user and a password in `url` become one of them. `only` has the names of
    the protocols to check; by default, all. `tell` is called after each reply with the numbers of replies and cuts.

    Returns an outcome for each protocol. It is `absent` if the server does not offer the protocol. Raises Malformed for
    an argument that cannot be parsed, Unavailable if no server answers, and StreamRefused if it has no chat, or refuses
    the credentials.
    """
    chosen = select(PROTOCOLS, only)
    if cuts < 1 or not ask.strip():
        raise Malformed("expected a question, and at least one cut")
    target = Target.parse(url, None, [])
    target = replace(target, headers={**target.headers, **(headers or {})})
    chance = random.Random(secrets.randbelow(1 << 30) if seed is None else seed)  # noqa: S311 - chooses tests
    async with ChatServer(target) as server:
        offered = await _offered(server)
        runs = [
            ProtocolRun(protocol=protocol, chooser=CutChooser(random.Random(chance.random())))  # noqa: S311
            for protocol in chosen
            if protocol in offered
        ]
        check = _ChatCheck(server, _asker(offered, runs), runs, chance)
        await check.run(ask, approve, cuts, tell)
    by_name = {run.protocol.name: run for run in runs}
    return [_outcome(protocol, by_name.get(protocol.name), check.replies) for protocol in chosen]


async def _offered(server: ChatServer) -> list[ChatProtocol]:
    """The protocols that the server offers. Raises StreamRefused, Unavailable."""
    if not await server.offers("POST", "api/chats", {}):
        message = f"expected a server with a chat at {server.target.url}, but it has no POST /api/chats"
        raise StreamRefused(message, reason="refused", status=404)
    try:
        chat = await new_chat(server)
        return [protocol for protocol in PROTOCOLS if await protocol.offered(server, chat)]
    except Violation as violation:
        raise StreamRefused(str(violation), reason="answer") from None


async def new_chat(server: ChatServer) -> str:
    """The id of a new chat. Raises Violation."""
    return str((await server.ask("POST", "api/chats", {}))["id"])


def _asker(offered: Sequence[ChatProtocol], runs: Sequence[ProtocolRun]) -> ChatProtocol:
    """The protocol in which the question is asked: one that is checked, if possible. Raises StreamRefused."""
    candidates = [*(run.protocol for run in runs), *offered]
    asking = next((protocol for protocol in candidates if protocol.asks), None)
    if asking is None:
        raise StreamRefused("expected a protocol in which questions can be asked, got none", reason="refused")
    return asking


class _ChatCheck:
    """Asks, cuts and compares until there were enough cuts."""

    def __init__(
        self, server: ChatServer, asker: ChatProtocol, runs: Sequence[ProtocolRun], chance: random.Random
    ) -> None:
        self._server, self._asker, self._runs, self._chance = server, asker, runs, chance
        self._seconds = 0.0
        self.replies = 0

    async def run(self, ask: str, approve: bool, cuts: int, tell: Callable[[int, int], None]) -> None:
        while self._runs and (not self.replies or any(run.needs(cuts) for run in self._runs)):
            stops = self._chance.uniform(0, self._seconds) if self._chance.random() < STOPPED else None
            try:
                chat = await new_chat(self._server)
                reply = ReplyUnderTest(
                    self._server, chat, ask, approve=approve, stop_after=stops if self.replies else None
                )
                await self._reply(reply, cuts if self.replies else 0)
            except Violation as violation:
                for run in self._runs:
                    run.problem = run.problem or str(violation)
            self.replies += 1
            tell(self.replies, sum(run.cuts for run in self._runs))

    async def _reply(self, reply: ReplyUnderTest, cuts: int) -> None:
        """One reply, and what its clients make of it. Raises Violation if there is no reply, or none that ends."""
        began = asyncio.get_running_loop().time()
        first = Following(self._another(self._asker, reply, asks=True), reply)
        tasks = [asyncio.create_task(first.follow())]
        try:
            await reply.exists()
            uncut, cut = self._clients(reply, first, cuts)
            others = [one for many in (*uncut.values(), *cut.values()) for one in many if one is not first]
            tasks += [asyncio.create_task(one.follow()) for one in others]
            await reply.conduct()
            _, late = await asyncio.wait(tasks, timeout=SETTLE_SECONDS)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for one, task in zip([first, *others], tasks, strict=True):
            if task in late:
                one.problem = f"expected to see within {SETTLE_SECONDS:.0f} s that the reply is over"
        if not reply.stops:
            self._seconds = asyncio.get_running_loop().time() - began
        for run in self._runs:
            await self._compare(run, reply, uncut[run.protocol.name], cut[run.protocol.name])

    def _clients(
        self, reply: ReplyUnderTest, first: Following, cuts: int
    ) -> tuple[dict[str, list[Following]], dict[str, list[Following]]]:
        """By protocol, the clients that are not cut, and those that are."""
        uncut: dict[str, list[Following]] = {}
        cut: dict[str, list[Following]] = {}
        streams = STREAMS_OF_ONE if self._server.target.headers else STREAMS
        each = streams // len(self._runs) - FEWEST
        for run in self._runs:
            another, needed = self._another(run.protocol, reply), run.needs(cuts) if cuts else 0
            whole = first if run.protocol is self._asker else Following(another, reply)
            uncut[run.protocol.name], cut[run.protocol.name] = [whole], []
            needed = 2 * needed + SPARE if needed else 0
            while needed > 0 and len(cut[run.protocol.name]) < each:
                plan = run.chooser.plan(needed)
                needed -= len(plan)
                cut[run.protocol.name].append(Following(another, reply, plan))
        return uncut, cut

    def _another(self, protocol: ChatProtocol, reply: ReplyUnderTest, *, asks: bool = False) -> Callable[[], Client]:
        """Makes clients of a protocol. If one asks, the others do not."""
        asking = iter([asks])
        return lambda: protocol.client(reply, self._chance, next(asking, False))

    async def _compare(
        self, run: ProtocolRun, reply: ReplyUnderTest, uncut: Sequence[Following], cut: Sequence[Following]
    ) -> None:
        loaded = self._another(run.protocol, reply)()
        try:
            with understanding():
                async with asyncio.timeout(SETTLE_SECONDS):
                    await loaded.load()
                verdicts = (one.verdict(loaded) for one in (*uncut, *cut))
                found = next((verdict for verdict in verdicts if verdict is not None), None)
        except Violation as violation:
            found = f"loaded after the end: {violation}"
        except TimeoutError:
            found = f"loaded after the end: expected the reply, but {SETTLE_SECONDS:.0f} s were not enough"
        if found is not None and run.problem is None:
            run.problem = f"reply {self.replies + 1}, {reply.status}, {found}"
        made = sum(len(one.cuts) for one in cut)
        run.cuts += made
        run.fruitless = 0 if made or not cut else run.fruitless + 1
        run.chooser.frames = max(1, uncut[0].frames)
        run.chooser.waits = run.chooser.waits or reply.has_waited


def _outcome(protocol: ChatProtocol, run: ProtocolRun | None, replies: int) -> Outcome:
    if run is None:
        return Outcome(check=protocol, problem=None, absent=True)
    problem = run.problem
    if problem is None and not run.cuts:
        problem = "expected a reply that is long enough to be cut, but none was; ask for a longer one"
    remark = f", {protocol.remark}" if protocol.remark else ""
    return Outcome(check=protocol, problem=problem, note=f"{run.cuts:,} cuts in {replies:,} replies{remark}")
