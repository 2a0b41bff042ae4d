"""The gate between a request and the state: the store as one principal may see it.

Routes, broadcast and chat hold a view, never the store or its journal. So this is where rules are enforced: which
slices a principal may name and read, as they are now, as they were, and while they change; and which actions they may
dispatch. A selection contains only what may be read, so code that works with selections needs no rules of its own.

Somebody asks for a selection, and `grant` says what they may read of it now. The reading methods take the selection of
a grant: they show its slices as the principal sees them, but ask no rule again.

Invariants: every request reaches the state through a view. `get` returns the committed state itself, for the server's
own code, which must not change its value.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from statestream.core.allowances import Allowances
from statestream.core.change import PAGE, Action, Change, Page, Position, Result, SliceState, Snapshot, new_id, now_ms
from statestream.core.errors import Malformed, Unavailable, UnknownSlice
from statestream.core.names import check_id, check_key, split_name
from statestream.core.principal import Identity, Principal
from statestream.core.selection import Selection, bounded
from statestream.core.slices import ActionCreator, Handler, Slice, check_declared
from statestream.store.bus import Listener, Parts
from statestream.store.node_state import NodeState, instances_of
from statestream.store.past import PastValues
from statestream.store.registry import HandlerRegistry
from statestream.store.rights import Grant, Rights
from statestream.store.shown import ShownStates, without_payload
from statestream.store.slow_calls import SlowCalls
from statestream.store.transaction import accept
from statestream.store.vitals import Vitals
from statestream.store.writer import Writer


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
        principal = replace(self.principal, identity=identity)
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
    def position(self) -> Position:
        """How far this node's state has got."""
        return self._state.position

    @property
    def vitals(self) -> Vitals:
        """How this node does. It shows nothing of the state."""
        return self._state.vitals

    # rights

    def asked(self, text: str | None) -> Selection:
        """What a query's `slices` asks for. Raises Malformed, and UnknownSlice for what may not be read either."""
        if text is None and not self._rights.unlimited:
            return Selection(names=frozenset(n for n, each in self._rights.standing().items() if not each.keyed))
        try:
            asked = Selection.parse(text, self._rights.readable(self._value_of))
        except (Malformed, UnknownSlice) as error:
            raise type(error)(f"in `slices`: {error}") from None
        if asked.everything and not self.reads_everything:
            return Selection.all_of(self._rights.standing().values(), self._registry.departed)
        return asked

    def grant(self, asked: Selection) -> Grant:
        """What may be read now of what was asked for. Raises TooLarge."""
        return self._rights.grant(asked, self._state.instances, self._value_of)

    def still(self, grant: Grant, changed: Iterable[str]) -> bool:
        """Whether a grant is as it was, after these slices have changed, and no instance was created."""
        return self._rights.still(grant, changed, self._value_of)

    def grant_at(
        self, position: Position, asked: Selection, changed: Collection[str], past: PastValues
    ) -> Grant | set[str]:
        """What could be read at a position of what was asked for, given which of these slices have changed since.

        Returns the names of slices instead if their values at the position must be added to `past` first. Raises
        TooLarge.
        """
        then = past.at(position, self._state.slices)
        instances = {
            family: self._state.instances.get(family, {}).keys() | {n for n in changed if n.startswith(f"{family}/")}
            for family in asked.families
        }
        granted = self._rights.grant(asked, instances, then.get)
        return then.missing or granted

    async def values_at(self, position: Position, names: Collection[str]) -> Mapping[str, Any]:
        """The values of slices and instances as of a position. Raises Forked, Expired, Unavailable."""
        then = await self._state.history.load(position, Selection(names=frozenset(names)))
        return {name: state.value for name, state in then.slices.items()}

    @property
    def reads_everything(self) -> bool:
        """Whether every slice may be read, hidden ones too."""
        return self.principal.internal or (self._rights.unlimited and self._registry.public is self._registry.slices)

    def _value_of(self, name: str) -> Any:
        state = self._state.slices.get(name)
        return None if state is None else state.value

    # reading

    def get(self, name: str) -> SliceState | None:
        """The committed state of a slice or instance; None if it does not exist."""
        return self._state.slices.get(name)

    def select(self, selection: Selection) -> Iterator[tuple[str, SliceState]]:
        """The selected slices that exist, however many."""
        found = selection.of(self._state.slices, self._state.instances)
        if not self._registry.viewed:
            return found
        return ((name, self._as_seen(name, state)) for name, state in found)

    def versions(self, selection: Selection) -> dict[str, int]:
        """The versions of the selected slices that exist, however many, as a new dict."""
        return selection.versions(self._state.slices, self._state.instances)

    def snapshot(self, selection: Selection) -> Snapshot:
        """The selected slices now. Raises TooLarge."""
        return Snapshot(position=self._state.position, slices=bounded(self.select(selection)))

    async def snapshot_at(self, position: Position, asked: Selection) -> Snapshot:
        """What may be read now of what was asked for, as it was at a position.

        Raises Forked, Expired, Unavailable, TooLarge.
        """
        then = await self._state.history.load(position, asked)
        found = asked.of(then.slices, instances_of(then.slices))
        readable = ((name, state) for name, state in found if self._rights.reads(name, self._value_of))
        return Snapshot(
            position=then.position,
            slices=bounded((name, self._as_seen(name, state, past=True)) for name, state in readable),
        )

    def _as_seen(self, name: str, state: SliceState, *, past: bool = False) -> SliceState:
        number = self._rights.view_of(name)
        if number is None:
            return state
        return self._shown.past(name, number, state) if past else self._shown.state(name, number, state)

    async def earliest(self) -> Position:
        """The oldest position that can be read from. Raises Unavailable."""
        return await self._state.journal.earliest()

    def in_memory(self, after: Position) -> bool:
        """Whether `recent` reaches back to a position."""
        return self._state.bus.reaches(after)

    def recent(self, after: Position, selection: Selection) -> list[Change] | None:
        """The selected changes after a position, up to now; None if they are not in memory any more. Raises Forked.

        Those of a slice that is seen through a view become one.
        """
        changes = self._state.bus.after(after)
        if changes is None:
            return None
        selected = selection.among(changes)
        return selected if self._rights.unlimited else self._seen_now(selected)

    def _seen_now(self, changes: Sequence[Change]) -> list[Change]:
        by_view: dict[str, list[Change]] = {}
        shown: list[Change] = []
        for change in changes:
            if self._rights.view_of(change.slice) is None:
                shown.append(self.caused(change))
            else:
                by_view.setdefault(change.slice, []).append(change)
        for name, several in by_view.items():
            state = self._state.slices.get(name)
            last = replace(without_payload(several[-1]), from_version=several[0].from_version)
            if state is not None:
                last = replace(last, kind="value", data=self._as_seen(name, state).encoded())
            shown.append(last)
        return sorted(shown, key=lambda change: change.version) if by_view else shown

    def caused(self, change: Change) -> Change:
        """The change, without the payload of its action if that is of a slice with other rights."""
        if self._rights.unlimited or change.cause.type.partition("/")[0] == change.slice.partition("/")[0]:
            return change
        return without_payload(change)

    def seen(self, number: int, change: Change) -> Change:
        """What a view shows of a change that was just announced."""
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
            if self._registry.slices[change.slice.partition("/")[0]].views:
                changed.add(change.slice)
        yield changes[begin:]

    async def changes(self, after: Position, selection: Selection, limit: int = PAGE) -> Page:
        """The selected ones of the next `limit` changes after a position, from the journal.

        They may be ahead of this node's `position`, if another node has written them. Raises Forked, Expired,
        Unavailable.
        """
        page = await self._state.journal.read(after, limit, selection)
        return page if self._rights.unlimited else await self._seen_then(after, page)

    async def history(self, after: Position, asked: Selection, limit: int = PAGE) -> Page:
        """The same, of what may be read now of what was asked for."""
        page = await self.changes(after, asked, limit)
        if self._rights.unlimited:
            return page
        readable = {n for n in {change.slice for change in page.changes} if self._rights.reads(n, self._value_of)}
        return Page(changes=[change for change in page.changes if change.slice in readable], until=page.until)

    async def _seen_then(self, after: Position, page: Page) -> Page:
        """The page as this principal sees it. Raises Forked, Expired, Unavailable."""
        names = {change.slice for change in page.changes}
        viewed = {name: number for name in names if (number := self._rights.view_of(name)) is not None}
        before = await self.values_at(after, viewed.keys()) if viewed else {}
        changes = [self.caused(change) for change in page.changes]
        return Page(changes=self._shown.history(viewed, before, changes), until=page.until)

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
        actions = [action] if isinstance(action, Action) else _actions(action)
        readable = self._rights.readable(self._value_of)
        for each in actions:
            self._check_may_dispatch(each, readable)
        for name, version in (expect or {}).items():
            self._check_expected(name, version, readable)
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
        self._check_open()
        return self._visible(await self._writer.submit(request))

    def limit_creations(self, allowances: Allowances | None) -> None:
        """From now on, each identity may create only so many instances."""
        self._writer.creations = allowances

    def actions(self) -> list[Handler]:
        """The handlers that declare the actions that this principal may know: those of slices that it may know, too."""
        return self._registry.actions(self._rights.tellable(self._value_of))

    def _visible(self, result: Result) -> Result:
        """The result without the slices that this principal may not read."""
        if self.reads_everything:
            return result
        changes = tuple(pair for pair in result.changes if self._may_see(pair[0]))
        return replace(result, changes=changes)

    def _may_see(self, name: str) -> bool:
        declared = self._registry.public.get(name.partition("/")[0])
        return declared is not None and self._rights.reads(name, self._value_of)

    def _check_expected(self, name: str, version: int, readable: Mapping[str, Slice]) -> None:
        try:
            check_declared(readable, *split_name(name), or_all=False)
        except (Malformed, UnknownSlice) as error:
            raise type(error)(f"in `expect`: {error}") from None
        if type(version) is not int or version < 0:
            raise Malformed(f"in `expect`: expected a whole number of at least 0 as the version of {name}")

    def _check_may_dispatch(self, action: Action, readable: Mapping[str, Slice]) -> None:
        """Says no at once, where this can be known now; rules are asked again when the action takes effect."""
        name = action.type.partition("/")[0]
        if action.key is not None:
            check_key(action.key)
        declared = self._registry.slices.get(name)
        known = name in readable and (self.principal.internal or not readable[name].internal)
        if known:
            self._registry.handlers(action, readable)  # about the form first: that tells nothing new
        self._rights.check_dispatch(action.type, action.key, self._value_of)
        if not known:
            self._registry.handlers(action, self._rights.tellable(self._value_of) if declared is None else readable)

    def _check_open(self) -> None:
        if not self._is_open():
            raise Unavailable("the store is not open; use `async with store:` or serve it")


def _actions(given: Any) -> Sequence[Action]:
    """The actions of a dispatch of several. Raises TypeError for anything else; the message shows the correct form."""
    if isinstance(given, Sequence) and not isinstance(given, str) and all(isinstance(each, Action) for each in given):
        return given
    if isinstance(given, ActionCreator):
        raise TypeError(f"expected an action, got what makes it: call it, as in {given.__name__}(…)")
    raise TypeError(
        "expected an action such as task_added(id=…) or Action(type=…, payload=…), or a list of them, "
        f"got {type(given).__name__}"
    )
