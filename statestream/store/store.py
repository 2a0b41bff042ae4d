"""The store: the slices of an application, their journal, and the views through which everybody reaches them.

Invariants: a facade. It opens and closes the node's parts and owns their tasks; what happens to a request is decided in
`writer`, what a principal may do in `view`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Final, Never, Self, TypeVar, overload

import orjson

from statestream.core.change import Action, Change, Position, Result, SliceState
from statestream.core.errors import NotInMemory, UnknownSlice
from statestream.core.functions import check_plain
from statestream.core.principal import SERVER, Identity, Principal
from statestream.core.slices import Slice, full_name_of
from statestream.journal import from_url
from statestream.journal.contract import Journal
from statestream.store import tracing
from statestream.store.bus import Bus, EachChange
from statestream.store.loaded import NotLoaded
from statestream.store.node_state import NodeState
from statestream.store.preview import Preview, preview
from statestream.store.registry import HandlerRegistry
from statestream.store.revocations import key_of, revocation_slice
from statestream.store.schemas import NOTES
from statestream.store.shown import ShownStates
from statestream.store.slow_calls import SLOW_SECONDS, SlowCalls
from statestream.store.tickets import ticket_slice
from statestream.store.view import StoreView
from statestream.store.writer import Writer

V = TypeVar("V")
OWN_SLICES: Final = {each.name: each for each in (revocation_slice, ticket_slice, NOTES)}
"""Those of a server that authenticates, and of stores with versions. Their names are reserved in every store, so that a
journal of one that does not need them can be served by one that does.
"""
RESERVED: Final = frozenset({*OWN_SLICES, "statestream"})
"""The names that no slice of an application may have. The last one is that of causes without an action."""
IDLE_SECONDS: Final = 60.0


class Store:
    """Keeps slices, applies actions, and records every change in a journal.

    `journal` is a URL (`memory:`, `sqlite:///board.db`) or a Journal. `slow` is the number of seconds after which a
    handler, a listener or another call of your own code is logged by name. `removed` are the names of slices that are
    not declared any more, and that are to be removed from the state. `idle` is the number of seconds after which an
    instance of a keyed slice that nobody reads or writes leaves the memory; it comes back from the journal. None keeps
    everything in memory. Use the store as `async with store:`, or pass it to `create_app`, which opens and closes it.
    """

    def __init__(
        self,
        slices: Iterable[Slice],
        *more: Never,
        journal: str | Journal = "memory:",
        slow: float = SLOW_SECONDS,
        removed: Collection[str] = (),
        idle: float | None = IDLE_SECONDS,
    ) -> None:
        if more:
            raise TypeError("expected the slices as one list: write Store([board, room]), not Store(board, room)")
        self._registry = HandlerRegistry(slices, removed)
        _check_reserved(self._registry.slices.values())
        self._slow_calls = SlowCalls(slow)
        if idle is not None and not idle > 0:
            raise ValueError("expected `idle` to be a number of seconds, or None to keep everything in memory")
        self._shown = ShownStates(self._registry, self._slow_calls)
        bus = Bus(self._slow_calls)
        self._state = NodeState(self._registry, _journal(journal), bus, self._shown.erased, idle)
        self._writer = Writer(self._registry, self._state, self._slow_calls)
        self._tasks: list[asyncio.Task[None]] = []
        self._view = self.view(SERVER)

    def use_journal(self, journal: str | Journal) -> None:
        """Replaces the journal of a store that is not open. Raises RuntimeError if it is."""
        self._check_closed()
        self._state.use(_journal(journal))

    def declare(self, *slices: Slice) -> None:
        """Adds slices to a store that is not open, unless it has them. Raises RuntimeError if it is, ValueError."""
        self._check_closed()
        self._registry.add(each for each in slices if not self._view.declares(each))

    def guard(self, declared: Slice, *, read: Callable[..., bool]) -> None:
        """Sets who may read a slice in this store, in place of the slice's own rule.

        For slices that several stores share, some of which know people. Raises RuntimeError if the store is open.
        """
        self._check_closed()
        self._registry.guard(declared, read)

    async def revoke(self, subject: str) -> None:
        """Revokes the credentials of a subject that were issued so far, for every process that shares the journal.

        Streams and sockets that are open with them end within a second. Credentials with the claim `iat` (Unix seconds)
        are valid again if they were issued later; others are not until `reinstate`. Requires `create_app(auth=…)`.
        """
        await self.dispatch(Action(type="revocation/revoked", key=key_of(subject)))

    async def reinstate(self, subject: str) -> None:
        """Makes the credentials of a subject valid again, old ones included."""
        await self.dispatch(Action(type="revocation/reinstated", key=key_of(subject)))

    @property
    def journal(self) -> Journal:
        """The journal that the store uses."""
        return self._state.journal

    async def preview(self) -> Preview:
        """What would happen if this store opened its journal now. It writes nothing.

        Raises JournalUnusable if it could not be opened, Unavailable, and RuntimeError if the store is open.
        """
        self._check_closed()
        return await preview(self._registry, self._state.journal)

    @property
    def position(self) -> Position:
        """How far this node's state has got."""
        return self._state.position

    async def __aenter__(self) -> Self:
        """Opens the journal, loads the state and appends missing initial values. Raises JournalUnusable."""
        self._check_closed()
        tracing.configure()
        await self._state.journal.open()
        try:
            await self._state.load()
            await self._state.begin()
        except BaseException:
            await self._state.journal.close()
            raise
        work = (self._writer.run(), self._writer.follow(), *self._state.tasks())
        self._tasks = [asyncio.create_task(task) for task in work]
        self._state.vitals.tasks.extend(self._tasks)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Answers the requests in progress, makes a checkpoint and closes the journal."""
        tasks, self._tasks = self._tasks, []
        self._state.vitals.tasks.clear()
        try:
            await self._writer.drain()
            await self._state.upkeep.finish(certain=not self._state.stale)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._state.journal.close()

    def _check_closed(self) -> None:
        if self._tasks:
            raise RuntimeError("the store is open already")

    def view(self, principal: Principal) -> StoreView:
        """The store as a principal may see it. Everything that serves requests uses a view, never the store itself."""
        return StoreView(
            principal,
            self._registry,
            self._state,
            self._writer,
            self._shown,
            self._slow_calls,
            lambda: bool(self._tasks),
        )

    async def dispatch(
        self,
        action: Action | Sequence[Action],
        *,
        id: str | None = None,
        actor: str | None = None,
        expect: Mapping[str, int] | None = None,
    ) -> Result:
        """Applies an action, or several as one. Returns when that is durable and announced.

        `id` makes it idempotent for `actor`: a repeat within 24 hours returns the first result. `expect`
        ({slice: version}) makes it conditional. Raises Malformed, UnknownAction, UnknownSlice, InvalidPayload, Refused,
        VersionConflict, ActionIdReused, HandlerFailed, and Unavailable: then the outcome is unknown, and it is safe to
        try again with the same id.
        """
        view = self._view if actor is None else self.view(Principal(identity=Identity(subject=actor), internal=True))
        return await view.dispatch(action, id=id, expect=expect)

    async def erase(self, *names: str) -> Position:
        """Erases instances such as `room/42`, with everything that they ever held, and returns when that is durable.

        From then on, nobody can read any of it, now or as of a position in the past, and this node holds none of it.
        Readers see the instances removed. Other nodes follow as they follow any change. Positions stay, with all other
        slices. An id that was used stays used. An instance with the same name can be created afterwards. Erasing what
        does not exist does nothing. Raises Malformed for a plain slice, Refused if the journal cannot erase, and
        Unavailable: then it is safe to try again.
        """
        return await self._view.erase(names)

    async def caught_up(self) -> Position:
        """Returns once this node has read what the journal held at the time of the call, and how far that is.

        For programs that are about to say that something does not exist: another node may have written it. Raises
        Unavailable.
        """
        return await self._view.caught_up()

    @overload
    async def read(self, name: Slice[V]) -> V: ...
    @overload
    async def read(self, name: Slice[V], key: str) -> V | None: ...
    @overload
    async def read(self, name: str) -> Any: ...
    async def read(self, name: str | Slice[Any], key: str | None = None) -> Any:
        """A copy of the committed value of a slice or instance; None if it does not exist.

        Name it in full (`"room/42"`), or pass the slice, and the key of an instance: `read(room, "42")`. Then type
        checkers know the value, and it is an object if the slice has such a type. The copy is yours: changing it
        changes nothing else. An instance that is not in memory comes from the journal. Raises Unavailable,
        UnknownSlice, InvalidValue.
        """
        full_name = self._full_name(name, key)
        return _copy(name, await self._view.complete(lambda: self._state.slices.get(full_name)))

    @overload
    def get(self, name: Slice[V]) -> V: ...
    @overload
    def get(self, name: Slice[V], key: str) -> V | None: ...
    @overload
    def get(self, name: str) -> Any: ...
    def get(self, name: str | Slice[Any], key: str | None = None) -> Any:
        """The same at once, for code that cannot await.

        Raises NotInMemory for an instance that has left the memory because nobody used it. A plain slice never does,
        and with `idle=None` nothing does.
        """
        full_name = self._full_name(name, key)
        try:
            return _copy(name, self._state.slices.get(full_name))
        except NotLoaded:
            raise NotInMemory(
                f"{full_name} is not in memory; use `await store.read(…)`, or Store(…, idle=None)"
            ) from None

    def _full_name(self, name: str | Slice[Any], key: str | None) -> str:
        """Raises TypeError, UnknownSlice, Malformed."""
        if not isinstance(name, str) and not self._view.declares(name):
            raise UnknownSlice(f"expected a slice of this store, got another one with the name {name.name}")
        return full_name_of(name, key)

    def on_change(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Calls `listener` with every change, in order, once it is committed. Call the result to unsubscribe.

        Raises TypeError for a listener that is not a plain function.
        """
        check_plain(listener, "the listener", "which may start a task or fill a queue")
        return self._state.bus.subscribe(EachChange(listener))


def _copy(name: str | Slice[Any], state: SliceState | None) -> Any:
    """Raises UnknownSlice, InvalidValue."""
    if isinstance(name, str):
        return None if state is None else orjson.loads(state.encoded())
    if state is None and not name.keyed:
        raise UnknownSlice(f"{name.name} has no value: the store is not open, or another program has removed the slice")
    return None if state is None else name.load(state.encoded())


def _check_reserved(slices: Iterable[Slice]) -> None:
    """Raises ValueError for a slice of an application that has a name of the server's own."""
    for each in slices:
        if each.name in RESERVED and each is not OWN_SLICES.get(each.name):
            raise ValueError(f"the name {each.name!r} is reserved for the server itself; give your slice another one")


def _journal(journal: Any) -> Journal:
    if isinstance(journal, str):
        return from_url(journal)
    if all(hasattr(journal, member) for member in ("append", "read", "retention")):
        found: Journal = journal
        return found
    hint = f"; a file is written sqlite:///{journal}" if isinstance(journal, PurePath) else ""
    raise TypeError(
        f"expected a journal or the URL of one, such as sqlite:///board.db, got {type(journal).__name__}{hint}"
    )
