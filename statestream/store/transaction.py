"""Transactions: what the requests of a batch would change, before the journal has accepted it.

Invariants: pure and synchronous. A run that needs a value that is away is made again. Nothing here is durable or
visible to anyone. A Transaction is discarded when the journal refuses the batch, and made again. A request takes effect
as a whole or not at all.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from time import monotonic, perf_counter
from typing import Any, Final

from msgspec import Struct

from statestream.core.allowances import Allowances
from statestream.core.change import REMOVED, Action, Cause, Change, IdempotencyKey, PendingChange, SliceState
from statestream.core.draft import Scratch, patched, recorded
from statestream.core.draft.tracker import MAX_WRITES
from statestream.core.erasing import NOTHING
from statestream.core.errors import (
    HandlerFailed,
    InvalidPayload,
    InvalidValue,
    Malformed,
    NotJSON,
    RateLimited,
    Refused,
    StatestreamError,
    TooLarge,
    Unavailable,
    VersionConflict,
)
from statestream.core.slices import Handler, Slice
from statestream.core.values import canonical, encode, plain
from statestream.store.loaded import LoadedSlices, NotLoaded
from statestream.store.registry import HandlerRegistry
from statestream.store.rights import Rights
from statestream.store.schemas import Schemas, note_of
from statestream.store.slow_calls import SlowCalls

log = logging.getLogger("statestream")

_UNTOUCHED = object()
ACTION_BYTES: Final = 500
"""The memory that an action takes beside its payload."""
PENDING = -1
"""The version of a slice that an earlier request of the same batch has changed: not known before the append."""


class Request(Struct, frozen=True, kw_only=True):
    """Actions that take effect together, as accepted from a caller.

    `id` names the request in causes. `idempotent` says that the caller chose the id, so that a repeat of the request is
    a duplicate; a repeat has the same `digest`. `payloads` are those of `actions`, encoded. `size` is approximately the
    memory that the request takes. `rights` are the caller's, if rules can deny them anything. `creator` is the identity
    for which the instances count that the request creates, if their number is limited.
    """

    id: str
    idempotent: bool
    actor: str | None
    at: int
    actions: tuple[Action, ...]
    payloads: tuple[bytes, ...]
    expect: Mapping[str, int]
    digest: bytes
    size: int
    rights: Rights | None = None
    creator: str | None = None

    @property
    def key(self) -> IdempotencyKey:
        return (self.actor or "", self.id)


def accept(
    actions: Sequence[Action],
    *,
    id: str,
    idempotent: bool,
    actor: str | None,
    at: int,
    expect: Mapping[str, int],
    parsed: bool,
    rights: Rights | None = None,
    creator: str | None = None,
) -> Request:
    """Stamps the actions and encodes their payloads. `parsed` payloads are known to be plain and not shared.

    Raises Malformed if there is no action, NotJSON for a bad payload.
    """
    if not actions:
        raise Malformed("expected at least one action, got none")
    stamped, payloads = [], []
    for action in actions:
        payload = action.payload if parsed else plain(action.payload)
        stamped.append(Action(type=action.type, payload=payload, key=action.key, id=id, actor=actor, at=at))
        payloads.append(encode(payload))
    return Request(
        id=id,
        idempotent=idempotent,
        actor=actor,
        at=at,
        actions=tuple(stamped),
        payloads=tuple(payloads),
        expect=expect,
        digest=_digest(stamped) if idempotent else b"",
        size=sum(map(len, payloads)) + ACTION_BYTES * len(payloads),
        rights=rights,
        creator=creator,
    )


def _digest(actions: Sequence[Action]) -> bytes:
    content = [{"type": action.type, "payload": action.payload, "key": action.key} for action in actions]
    return hashlib.sha256(canonical(content)).digest()


class Transaction:
    """The committed state with what a batch has done to it so far. `run` raises NotLoaded for what is away.

    The committed state must not change between the first run and the last, or `resume` must be called and what was
    used be the same: a transaction knows by identity which containers it has made itself, and writes to those in place.
    """

    def __init__(
        self,
        registry: HandlerRegistry,
        committed: LoadedSlices,
        slow_calls: SlowCalls,
        schemas: Schemas,
        creations: Allowances | None = None,
    ) -> None:
        self._registry, self._committed, self._slow_calls = registry, committed, slow_calls
        self._schemas = schemas
        self._creations = creations
        self.created: Counter[str] = Counter()
        """The instances that identities have created so far, if their number is limited."""
        self._values: dict[str, Any] = {}
        self._undo: dict[str, Any] = {}
        self._unchanged: list[str] = []
        self._scratch = Scratch()
        self.based_on: dict[str, int] = {}

    def run(self, request: Request) -> list[PendingChange]:
        """Runs a request and returns its changes, which the next request sees. Raises what to answer it with."""
        self.begin(request)
        changes = self.part(request, 0, len(request.actions))
        self.end(request, changes)
        return changes

    def begin(self, request: Request) -> None:
        """Call it before the first `part` of a request. Raises VersionConflict."""
        self._check(request)
        self._undo, self._unchanged = {}, []
        self._scratch.settle()

    def part(self, request: Request, begin: int, end: int) -> list[PendingChange]:
        """Runs some of the actions of a request. If it raises, the request has had no effect."""
        changes: list[PendingChange] = []
        try:
            for action, payload in zip(request.actions[begin:end], request.payloads[begin:end], strict=True):
                if request.rights is not None:
                    self._check_right(request.rights, action)
                kept = NOTHING if action.type in self._registry.gradual else payload
                cause = Cause(type=action.type, id=action.id, actor=action.actor, payload=kept)
                for handler in self._registry.handlers(action):
                    pending = self._handle(handler, action, payload, cause, request.rights)
                    if pending is not None:
                        changes.append(pending)
        except BaseException:
            self._take_back()
            raise
        return changes

    def end(self, request: Request, changes: Sequence[PendingChange]) -> None:
        """Call it after the last `part` of a request, with all of its changes. Raises RateLimited."""
        try:
            self._count_created(request.creator, changes)
        except BaseException:
            self._take_back()
            raise
        # with what was left unchanged: if another node has changed it meanwhile, its handler must run again
        for name in (*request.expect, *(pending.slice for pending in changes), *self._unchanged):
            self.based_on[name] = self._committed_version(name)
        for pending in changes:
            family = pending.slice.partition("/")[0]
            self.based_on[note_of(family, self._registry.slices[family].upgrades.version + 1)] = 0

    def _take_back(self) -> None:
        """Takes back what a request has done so far."""
        self._scratch.undo()
        for name, value in self._undo.items():
            if value is _UNTOUCHED:
                del self._values[name]
            else:
                self._values[name] = value

    def used(self, request: Request) -> set[str]:
        """The slices and instances of which a request has seen something so far."""
        return {*self._values, *self._unchanged, *self.based_on, *request.expect}

    def resume(self) -> None:
        """Call it before a `part` if other code has run since the last one: what was made is copied for new writes."""
        self._scratch.forget()

    def value(self, change: Change) -> Any:
        """The value that the batch leaves in the slice of one of its changes."""
        return self._values[change.slice]

    def _check(self, request: Request) -> None:
        for name, version in request.expect.items():
            readable = request.rights is None or request.rights.reads(name, self._current)
            if (self._version(name) if readable else 0) != version:
                raise VersionConflict(f"{name} is not at version {version} any more; reload and retry")

    def _check_right(self, rights: Rights, action: Action) -> None:
        """Also makes the batch depend on the state on which the right depends: another node may change it first."""
        for name in rights.check_dispatch(action.type, action.key, self._current):
            self.based_on[name] = self._committed_version(name)

    def _count_created(self, creator: str | None, changes: Sequence[PendingChange]) -> None:
        """Raises RateLimited."""
        if creator is None or self._creations is None:
            return
        names = {pending.slice for pending in changes if "/" in pending.slice and pending.kind == "value"}
        created = sum(self._is_new(name) for name in names)
        if not created:
            return
        if wait := self._creations.wait(creator, monotonic(), self.created[creator]):
            sentence = f"your login has created too many instances; try again in {wait:.0f} s"
            raise RateLimited(sentence, limit="instances", retry_after=wait)
        self.created[creator] += created

    def _is_new(self, name: str) -> bool:
        """Whether the request that runs has created an instance."""
        before = self._undo[name]
        existed = name in self._committed if before is _UNTOUCHED else before is not REMOVED
        return not existed and self._values[name] is not REMOVED

    def _current(self, name: str) -> Any:
        """The value of a slice or instance after the requests before this one; None if it does not exist."""
        if name in self._values:
            return None if self._values[name] is REMOVED else self._values[name]
        state = self._committed.get(name)
        return None if state is None else state.value

    def _committed_version(self, name: str) -> int:
        return self._committed.version(name)

    def _version(self, name: str) -> int:
        if name in self._values:
            return 0 if self._values[name] is REMOVED else PENDING
        return self._committed_version(name)

    def _handle(
        self, handler: Handler, action: Action, payload: bytes, cause: Cause, rights: Rights | None
    ) -> PendingChange | None:
        if self._schemas.noted and self._schemas.is_outdated(handler.slice.name):
            raise Unavailable(
                f"newer code has taken over {handler.slice.name}, and this process still runs the old; try again, "
                "because another process may answer"
            )
        arguments = handler.signature.load(payload)
        if handler.signature.wants_action:
            arguments["action"] = action
        began = perf_counter()
        try:
            name = handler.target(action)
            if name is None:
                return None
            exists, base = self._value(name, handler.slice)
            value, operations = recorded(
                base, lambda draft: handler.function(draft, **arguments), self._scratch, most=MAX_WRITES
            )
            if value is REMOVED and not handler.slice.keyed:
                raise HandlerFailed("it returned REMOVED, but only instances of a keyed slice can be removed")
            pending = _pending_change(name, exists, value, operations, cause, self._committed.get(name))
            if pending is not None and handler.slice.validate:
                _check(handler.slice, pending, value)
        except (Refused, NotLoaded, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a handler's CancelledError must not end the writer
            raise _failure(handler, action, error, shown=self._shows(handler, action, rights)) from error
        finally:
            seconds = perf_counter() - began
            self._slow_calls.handlers.observe(seconds)
            if seconds > self._slow_calls.threshold:
                self._slow_calls.ended("handler", f"of {handler.slice.name} for {action.type}", seconds)
        if pending is None:
            self._unchanged.append(name)
        else:
            self._undo.setdefault(name, self._values.get(name, _UNTOUCHED))
            self._values[name] = value
        return pending

    def _shows(self, handler: Handler, action: Action, rights: Rights | None) -> bool:
        """Whether who dispatched an action may read what its handler changes. Raises NotLoaded."""
        if rights is None:
            return not handler.slice.hidden
        try:
            name = handler.target(action)
        except Exception:  # this is what failed
            return False
        return name is not None and rights.reads_whole(name, self._current)

    def _value(self, name: str, declared: Slice) -> tuple[bool, Any]:
        if name in self._values:
            value = self._values[name]
            return (False, declared.initial) if value is REMOVED else (True, value)
        state = self._committed.get(name)
        return (False, declared.initial) if state is None else (True, state.value)


def _check(declared: Slice, pending: PendingChange, value: Any) -> None:
    """Raises InvalidValue if the value that a change leads to is not of the type of its slice."""
    if declared.type is not None and pending.kind != "removed":
        declared.type.check(pending.data if pending.kind == "value" else encode(value))


def _failure(handler: Handler, action: Action, error: BaseException, *, shown: bool) -> StatestreamError:
    """The error for a request whose handler raised. A value that only a client can have chosen is its fault.

    A place in a value consists of names that it contains, so it is for those who are `shown` the value.
    """
    name = handler.slice.name if shown or action.type.startswith(f"{handler.slice.name}/") else "another slice"
    if isinstance(error, NotJSON) and error.limit:
        said = str(error) if shown else error.problem
        return InvalidPayload(f"{action.type} would make {name} a state that is not allowed: {said}")
    if isinstance(error, Malformed) and not isinstance(error, NotJSON):
        return InvalidPayload(f"{action.type} does not fit {name}: {error}")
    if isinstance(error, TooLarge):
        log.error("the handler of %s for %s does too much: %s", handler.slice.name, action.type, error)
        return TooLarge(f"the handler of {name} for {action.type} does too much: {error}")
    log.error("the handler of %s for %s failed", handler.slice.name, action.type, exc_info=error)
    ours = isinstance(error, StatestreamError)
    said = str(error) if shown or not isinstance(error, (InvalidValue, NotJSON)) else _without_place(error)
    how = f"failed: {said}" if ours else f"raised {type(error).__name__}; its changes are discarded"
    return HandlerFailed(f"the handler of {name} for {action.type} {how}")


def _without_place(error: InvalidValue | NotJSON) -> str:
    problem = error.problem if isinstance(error, NotJSON) else "its value does not fit its type"
    return f"{problem}; the log of the server has the place"


def value_after(base: Any, change: Change) -> Any:
    """The value after a change that another node made. It shares with `base` what the change did not touch."""
    return change.value if change.kind == "value" else patched(base, change.patches)


def _pending_change(
    name: str, exists: bool, value: Any, operations: list[dict[str, Any]], cause: Cause, committed: SliceState | None
) -> PendingChange | None:
    if value is REMOVED:
        return PendingChange(slice=name, kind="removed", data=b"", cause=cause) if exists else None
    if exists and not operations:
        return None
    if not exists or any(op["path"] == "" for op in operations):
        return PendingChange(slice=name, kind="value", data=encode(value), cause=cause)
    patch = encode(operations)
    if committed is None or len(patch) >= committed.measured:
        whole = encode(value)
        if len(whole) < len(patch):
            return PendingChange(slice=name, kind="value", data=whole, cause=cause)
    return PendingChange(slice=name, kind="patches", data=patch, cause=cause)
