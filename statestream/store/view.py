"""The gate between a request and the state: the store as one principal may see it.

Routes, broadcast and chat hold a view, never the store or its journal. So this is where rules are enforced: which
slices a principal may name and read, as they are now, as they were, and while they change; and which actions they may
dispatch. A selection contains only what may be read, so code that works with selections needs no rules of its own.

Somebody asks for a selection, and `grant` says what they may read of it now. The reading methods take the selection of
a grant: they show its slices as the principal sees them, but ask no rule again.

The value of an instance may be away. The synchronous methods then raise NotLoaded, and `complete` calls them again when
it is in memory.

Invariants: every request reaches the state through a view. `get` returns the committed state itself, for the server's
own code, which must not change its value.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, TypeVar

from msgspec.structs import replace

from statestream.core.allowances import Allowances
from statestream.core.change import Action, Change, Position, Result, SliceState, Snapshot, new_id, now_ms
from statestream.core.errors import Malformed, Refused, Unavailable, UnknownSlice
from statestream.core.names import check_id, split_name
from statestream.core.principal import Identity, Principal
from statestream.core.selection import Selection, bounded, check_count
from statestream.core.slices import Handler, Slice, check_declared
from statestream.core.value_type import ValueType
from statestream.journal.contract import Erasable
from statestream.store import submission
from statestream.store.bus import Listener, Parts
from statestream.store.grant import Grant
from statestream.store.loaded import NotLoaded
from statestream.store.node_state import NodeState
from statestream.store.past_view import PastView, without_notes
from statestream.store.registry import HandlerRegistry
from statestream.store.rights import Rights
from statestream.store.shown import ShownStates, caused, without_payload
from statestream.store.slow_calls import SlowCalls
from statestream.store.transaction import accept
from statestream.store.vitals import Vitals
from statestream.store.writer import Writer

FETCHED: Final = 100
"""Values of a snapshot that are fetched at once, before it is known whether it is too large."""
T = TypeVar("T")


class StoreView:
    """Made by `Store.view`. Costs nothing to make; two views of equal scopes read the same."""

    __slots__ = ("_is_open", "_registry", "_rights", "_shown", "_state", "_writer", "principal", "slow_calls")

    def __init__(
        self,
        principal: Principal,
        registry: HandlerRegistry,
        state: NodeState,
        writer: Writer,
        shown: ShownStates,
        slow_calls: SlowCalls,
        is_open: Callable[[], bool],
    ) -> None:
        self.principal, self.slow_calls = principal, slow_calls
        self._registry, self._state, self._writer, self._is_open = registry, state, writer, is_open
        self._rights, self._shown = Rights(principal, registry), shown

    def on_behalf_of(self, identity: Identity | None) -> StoreView:
        """The same view, whose dispatches have that identity as their actor."""
        return self.seen_by(replace(self.principal, identity=identity))

    def seen_by(self, principal: Principal) -> StoreView:
        """The store as somebody else may see it."""
        return StoreView(
            principal, self._registry, self._state, self._writer, self._shown, self.slow_calls, self._is_open
        )

    def declares(self, declared: Slice) -> bool:
        """Whether this very slice is one of the store's."""
        return self._registry.slices.get(declared.name) is declared

    def guards(self, declared: Slice) -> bool:
        """Whether a rule says who may read a slice."""
        return self._registry.read_rule(declared) is not None

    @property
    def closed(self) -> list[str]:
        """The slices that no rule opens if the server authenticates, although they are neither hidden nor internal."""
        declared = [each for each in self._registry.public.values() if not each.internal]
        return sorted(each.name for each in declared if not each.guarded and not self.guards(each))

    @property
    def position(self) -> Position:
        """How far this node's state has got."""
        return self._state.position

    @property
    def vitals(self) -> Vitals:
        """How this node does. It shows nothing of the state."""
        return self._state.vitals

    # values that are away

    async def complete(self, pure: Callable[[], T]) -> T:
        """The result of a synchronous function that reads this view. It may be called several times.

        Raises what it raises, and Unavailable, JournalUnusable.
        """
        return await self._state.complete(pure)

    async def fetch(self, names: Iterable[str]) -> None:
        """Returns once the values of those that exist are in memory. Raises Unavailable, JournalUnusable."""
        await self._state.fetch(names)

    def hold(self, selection: Selection) -> Callable[[], None]:
        """Keeps what is selected in memory, from when it is fetched until the result is called, once."""
        self._state.slices.hold(selection.names, selection.families)
        return partial(self._state.slices.release, selection.names, selection.families)

    @contextlib.asynccontextmanager
    async def holding(self, selection: Selection) -> AsyncIterator[None]:
        """Keeps what is selected in memory, for synchronous code. Raises Unavailable, JournalUnusable."""
        release = self.hold(selection)
        try:
            await self._state.complete(lambda: self.require(selection))
            yield
        finally:
            release()

    def require(self, selection: Selection) -> None:
        """Raises NotLoaded unless all that is selected is in memory."""
        if away := self._state.slices.missing(self._state.slices.names(selection)):
            raise NotLoaded(away)

    # rights

    def asked(self, text: str | None) -> Selection:
        """What a query's `slices` asks for.

        Raises Malformed, and UnknownSlice for what may not be read either. Rules may need values that are away.
        """
        if text is None and not self._rights.unlimited:
            return Selection(names=frozenset(n for n, each in self._rights.standing().items() if not each.keyed))
        try:
            asked = Selection.parse(text, self._rights.readable(self._state.slices.value))
        except (Malformed, UnknownSlice) as error:
            raise type(error)(f"in `slices`: {error}") from None
        if asked.everything and not self.reads_everything:
            return Selection.all_of(self._rights.standing().values(), self._registry.departed)
        return asked

    def grant(self, asked: Selection) -> Grant:
        """What may be read now of what was asked for. Raises TooLarge, NotLoaded."""
        return self._rights.grant(asked, self._state.slices.instances, self._state.slices.value)

    def evaluations(self, asked: Selection) -> int:
        """About how many names `grant` asks rules."""
        return self._rights.evaluations(asked, self._state.slices.instances)

    def nothing(self, asked: Selection) -> Grant:
        """The grant for as long as it is not known what may be read of what was asked for."""
        return self._rights.nothing(asked)

    def still(self, grant: Grant, changed: Iterable[str]) -> bool:
        """Whether a grant is as it was, after these slices have changed, and no instance was created.

        Raises NotLoaded.
        """
        return self._rights.still(grant, changed, self._state.slices.value)

    @property
    def reads_everything(self) -> bool:
        """Whether every slice may be read, hidden ones too."""
        return self.principal.internal or (self._rights.unlimited and not self._registry.hides)

    # reading

    def get(self, name: str) -> SliceState | None:
        """The committed state of a slice or instance; None if it does not exist. Raises NotLoaded."""
        return self._state.slices.get(name)

    def read(self, name: str) -> SliceState | None:
        """A slice or instance, as it is seen; None if there is no such instance, or it may not be read.

        Raises Malformed, UnknownSlice for a slice that may not be read either, and NotLoaded.
        """
        check_declared(self._rights.readable(self._state.slices.value), *split_name(name), or_all=False)
        return self.states([name]).get(name) if self._rights.reads(name, self._state.slices.value) else None

    def version(self, name: str) -> int:
        """The version of a slice or instance; 0 if it does not exist."""
        return self._state.slices.version(name)

    def states(self, names: Iterable[str]) -> dict[str, SliceState]:
        """Those of these slices that exist, as they are seen. Raises NotLoaded for all at once that are away."""
        slices, names = self._state.slices, tuple(names)
        if away := slices.missing(names):
            raise NotLoaded(away)
        found = ((name, slices.get(name)) for name in names)
        return {name: self._as_seen(name, state) for name, state in found if state is not None}

    def select(self, selection: Selection) -> Iterator[tuple[str, SliceState]]:
        """The selected slices that exist, however many. Raises NotLoaded for the first that is away."""
        slices = self._state.slices
        found = ((name, slices.get(name)) for name in slices.names(selection))
        if not self._registry.viewed:
            return ((name, state) for name, state in found if state is not None)
        return ((name, self._as_seen(name, state)) for name, state in found if state is not None)

    def versions(self, selection: Selection) -> dict[str, int]:
        """The versions of the selected slices that exist, however many, as a new dict."""
        return self._state.slices.versions(selection)

    def snapshot(self, selection: Selection) -> Snapshot:
        """The selected slices now. Raises TooLarge, and NotLoaded for some of those that are away."""
        slices = self._state.slices
        check_count(slices.count(selection))
        names = tuple(slices.names(selection))
        away = slices.missing(names)
        found = bounded(self.states(name for name in names if name not in away).items())
        if away:  # some at a time, as all of them may be too much
            raise NotLoaded(sorted(away)[:FETCHED])
        return Snapshot(position=self._state.position, slices=found)

    def _as_seen(self, name: str, state: SliceState) -> SliceState:
        number = self._rights.view_of(name)
        return state if number is None else self._shown.state(name, number, state)

    @property
    def past(self) -> PastView:
        """The history, and the state as of past positions."""
        return PastView(self._rights, self._shown, self._state)

    def measured(self, name: str) -> int | None:
        """At most how many bytes of JSON a value in memory is; None if it is away, or seen through a view."""
        state = None if self._rights.view_of(name) is not None else self._state.slices.peek(name)
        return None if state is None else state.at_most

    def in_memory(self, after: Position) -> bool:
        """Whether `recent` reaches back to a position."""
        return self._state.bus.reaches(after)

    def recent(self, after: Position, selection: Selection) -> list[Change] | None:
        """The selected changes after a position, up to now; None if they are not in memory any more.

        Those of a slice that is seen through a view become one. Raises Forked, NotLoaded.
        """
        changes = self._state.bus.after(after)
        if changes is None:
            return None
        selected = selection.among(changes)
        if selection.everything:
            selected = without_notes(selected)
        return selected if self._rights.unlimited else self._seen_now(selected)

    def _seen_now(self, changes: Sequence[Change]) -> list[Change]:
        by_view: dict[str, list[Change]] = {}
        shown: list[Change] = []
        for change in changes:
            if self._rights.view_of(change.slice) is None:
                shown.append(self.caused(change))
            else:
                by_view.setdefault(change.slice, []).append(change)
        states = self.states(by_view)
        for name, several in by_view.items():
            state = states.get(name)
            last = replace(without_payload(several[-1]), from_version=several[0].from_version)
            if state is not None:
                last = replace(last, kind="value", data=state.encoded())
            shown.append(last)
        return sorted(shown, key=lambda change: change.version) if by_view else shown

    def caused(self, change: Change) -> Change:
        """The change, without the payload of its action if that is of a slice with other rights."""
        return caused(self._rights, change)

    def seen(self, number: int, change: Change) -> Change:
        """What a view shows of a change that was just announced. Raises NotLoaded."""
        return self._shown.change(number, change, self._state.slices.get(change.slice))

    def parts(self, changes: Sequence[Change]) -> Iterator[Sequence[Change]]:
        """The changes in parts, each of which has at most one change of a slice that is seen through views.

        What a view shows of a change can be told while the state is what the change has led to.
        """
        begin, changed = 0, set[str]()
        for number, change in enumerate(changes if self._registry.viewed else ()):
            if change.slice in changed:
                yield changes[begin:number]
                begin, changed = number, set()
            declared = self._registry.slices.get(change.slice.partition("/")[0])
            if declared is not None and declared.views:
                changed.add(change.slice)
        yield changes[begin:]

    def subscribe(self, listener: Listener, parts: Parts | None = None) -> Callable[[], None]:
        """Tells a listener of every commit from now on, see `Bus.subscribe`. Call the result to stop that."""
        return self._state.bus.subscribe(listener, parts)

    async def caught_up(self) -> Position:
        """Returns once this node has read what the journal held at the time of the call, and how far that is.

        For callers that are about to say that something does not exist: another node may have written it. Raises
        Unavailable.
        """
        self._check_open()
        return await self._writer.caught_up()

    # dispatching

    async def dispatch(
        self,
        action: Action | Sequence[Action],
        *,
        id: str | None = None,
        expect: Mapping[str, int] | None = None,
        parsed: bool = False,
        creator: str | None = None,
    ) -> Result:
        """Applies actions as this principal; see `Store.dispatch`. Raises Forbidden for an internal action.

        `parsed`: the payloads come from `values.loads`, and the caller keeps none of them, so they need not be copied.
        `creator`: for the server's own code, the identity for which instances count. Raises RateLimited.
        """
        actions = [action] if isinstance(action, Action) else submission.actions_of(action)
        await self.complete(partial(self._check_dispatch, actions, expect or {}))
        request = accept(
            actions,
            id=check_id(id) if id is not None else new_id(),
            idempotent=id is not None,
            actor=self.principal.subject,
            at=now_ms(),
            expect=expect or {},
            parsed=parsed,
            rights=None if self._rights.unlimited else self._rights,
            creator=creator if self.principal.internal else self.principal.subject,
        )
        del action, actions  # a request of many may wait for a while, and has copies
        self._check_open()
        result = await self._writer.submit(request)
        return result if self.reads_everything else await self.complete(lambda: self._visible(result))

    async def erase(self, names: Iterable[str]) -> Position:
        """Erases instances as this principal; see `Store.erase`. Returns how far this node is then.

        Raises Forbidden, and UnknownSlice for what may not be read.
        """
        erased = frozenset(names)
        await self.complete(lambda: submission.check_erase(erased, self._rights, self._state.slices.value))
        self._check_open()
        journal = self._state.journal
        if not isinstance(journal, Erasable):
            raise Refused("not_erasable", "The journal of this server cannot erase anything.")
        if erased:
            await journal.erase(erased, self.principal.subject)
        return await self.caught_up()

    def limit_creations(self, allowances: Allowances | None) -> None:
        """From now on, each identity may create only so many instances."""
        self._writer.creations = allowances

    def actions(self) -> list[Handler]:
        """The handlers that declare the actions that this principal may know: those of slices that it may know, too.

        Raises NotLoaded.
        """
        return self._registry.actions(self._rights.tellable(self._state.slices.value))

    def described(self) -> list[tuple[Slice, ValueType | None]]:
        """The slices that this principal may know, each with the type of what it sees of them, if that is known.

        Raises NotLoaded.
        """
        known = self._rights.readable(self._state.slices.value)
        return [(each, each.seen(self._rights.view_of(name))) for name, each in known.items()]

    def _visible(self, result: Result) -> Result:
        """The result without the slices that this principal may not read."""
        public = (name for name, _ in result.changes if name.partition("/")[0] in self._registry.public)
        visible = self._rights.among(public, self._state.slices.value)
        return replace(result, changes=tuple(pair for pair in result.changes if pair[0] in visible))

    def _check_dispatch(self, actions: Sequence[Action], expect: Mapping[str, int]) -> None:
        submission.check(
            actions,
            expect,
            registry=self._registry,
            rights=self._rights,
            internal=self.principal.internal,
            value_of=self._state.slices.value,
        )

    def _check_open(self) -> None:
        if not self._is_open():
            raise Unavailable("the store is not open; use `async with store:` or serve it")
