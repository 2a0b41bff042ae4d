"""The gate between a request and the state: the store as one principal may see it.

Routes, broadcast and chat hold a view, never the store or its journal. So this is where rules are enforced: which
slices a principal may name and read, as they are now, as they were, and while they change; and which actions they may
dispatch. A selection contains only what may be read, so code that works with selections needs no rules of its own.

The rules so far: everybody reads every slice that is not hidden, and internal actions are the server's own.

Invariants: every request reaches the state through a view. `get` and `select` return the committed states themselves,
for the server's own code, which must not change their values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from statestream.core.change import PAGE, Action, Change, Page, Position, Result, SliceState, Snapshot, new_id, now_ms
from statestream.core.errors import Forbidden, Malformed, Unavailable, UnknownSlice
from statestream.core.names import check_id, check_key, split_name
from statestream.core.principal import Principal, Scope
from statestream.core.selection import Selection
from statestream.core.slices import ActionCreator, Slice, check_declared
from statestream.store.bus import Listener
from statestream.store.node_state import NodeState, instances_of
from statestream.store.registry import HandlerRegistry
from statestream.store.slow_calls import SlowCalls
from statestream.store.transaction import accept
from statestream.store.writer import Writer


class StoreView:
    """Made by `Store.view`. Costs nothing to make; two views of equal scopes read the same."""

    __slots__ = ("_is_open", "_registry", "_state", "_writer", "principal", "slow_calls")

    def __init__(
        self,
        principal: Principal,
        registry: HandlerRegistry,
        state: NodeState,
        writer: Writer,
        slow_calls: SlowCalls,
        is_open: Callable[[], bool],
    ) -> None:
        self.principal, self.slow_calls = principal, slow_calls
        self._registry, self._state, self._writer, self._is_open = registry, state, writer, is_open

    @property
    def scope(self) -> Scope:
        """What this principal may read, as the value that makes subscribers share bytes."""
        return Scope(hidden=self.principal.internal)

    def declares(self, declared: Slice) -> bool:
        """Whether this very slice is one of the store's."""
        return self._registry.slices.get(declared.name) is declared

    @property
    def position(self) -> Position:
        """How far this node's state has got."""
        return self._state.position

    @property
    def _readable(self) -> Mapping[str, Slice]:
        return self._registry.slices if self.scope.hidden else self._registry.public

    @property
    def _reads_everything(self) -> bool:
        return self._readable is self._registry.slices

    # reading

    def selection(self, text: str | None) -> Selection:
        """The selection of a query's `slices`. Raises Malformed, and UnknownSlice for what may not be read either."""
        try:
            selection = Selection.parse(text, self._readable)
        except (Malformed, UnknownSlice) as error:
            raise type(error)(f"in `slices`: {error}") from None
        if selection.everything and not self._reads_everything:
            return Selection.all_of(self._readable.values())
        return selection

    def get(self, name: str) -> SliceState | None:
        """The committed state of a slice or instance; None if it does not exist."""
        return self._state.slices.get(name)

    def select(self, selection: Selection) -> Iterator[tuple[str, SliceState]]:
        """The selected slices that exist, however many."""
        return selection.of(self._state.slices, self._state.instances)

    def versions(self, selection: Selection) -> dict[str, int]:
        """The versions of the selected slices that exist, however many, as a new dict."""
        return selection.versions(self._state.slices, self._state.instances)

    def snapshot(self, selection: Selection) -> Snapshot:
        """The selected slices now. Raises TooLarge."""
        return Snapshot(
            position=self._state.position, slices=selection.snapshot(self._state.slices, self._state.instances)
        )

    async def snapshot_at(self, position: Position, selection: Selection) -> Snapshot:
        """The selected slices as of a position. Raises Forked, Expired, Unavailable, TooLarge."""
        then = await self._state.history.load(position, selection)
        return Snapshot(position=then.position, slices=selection.snapshot(then.slices, instances_of(then.slices)))

    async def earliest(self) -> Position:
        """The oldest position that can be read from. Raises Unavailable."""
        return await self._state.journal.earliest()

    def in_memory(self, after: Position) -> bool:
        """Whether `recent` reaches back to a position."""
        return self._state.bus.reaches(after)

    def recent(self, after: Position, selection: Selection) -> list[Change] | None:
        """The selected changes after a position, up to now; None if they are not in memory any more. Raises Forked."""
        changes = self._state.bus.after(after)
        return None if changes is None else selection.among(changes)

    async def changes(self, after: Position, selection: Selection, limit: int = PAGE) -> Page:
        """The selected ones of the next `limit` changes after a position, from the journal.

        They may be ahead of this node's `position`, if another node has written them. Raises Forked, Expired,
        Unavailable.
        """
        return await self._state.journal.read(after, limit, selection)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Tells a listener of every commit from now on. Call the result to stop that."""
        return self._state.bus.subscribe(listener)

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
    ) -> Result:
        """Applies actions as this principal; see `Store.dispatch`. Raises Forbidden for an internal action.

        `parsed`: the payloads come from `values.loads`, and the caller keeps none of them, so they need not be copied.
        """
        actions = [action] if isinstance(action, Action) else _actions(action)
        for each in actions:
            self._check_may_dispatch(each)
        for name, version in (expect or {}).items():
            self._check_expected(name, version)
        request = accept(
            actions,
            id=check_id(id) if id is not None else new_id(),
            idempotent=id is not None,
            actor=self.principal.subject,
            at=now_ms(),
            expect=expect or {},
            parsed=parsed,
        )
        self._check_open()
        return self._visible(await self._writer.submit(request))

    def _visible(self, result: Result) -> Result:
        """The result without the slices that this principal may not read."""
        if self._reads_everything:
            return result
        readable = self._readable
        return replace(result, changes=tuple(pair for pair in result.changes if pair[0].partition("/")[0] in readable))

    def _check_expected(self, name: str, version: int) -> None:
        try:
            check_declared(self._readable, *split_name(name), or_all=False)
        except (Malformed, UnknownSlice) as error:
            raise type(error)(f"in `expect`: {error}") from None
        if type(version) is not int or version < 0:
            raise Malformed(f"in `expect`: expected a whole number of at least 0 as the version of {name}")

    def _check_may_dispatch(self, action: Action) -> None:
        declared = self._registry.slices.get(action.type.partition("/")[0])
        if declared is not None and declared.internal and not self.principal.internal:
            raise Forbidden(f"only the server changes {declared.name}; clients cannot dispatch its actions")
        self._registry.handlers(action, internal=self.principal.internal)
        if action.key is not None:
            check_key(action.key)

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
