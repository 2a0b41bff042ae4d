"""Conversations in process, in every order: nodes that come and go, a journal that fails, a clock that is ours.

The event loop's clock moves when nothing else can, so minutes of leases, timeouts and presence cost nothing and are
exact. What is asserted is read from the state, by other walks than the product's.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from statestream import Change, Refused, Store, Unavailable
from statestream.chat import Chat, Conversations, Question
from statestream.chat.messages import text_of
from statestream.chat.models import CONTINUE, Finish, ModelFailed, Piece, ToolSpec, Turn
from statestream.chat.nodes.in_progress import InProgress, Recovery
from statestream.chat.protocols.ai_sdk.messages import ui_messages
from statestream.chat.protocols.ai_sdk.projection import UIMessageProjection
from statestream.chat.protocols.text.routes import TextProjection
from statestream.chat.slices import archive as archives
from statestream.chat.slices.conversation import chat_slice, created
from statestream.chat.viewing.response import event_stream
from statestream.core.change import Position
from statestream.core.errors import NotFound
from statestream.core.principal import SERVER
from statestream.core.selection import EVERYTHING
from statestream.core.values import encode
from statestream.journal import MemoryJournal
from statestream.store.unloading import Unloading
from tests.dialogues import look_at
from tests.support.census import entries, reply_tasks, tasks_of
from tests.support.clock import Clock, timeless
from tests.support.meddled import Meddled
from tests.support.now import now
from tests.support.often import often

T = TypeVar("T")

LEASE = 10.0
PAGE = 5


class Heard:
    """A journal as one node has it: one that is deaf learns what others wrote only when it asks."""

    def __init__(self, journal: MemoryJournal) -> None:
        self._journal, self._hears = journal, asyncio.Event()
        self._hears.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    def deaf(self, on: bool) -> None:
        self._hears.clear() if on else self._hears.set()

    async def wait(self, after: Position) -> None:
        await self._journal.wait(after)
        await self._hears.wait()


class Told:
    """A model that says what it is told to, and counts how often each question was put to it."""

    name = "told"

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.open: list[asyncio.Queue[Piece | ModelFailed]] = []

    async def answer(self, turns: Sequence[Turn], tools: Sequence[ToolSpec], settings: Any) -> AsyncIterator[Piece]:
        if turns[0].role == "system":
            yield "A title"
            yield Finish(reason="stop")
            return
        self.calls[turns[-1].text.rpartition("\n\n")[2]] += 1  # questions whose replies said nothing may stand before
        orders: asyncio.Queue[Piece | ModelFailed] = asyncio.Queue()
        self.open.append(orders)
        try:
            while True:
                order = await orders.get()
                if isinstance(order, ModelFailed):
                    raise order
                yield order
                if isinstance(order, Finish):
                    return
        finally:
            self.open.remove(orders)

    def tell(self, *orders: Piece | ModelFailed) -> None:
        for order in orders:
            self.open[-1].put_nowait(order)

    async def close(self) -> None:
        """Nothing is open."""


class Node:
    """A process of the cluster."""

    def __init__(self, journal: MemoryJournal, model: Told, keep: int) -> None:
        battery = Chat(model=model, keep=keep, lease=LEASE)
        self.journal = Heard(journal)
        self.store = Store(battery.slices, journal=self.journal)
        self.chats = battery.conversations(self.store)
        self.tasks: set[asyncio.Task[Any]] = set()
        self.entries_at_start = 0

    async def start(self) -> None:
        before = asyncio.all_tasks()
        await self.store.__aenter__()
        self.tasks = {task for task in asyncio.all_tasks() - before if not task.get_name().startswith("chat ")}
        await self.chats.__aenter__()
        self.entries_at_start = entries(self.chats)

    async def stop(self) -> None:
        await self.chats.__aexit__()
        await self.store.__aexit__()

    async def kill(self) -> None:
        """Nothing is flushed, nothing is said."""
        tasks = [*self.tasks, *tasks_of(self.chats)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def settled() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


def everything(store: Store, key: str) -> list[Any]:
    """All messages in the order of creation, also those that have left, once each."""
    pages = (now(store, f"chat_archive/{key}:{page}") for page in itertools.count())
    past: dict[int, Any] = {}
    for page in itertools.takewhile(lambda page: page is not None, pages):
        assert not past.keys() & set(page["numbers"]), "a message has left twice"
        past |= dict(zip(page["numbers"], page["messages"], strict=True))
    left = {message["id"]: message for message in past.values()}
    rest: list[Any] = []
    for message in (now(store, f"chat/{key}") or {"messages": []})["messages"]:
        assert left.get(message["id"], message) == message, "a message has changed after it had left"
        rest += [] if message["id"] in left else [message]
    return [past[number] if number in past else rest.pop(0) for number in range(len(past) + len(rest))]


def check_sane(store: Store, key: str) -> None:
    state = now(store, f"chat/{key}")
    if state is None:
        return
    assert chat_slice.type is not None
    chat_slice.type.check(encode(state))
    live, messages = state["messages"], everything(store, key)
    ids = [message["id"] for message in messages]
    assert len(ids) == len(set(ids)), "a message stands twice"
    for at, message in enumerate(messages):
        assert "parent" not in message or message["parent"] in ids[:at], "a child before its parent"
    if live:
        assert state["leaf"] in {message["id"] for message in live}, "what is shown is not there"
        assert ui_messages(state)[-1]["id"] == state["leaf"]
    growing = [message for message in messages if message["status"] == "streaming"]
    assert growing == [message for message in live[-1:] if message["status"] == "streaming"]
    assert all(message["id"] == state["leaf"] for message in growing)


def newest_below(messages: Sequence[Any], live: Sequence[Any], top: str) -> str:
    """The newest live message at or below that one, by walking up from each."""
    parents = {message["id"]: message.get("parent") for message in messages}

    def ancestors(at: str | None) -> Iterator[str]:
        while at is not None and at in parents:
            yield at
            at = parents[at]

    return next(str(message["id"]) for message in reversed(live) if top in ancestors(message["id"]))


QUESTIONS = st.integers(0, 9)
KEY = "c"


class Conversing(RuleBasedStateMachine):
    """One chat, two nodes on one journal, and everything that people, models, journals and processes do."""

    keep = 3

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=Clock)
        self.journal, self.model = Meddled(), Told()
        self.again: Counter[str] = Counter()
        self.troubled = False
        self.nodes: list[Node] = []
        self.run(self.begin())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        async def and_settle() -> T:
            result = await work
            await settled()
            return result

        return self.runner.run(and_settle())

    async def begin(self) -> None:
        self.journal.gate = asyncio.Event()
        self.journal.gate.set()
        for _ in range(2):
            self.nodes.append(Node(self.journal, self.model, self.keep))
            await self.nodes[-1].start()
        self.entries_when_idle = self.nodes[0].entries_at_start

    async def trying(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What people do may be refused; it never hangs and never breaks."""
        try:
            async with asyncio.timeout(30):
                return await work
        except (Refused, NotFound, Unavailable) as error:
            return error

    def a_message(self, number: int) -> str:
        messages = everything(self.nodes[0].store, KEY)
        return str(messages[number % len(messages)]["id"]) if messages else "nobody's"

    node = st.integers(0, 1)

    @rule(node=node, question=QUESTIONS)
    def ask(self, node: int, question: int) -> None:
        self.run(self.trying(self.asking(node, question)))

    async def asking(self, node: int, question: int, edits: str | None = None) -> None:
        id = f"q{question}"
        asked = Question(parts=[{"type": "text", "text": id}], id=id, author="ana", edits=edits)
        reply = await self.nodes[node].chats.ask(KEY, asked, create=True)
        found = {message["id"]: message for message in everything(self.nodes[node].store, KEY)}[reply]
        assert (found["role"], found["parent"]) == ("assistant", id)

    @rule(question=QUESTIONS)
    def ask_everywhere(self, question: int) -> None:
        async def at_once() -> None:
            await asyncio.gather(*(self.trying(self.asking(node, question)) for node in (0, 1, 0, 1)))

        self.run(at_once())

    @rule(node=node, question=QUESTIONS, number=st.integers(0, 40))
    def edit(self, node: int, question: int, number: int) -> None:
        self.run(self.trying(self.asking(node, question, self.a_message(number))))

    @rule(node=node, question=QUESTIONS)
    def regenerate(self, node: int, question: int) -> None:
        self.again[f"q{question}"] += 1
        self.run(self.trying(self.nodes[node].chats.regenerate(KEY, f"q{question}")))

    @rule(node=node, number=st.integers(0, 40))
    def carry_on(self, node: int, number: int) -> None:
        self.again[CONTINUE] += 1
        cut_off = self.a_message(number)
        reply = self.run(self.trying(self.nodes[node].chats.continue_reply(KEY, cut_off)))
        if isinstance(reply, str):
            messages = {message["id"]: message for message in everything(self.nodes[node].store, KEY)}
            assert messages[reply]["continues"] == cut_off
            assert text_of(messages[reply]).startswith(text_of(messages[cut_off]))

    @rule(node=node, number=st.integers(0, 40))
    def branch(self, node: int, number: int) -> None:
        chosen, chats = self.a_message(number), self.nodes[node].chats
        if self.run(self.trying(chats.branch(KEY, chosen))) is None:
            state = self.run(chats.find(KEY))
            messages = everything(self.nodes[node].store, KEY)
            assert state["leaf"] == newest_below(messages, state["messages"], chosen)

    @rule(node=node)
    def stop(self, node: int) -> None:
        self.run(self.trying(self.nodes[node].chats.stop(KEY)))

    @rule(what=st.sampled_from(["say", "finish", "finish", "fail"]))
    @precondition(lambda self: self.model.open)
    def answer(self, what: str) -> None:
        orders: dict[str, list[Piece | ModelFailed]] = {
            "say": ["word "],
            "finish": ["end.", Finish(reason="stop")],
            "fail": [ModelFailed("failed", "It failed.")],
        }
        self.model.tell(*orders[what])
        self.run(asyncio.sleep(0.05))

    @rule(question=QUESTIONS, times=st.integers(1, 5))
    def converse(self, question: int, times: int) -> None:
        """Whole exchanges, so that messages leave the chat."""
        for more in range(times):
            self.ask(0, question + more)
            if self.model.open:
                self.answer("finish")

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.0, 25.0]))
    def wait(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @rule(how=st.lists(st.sampled_from(["before", "after"]), min_size=1, max_size=3))
    def trouble(self, how: list[str]) -> None:
        self.troubled = True
        self.journal.fail += how

    @rule(node=node, on=st.booleans())
    def deaf(self, node: int, on: bool) -> None:
        self.nodes[node].journal.deaf(on)

    @rule(node=node)
    def unload(self, node: int) -> None:
        """Nothing stays in memory but what must."""
        self.run(Unloading(self.nodes[node].store._state.slices, lambda _: False).unload(-1))

    @rule(node=node)
    def kill(self, node: int) -> None:
        self.troubled = True

        async def anew() -> None:
            await self.nodes[node].kill()
            self.nodes[node] = Node(self.journal, self.model, self.keep)
            self.journal.fail.clear()
            await self.nodes[node].start()

        self.run(anew())

    @invariant()
    def sane(self) -> None:
        for node in self.nodes:
            check_sane(node.store, KEY)
        for question, calls in self.model.calls.items():
            assert calls <= (question != CONTINUE) + self.again[question], (
                f"{question} was put to the model {calls} times"
            )
        if not self.troubled:
            kinds = {m.get("error", {}).get("kind") for m in everything(self.nodes[0].store, KEY)}
            assert "interrupted" not in kinds, "a node that lives was taken for dead"

    def teardown(self) -> None:
        try:
            self.run(self.end())
        finally:
            self.runner.close()

    async def end(self) -> None:
        """All is well again and nobody does anything more: then nothing goes on, and all views of it agree."""
        self.journal.fail.clear()
        for node in self.nodes:
            node.journal.deaf(False)
        await asyncio.sleep(200)
        await settled()
        one, two = (node.store for node in self.nodes)
        assert slices_of(one) == slices_of(two)
        assert not [name for name in slices_of(one) if name.startswith(("chat_nodes/", "presence/"))]
        assert not self.model.open
        for node in self.nodes:
            assert entries(node.chats) == self.entries_when_idle
            assert not reply_tasks(node.chats)
        messages = everything(one, KEY)
        assert all(message["status"] != "streaming" for message in messages)
        for message in messages:
            look = look_at({"messages": [message]})
            TextProjection(message["id"]).new(look)
            if message["role"] == "assistant":
                view = UIMessageProjection(message["id"])
                assert event_stream(view.new(look))
                assert view.over
        if messages:
            check_listed(one)
            await check_pages(self.nodes[0].chats, messages)
        for node in self.nodes:
            await node.stop()


def slices_of(store: Store) -> dict[str, Any]:
    return {name: now(store, name) for name in store.view(SERVER).versions(EVERYTHING)}


def check_listed(store: Store) -> None:
    state, listed = now(store, f"chat/{KEY}"), now(store, "chats/ana")["chats"]
    assert list(listed) == [KEY]
    assert listed[KEY]["status"] == "idle"
    assert listed[KEY].get("title") == state.get("title")


async def check_pages(chats: Conversations, messages: Sequence[Any]) -> None:
    """Every message once, in order, however the pages fall."""
    for limit in (1, 3, 100):
        found = [messages[-1]]
        while page := await chats.older(KEY, before=found[0]["id"], limit=limit):
            assert len(page) <= limit
            assert len(found) < len(messages), "a page came twice"
            found = page + found
        assert found == list(messages)


@pytest.fixture(autouse=True)
def _small_pages_and_our_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "PAGE", PAGE)
    monkeypatch.setattr("statestream.store.view.now_ms", lambda: round(asyncio.get_running_loop().time() * 1000))


TestConversing = Conversing.TestCase
TestConversing.settings = settings(max_examples=often(24), stateful_step_count=30, deadline=None)


# people


@contextlib.asynccontextmanager
async def cluster(*, count: int = 1, keep: int = 500) -> AsyncIterator[tuple[Meddled, Told, list[Node]]]:
    """Nodes on one journal, stopped at the end if they live."""
    journal, model = Meddled(), Told()
    nodes = [Node(journal, model, keep) for _ in range(count)]
    for node in nodes:
        await node.start()
        await asyncio.sleep(0.7)  # so that they do not look at the leases in one moment
    yield journal, model, nodes
    journal.fail.clear()
    for node in nodes:
        await node.stop()


async def create(node: Node, keys: Iterable[str]) -> None:
    """Creates chats: people are present only in chats that exist."""
    await node.store.dispatch([created(key) for key in keys])


def present(node: Node, key: str) -> set[str]:
    return set((now(node.store, f"presence/{key}") or {"people": {}})["people"])


COMINGS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(0, 3), st.sampled_from([0.0, 0.0, 0.3, 1.0, 2.0, 7.0])),
    max_size=40,
)


@settings(max_examples=often(30))
@given(comings=COMINGS, trouble=st.lists(st.sampled_from(["", "before", "after"]), max_size=10))
def test_presence_agrees_with_the_open_streams_after_any_coming_and_going(comings: Any, trouble: list[str]) -> None:
    timeless(come_and_go(comings, trouble))


async def come_and_go(comings: Sequence[tuple[int, int, int, float]], trouble: list[str]) -> None:
    """(node, chat, person, seconds): a person opens a tab, or closes one that is open there, or types."""
    async with cluster(count=2) as (journal, _, nodes):
        await create(nodes[0], [f"c{chat}" for chat in range(3)])
        journal.fail = list(trouble)
        said: dict[str, list[float]] = defaultdict(list)
        nodes[0].store.on_change(lambda change: note(change, said))
        tabs: dict[tuple[int, int, int], Callable[[], None]] = {}
        for node, chat, person, seconds in comings:
            tab, presence = (node, chat, person), nodes[node].chats.presence
            if tab in tabs and seconds:
                tabs.pop(tab)()
            elif tab in tabs:
                presence.typing(f"c{chat}", f"p{person}", on=True)
            else:
                tabs[tab] = presence.enter(f"c{chat}", f"p{person}")
            await asyncio.sleep(seconds)
        await asyncio.sleep(20)
        for chat in range(3):
            there = {f"p{person}" for _, its, person in tabs if its == chat}
            assert [present(one, f"c{chat}") for one in nodes] == [there, there]
        for times in said.values():  # as the first node learns it: of the other one up to a poll later
            assert all(later - earlier >= 0.88 for earlier, later in pairwise(times)), times
        for leave in tabs.values():
            leave()
        journal.fail.clear()
        await asyncio.sleep(30)
        check_nothing_is_left(nodes)


def note(change: Change, said: dict[str, list[float]]) -> None:
    """When a node, whichever, has said something about a chat."""
    if change.cause.type == "presence/seen":
        said[change.slice].append(asyncio.get_running_loop().time())


def check_nothing_is_left(nodes: Sequence[Node]) -> None:
    for node in nodes:
        assert entries(node.chats) == node.entries_at_start
        assert not [name for name in slices_of(node.store) if name.startswith(("presence/", "chat_nodes/"))]


@pytest.mark.parametrize("count", [2, 4])
def test_a_node_that_is_never_quiet_lets_the_others_speak(count: int) -> None:
    async def busy() -> None:
        async with cluster(count=count) as (_, _, nodes):
            await create(nodes[0], ["c"])
            first, *others = (node.chats.presence for node in nodes)
            for number in range(5):
                first.enter("c", f"busy{number}")

            async def restless() -> None:
                for turn in itertools.count():
                    first.typing("c", f"busy{turn % 5}", on=turn % 10 < 5)
                    await asyncio.sleep(0.2)

            restless_task = asyncio.create_task(restless())
            await asyncio.sleep(2.3)
            leaves = [other.enter("c", f"quiet{at}") for at, other in enumerate(others)]
            quiet = {f"quiet{at}" for at in range(len(others))}
            await asyncio.sleep(2 * count + 1)
            assert quiet <= present(nodes[0], "c")
            for leave in leaves:
                leave()
            await asyncio.sleep(2 * count + 3)
            assert not quiet & present(nodes[0], "c")
            restless_task.cancel()

    timeless(busy())


def test_thousands_that_come_and_go_leave_nothing_in_memory() -> None:
    async def crowd() -> None:
        async with cluster(count=2) as (_, _, nodes):
            for wave in range(3):
                await create(nodes[0], [f"c{wave}-{number}" for number in range(700)])
                leaving = [
                    nodes[number % 2].chats.presence.enter(f"c{wave}-{number}", f"p{number % 7}")
                    for number in range(700)
                ]
                with nodes[0].chats.notifier.on([f"chat/{number}" for number in range(50)]):
                    await asyncio.sleep(3)
                assert len([name for name in slices_of(nodes[0].store) if name.startswith("presence/")]) == 700
                assert entries(nodes[0].chats) > nodes[0].entries_at_start + 700
                for leave in leaving:
                    leave()
                await asyncio.sleep(20)
                check_nothing_is_left(nodes)

    timeless(crowd())


def test_people_are_there_again_when_their_node_was_taken_for_dead_and_lives() -> None:
    async def woken() -> None:
        async with cluster(count=2) as (_, model, (one, two)):
            leave = one.chats.presence.enter("c", "ana")
            await one.chats.ask("c", Question.text("?"), create=True)
            await asyncio.sleep(1)
            in_progress = InProgress(two.chats.view, lambda _: None)
            in_progress.load()
            # as if the first node had slept for longer than its lease
            await Recovery(two.chats.view, in_progress).recover(one.chats.node)
            await asyncio.sleep(1.5)
            assert present(one, "c") == present(two, "c") == {"ana"}
            assert now(one.store, "chat/c")["messages"][-1]["error"]["kind"] == "interrupted"
            assert not model.open
            leave()

    timeless(woken())


# nodes


@pytest.mark.parametrize("away", [11.0, 14.0, 17.0, 20.0, 23.0, 26.0, 29.0])
def test_a_journal_that_was_away_makes_nobody_dead(away: float) -> None:
    """The node that looks has nothing to do itself."""

    async def back() -> None:
        async with cluster(count=2) as (journal, model, (looks, makes)):
            await makes.chats.ask("c", Question.text("?"), create=True)
            await asyncio.sleep(1)
            journal.fail = ["before"] * 1_000
            model.tell("So far. ")
            await asyncio.sleep(away)
            journal.fail.clear()
            await asyncio.sleep(15)
            model.tell("Done.", Finish(reason="stop"))
            await asyncio.sleep(1)
            reply = now(looks.store, "chat/c")["messages"][1]
            assert (reply["status"], text_of(reply)) == ("complete", "So far. Done.")

    timeless(back())


def test_a_node_that_was_behind_takes_nobody_for_dead() -> None:
    async def behind() -> None:
        async with cluster(count=2) as (_, model, (one, two)):
            await one.chats.ask("c", Question.text("?"), create=True)
            await asyncio.sleep(1)
            two.journal.deaf(True)
            await asyncio.sleep(40)
            two.journal.deaf(False)
            model.tell("Done.", Finish(reason="stop"))
            await asyncio.sleep(1)
            assert now(two.store, "chat/c")["messages"][1]["status"] == "complete"

    timeless(behind())


def test_a_lease_whose_end_could_not_be_written_is_ended_later() -> None:
    async def late() -> None:
        async with cluster() as (journal, model, (one,)):
            await one.chats.ask("c", Question.text("?"), create=True)
            model.tell("Done.", Finish(reason="stop"))
            await asyncio.sleep(0.1)
            journal.fail = ["before"]
            await asyncio.sleep(20)
            assert not [name for name in slices_of(one.store) if name.startswith("chat_nodes/")]

    timeless(late())


def test_a_server_that_stops_ends_a_reply_that_was_being_saved() -> None:
    async def stopping() -> None:
        async with cluster() as (journal, model, (one,)):
            one.chats.presence.enter("another", "ana")
            await asyncio.sleep(1)  # the node has its lease: the question is the next that it writes
            journal.gate.clear()
            asking = asyncio.create_task(one.chats.ask("c", Question.text("?"), create=True))
            await settled()
            closing = asyncio.create_task(one.chats.stop_all())
            await settled()
            journal.gate.set()
            await closing
            assert not reply_tasks(one.chats)
            assert now(one.store, "chat/c")["messages"][-1]["id"] == await asking
            assert now(one.store, "chat/c")["messages"][-1]["error"]["kind"] == "interrupted"
            assert not model.calls

    timeless(stopping())


# branches and the past


async def exchange(chats: Conversations, model: Told, asked: Question, *, again: bool = False) -> str:
    reply = await (chats.regenerate("c", str(asked.id)) if again else chats.ask("c", asked, create=True))
    await settled()
    model.tell(f"To {asked.id}.", Finish(reason="stop"))
    await asyncio.sleep(0.1)
    return reply


def question(id: str, **more: Any) -> Question:
    return Question(parts=[{"type": "text", "text": id}], id=id, **more)


def test_a_branch_that_is_chosen_is_shown_down_to_its_newest_end() -> None:
    async def choosing() -> None:
        async with cluster() as (_, model, (one,)):
            await exchange(one.chats, model, question("a"))
            newer = await exchange(one.chats, model, question("a"), again=True)
            await exchange(one.chats, model, question("b", edits="a"))
            await one.chats.branch("c", "a")
            assert now(one.store, "chat/c")["leaf"] == newer
            await exchange(one.chats, model, question("c", edits="a"))
            assert await one.chats.ask("c", question("a")) == newer
            assert now(one.store, "chat/c")["leaf"] == newer

    timeless(choosing())


def test_the_id_of_a_reply_asked_in_python_changes_nothing() -> None:
    async def taken() -> None:
        async with cluster() as (_, model, (one,)):
            first = await exchange(one.chats, model, question("a"))
            await exchange(one.chats, model, question("b", edits="a"))
            before = now(one.store, "chat/c")
            with pytest.raises(Refused, match="use a new one"):
                await one.chats.ask("c", question(first))
            assert now(one.store, "chat/c") == before

    timeless(taken())


def test_a_question_that_has_left_before_its_reply_is_not_asked_again() -> None:
    async def left() -> None:
        async with cluster(keep=3) as (_, model, (one,)):
            for id in ("a", "b", "c"):
                await exchange(one.chats, model, question(id))
            late = await exchange(one.chats, model, question("a"), again=True)
            await exchange(one.chats, model, question("d", edits="a"))
            assert "a" not in [message["id"] for message in now(one.store, "chat/c")["messages"]]
            assert late in [message["id"] for message in now(one.store, "chat/c")["messages"]]
            with pytest.raises(Refused, match="long ago"):
                await one.chats.ask("c", question("a"))
            with pytest.raises(Refused, match="no longer in this chat"):
                await one.chats.ask("c", question("e", edits="a"))
            assert model.calls["a"] == 2

    timeless(left())


def test_a_question_that_another_node_has_answered_and_archived_is_not_asked_again() -> None:
    async def elsewhere() -> None:
        async with cluster(count=2, keep=3) as (_, model, (one, two)):
            two.journal.deaf(True)
            for id in ("a", "b", "c", "d"):
                await exchange(one.chats, model, question(id))
            assert now(two.store, "chat/c") is None
            with pytest.raises(Refused, match="long ago"):
                await two.chats.ask("c", question("a"), create=True)
            assert model.calls["a"] == 1
            two.journal.deaf(False)

    timeless(elsewhere())


def test_what_is_shown_does_not_leave_the_chat() -> None:
    async def old_branch() -> None:
        async with cluster(keep=3) as (_, model, (one,)):
            for id in ("a", "b", "d"):
                await exchange(one.chats, model, question(id, edits="a" if id != "a" else None))
            await one.chats.ask("c", question("e"))
            await settled()
            model.tell("To e.", Finish(reason="stop"))
            choosing = one.store.on_change(lambda change: done.append(change.cause.type))
            done: list[str] = []
            while "chat/ended" not in done:
                await asyncio.sleep(0)
            await one.chats.branch("c", "a")
            choosing()
            await asyncio.sleep(1)
            check_sane(one.store, "c")

    timeless(old_branch())
