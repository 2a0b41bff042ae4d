"""The consequences of decisions about tool calls: the actions, and the rights with which the reply continues.

Each approved call runs with the rights of the person who approved it. Everything else in the reply runs with the rights
of the person who asked.

Invariants: pure, of one committed state. The actions are valid for that state only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from statestream.chat.agents import ToolResult
from statestream.chat.agents.adapting import arguments_of
from statestream.chat.approvals import Decided, deadline
from statestream.chat.chats import owner_in, state_of
from statestream.chat.messages import Message, find, full_text, undecided
from statestream.chat.provisions import Provisions
from statestream.chat.replies.calls import Call
from statestream.chat.slices import approvals, conversation, listing, provider, runs, waits
from statestream.chat.slices.approvals import AnswerPayload, DecisionPayload, RunPayload
from statestream.core.change import Action
from statestream.core.principal import Identity
from statestream.store.view import StoreView


class Made(Struct, frozen=True, kw_only=True):
    """Decisions about tool calls, and a window's results for others."""

    decisions: Sequence[DecisionPayload] = ()
    answers: Sequence[AnswerPayload] = ()
    window: str | None = None

    def __bool__(self) -> bool:
        return bool(self.decisions or self.answers)


class Continuation(Struct, frozen=True, kw_only=True):
    """How a reply continues: with `entries` entries of opaque data so far, for `asker`, whose question has `brought`
    this. `deciders` are by part.
    """

    entries: int
    asker: Identity | None
    brought: Provisions
    deciders: Mapping[int, Identity | None]


class Deciding(Struct, frozen=True, kw_only=True):
    """The actions that save decisions, and the versions that they are based on. `then`: None if other calls are
    undecided.
    """

    actions: Sequence[Action]
    expect: Mapping[str, int]
    then: Continuation | None


def deciding(
    view: StoreView,
    key: str,
    reply: str,
    made: Made,
    run: RunPayload,
    by: Identity | None,
) -> Deciding:
    """The consequences of decisions. If they are the last ones, the reply continues as `run`. Raises NotLoaded."""
    state, names = state_of(view, key), (conversation.name_of(key), f"{waits.NAME}/{key}")
    expect = {name: view.version(name) for name in names}
    message, parts = find(state, reply), [each["part"] for each in (*made.decisions, *made.answers)]
    left = [] if message is None else [part for part in undecided(message) if part not in parts]
    more: dict[str, Any] = {"decisions": list(made.decisions), **conversation.optional(user=owner_in(state))}
    if made.answers:
        more |= {"answers": list(made.answers), **conversation.optional(window=made.window)}
    if message is None or left:
        until = (
            {} if message is None else conversation.optional(expires_at=deadline(message, left), decider=waits.kept(by))
        )
        decided = approvals.decided(key, reply=reply, **more)
        return Deciding(
            actions=[decided, waits.decided(key, reply=reply, parts=parts, **until)], expect=expect, then=None
        )
    actions = [
        approvals.decided(key, reply=reply, run=run, **more),
        runs.begun(key, reply=reply, node=run["node"]),
        waits.forgotten(key, reply=reply),
        *listing.updating(view, key, status=listing.STREAMING),
    ]
    return Deciding(actions=actions, expect=expect, then=_continuation(view, key, reply, parts, by))


def _continuation(view: StoreView, key: str, reply: str, parts: Sequence[int], by: Identity | None) -> Continuation:
    state = view.get(f"{waits.NAME}/{key}")
    known: Mapping[str, Any] = {} if state is None or state.value.get("reply") != reply else state.value
    earlier = {int(part): waits.identity_of(kept) for part, kept in known.get("deciders", {}).items()}
    return Continuation(
        entries=provider.entries_of(view, key, reply),
        asker=waits.identity_of(known.get("asker")),
        brought=Provisions.of(known.get("brought", known)),  # older versions have only stored `tools`
        deciders={**earlier, **dict.fromkeys(parts, by)},
    )


def approved(reply: Message) -> dict[int, Call]:
    """The approved calls of a reply that are to run, by their parts."""
    return {
        index: Call(id=part["call"], name=part["name"], texts=[full_text(part)])
        for index, part in enumerate(reply["parts"])
        if part.get("status") == "running"
    }


def answered(reply: Message, start: int = 0) -> dict[str, ToolResult]:
    """The results of the calls of a reply, from that part on, that windows have run, by the ids of the calls."""
    return {
        part["call"]: ToolResult(id=part["call"], result=part.get("result"), error=part.get("error"))
        for part in reply["parts"][start:]
        if "offer" in part and part["status"] in ("complete", "error")
    }


def decided(reply: Message, start: int = 0) -> dict[str, Decided]:
    """The decisions about the calls of a reply from that part on, by the ids of the calls."""
    return {
        part["call"]: Decided(
            approved=part["approval"]["approved"],
            arguments=arguments_of(full_text(part)),
            reason=part["approval"].get("reason"),
            by=part["approval"].get("by"),
        )
        for part in reply["parts"][start:]
        if "approved" in part.get("approval", ())
    }
