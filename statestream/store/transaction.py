"""Requests, run over a working copy of the state: what each of them would change.

Invariants: pure and synchronous. Nothing here is durable or visible to anyone: a Working is thrown away
when the journal says no, and made again. A request takes effect whole or not at all.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from statestream.core.change import REMOVED, Action, Cause, Change, IdempotencyKey, PendingChange, SliceState
from statestream.core.draft import Scratch, patched, produce
from statestream.core.errors import (
    Forbidden,
    HandlerFailed,
    Malformed,
    Refused,
    StatestreamError,
    UnknownAction,
    UnknownSlice,
    VersionConflict,
)
from statestream.core.slices import Handler, Slice
from statestream.core.values import canonical, encode, plain

log = logging.getLogger("statestream")

_UNTOUCHED = object()
PENDING = -1
"""The version of a slice that an earlier request of the same batch has changed: not known before the append."""


class Request(Struct, frozen=True, kw_only=True):
    """Actions that take effect together, as accepted from a caller.

    `id` names the request in causes; `remembered` says that the caller gave it, so that a repeat is a
    duplicate, for which `digest` is the same where the content is. `payloads` are those of `actions`, encoded.
    """

    id: str
    remembered: bool
    actor: str | None
    at: int
    actions: tuple[Action, ...]
    payloads: tuple[bytes, ...]
    expect: Mapping[str, int]
    digest: bytes

    @property
    def key(self) -> IdempotencyKey:
        return (self.actor or "", self.id)


def accept(
    actions: Sequence[Action], *, id: str, remembered: bool, actor: str | None, at: int, expect: Mapping[str, int]
) -> Request:
    """Stamps the actions and encodes their payloads. Raises Malformed if there is none, NotJSON for a payload."""
    if not actions:
        raise Malformed("expected at least one action, got none")
    stamped, payloads = [], []
    for action in actions:
        payload = plain(action.payload)
        stamped.append(Action(type=action.type, payload=payload, key=action.key, id=id, actor=actor, at=at))
        payloads.append(encode(payload))
    return Request(
        id=id,
        remembered=remembered,
        actor=actor,
        at=at,
        actions=tuple(stamped),
        payloads=tuple(payloads),
        expect=expect,
        digest=_digest(stamped) if remembered else b"",
    )


def _digest(actions: Sequence[Action]) -> bytes:
    content = [{"type": action.type, "payload": action.payload, "key": action.key} for action in actions]
    return hashlib.sha256(canonical(content)).digest()


class HandlerRegistry:
    """Which handlers an action reaches, in the order of the slices."""

    def __init__(self, slices: Iterable[Slice]) -> None:
        self.slices: dict[str, Slice] = {}
        self.handlers: dict[str, list[Handler]] = {}
        for part in slices:
            if part.name in self.slices:
                raise ValueError(f"expected each slice once, got {part.name!r} twice")
            self.slices[part.name] = part
            for handler in part.handlers:
                self.handlers.setdefault(handler.action_type, []).append(handler)
        for action_type, handlers in self.handlers.items():
            declared = self.slices.get(action_type.partition("/")[0])
            if declared is None or all(handler.slice is not declared for handler in handlers):
                raise ValueError(f"expected the slice that declares {action_type} among the store's slices")
            for handler in handlers:
                if handler.slice.keyed and not declared.keyed and handler.key_of is None:
                    raise ValueError(
                        f"expected `key=` where {handler.slice.name} handles {action_type}, which has no key"
                    )

    def of(self, action: Action) -> list[Handler]:
        """The handlers. Raises UnknownAction, or Malformed where key and slice do not go together."""
        found = self.handlers.get(action.type)
        if found is None:
            raise UnknownAction(
                "expected the type of a declared action, like board/task_added; see the slices' handlers"
            )
        keyed = self.slices[action.type.partition("/")[0]].keyed
        if keyed != (action.key is not None):
            raise Malformed(f"expected {'a' if keyed else 'no'} key for {action.type}")
        return found

    def check_public(self, action_type: str) -> None:
        """Raises Forbidden for an action that only the server's own code may dispatch."""
        part = self.slices.get(action_type.partition("/")[0])
        if part is not None and part.internal:
            raise Forbidden(f"expected an action that clients may dispatch, {part.name} is changed by the server only")

    def initial_changes(self, existing: Mapping[str, SliceState], request_id: str) -> tuple[PendingChange, ...]:
        """What gives every plain slice that does not exist yet its initial value."""
        cause = Cause(type="statestream/opened", id=request_id, actor=None, payload=b"{}")
        missing = [part for part in self.slices.values() if not part.keyed and part.name not in existing]
        return tuple(PendingChange(slice=p.name, kind="value", data=encode(p.initial), cause=cause) for p in missing)

    def check_slice(self, name: str, key: str | None) -> None:
        """Raises UnknownSlice unless `name` is declared, and keyed just where there is a key."""
        part = self.slices.get(name)
        if part is None or part.keyed != (key is not None):
            raise UnknownSlice(
                f"expected a declared slice{' instance' if key is not None else ''}, got none of that name"
            )


class Transaction:
    """The committed state with what a batch has done to it so far.

    From its first run to its last nothing may come into the committed state: what it made it knows by identity.
    """

    def __init__(self, rules: HandlerRegistry, committed: Mapping[str, SliceState]) -> None:
        self._rules, self._committed = rules, committed
        self._values: dict[str, Any] = {}
        self._undo: dict[str, Any] = {}
        self._scratch = Scratch()
        self.based_on: dict[str, int] = {}

    def run(self, request: Request) -> list[PendingChange]:
        """What the request would do; the next request sees it. Raises what it is to be answered with."""
        self._check(request.expect)
        self._undo = {}
        self._scratch.settle()
        effects: list[PendingChange] = []
        try:
            for action, payload in zip(request.actions, request.payloads, strict=True):
                cause = Cause(type=action.type, id=action.id, actor=action.actor, payload=payload)
                for handler in self._rules.of(action):
                    effect = self._handle(handler, action, payload, cause)
                    if effect is not None:
                        effects.append(effect)
        except BaseException:
            self._scratch.undo()
            for name, value in self._undo.items():
                if value is _UNTOUCHED:
                    del self._values[name]
                else:
                    self._values[name] = value
            raise
        for name in request.expect:
            self.based_on[name] = self._committed_version(name)
        for effect in effects:
            self.based_on[effect.slice] = self._committed_version(effect.slice)
        return effects

    def value(self, change: Change) -> Any:
        """The value that the batch leaves in the slice of one of its changes."""
        return self._values[change.slice]

    def _check(self, expect: Mapping[str, int]) -> None:
        for name, version in expect.items():
            if self._version(name) != version:
                raise VersionConflict(f"expected version {version} of {name}, it has another one; read it again")

    def _committed_version(self, name: str) -> int:
        state = self._committed.get(name)
        return 0 if state is None else state.version

    def _version(self, name: str) -> int:
        if name in self._values:
            return 0 if self._values[name] is REMOVED else PENDING
        return self._committed_version(name)

    def _handle(self, handler: Handler, action: Action, payload: bytes, cause: Cause) -> PendingChange | None:
        arguments = handler.signature.load(payload)
        if handler.signature.wants_action:
            arguments["action"] = action
        try:
            name = handler.target(action)
            if name is None:
                return None
            exists, base = self._value(name, handler.slice)
            value, operations = produce(base, lambda draft: handler.function(draft, **arguments), self._scratch)
            if value is REMOVED and not handler.slice.keyed:
                raise HandlerFailed("expected REMOVED from a handler of a keyed slice only")
            effect = _effect(name, exists, value, operations, cause, self._committed.get(name))
        except (Refused, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a handler's CancelledError must not end the writer
            log.exception("the handler of %s for %s failed", handler.slice.name, action.type)
            ours = isinstance(error, StatestreamError)
            how = f"failed: {error}" if ours else f"raised {type(error).__name__}; its changes are gone"
            raise HandlerFailed(f"the handler of {handler.slice.name} for {action.type} {how}") from error
        if effect is not None:
            self._undo.setdefault(name, self._values.get(name, _UNTOUCHED))
            self._values[name] = value
        return effect

    def _value(self, name: str, part: Slice) -> tuple[bool, Any]:
        if name in self._values:
            value = self._values[name]
            return (False, part.initial) if value is REMOVED else (True, value)
        state = self._committed.get(name)
        return (False, part.initial) if state is None else (True, state.value)


def follow(base: Any, change: Change) -> Any:
    """The value after a change that another node made, sharing with `base` what it did not touch."""
    return change.value if change.kind == "value" else patched(base, change.patches)


def _effect(
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
