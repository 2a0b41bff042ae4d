"""Slices whose rules the environment chooses: RULES is JSON, the name of a rule for each slice.

IDLE is the seconds after which instances leave the memory.

A token is `subject:role,role:issued:expires`, the latter two in Unix seconds and perhaps empty. The role `root` may do
everything.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from aiohttp import web

from statestream import REMOVED, Change, Identity, Limits, Slice, Store, create_app
from statestream.auth import role, signed_in
from statestream.journal import Retention, from_url
from statestream.store import revocations

Rule = Callable[..., bool]


async def auth(request: web.Request) -> Identity | None:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    if kind != "Bearer":
        return None
    subject, roles, issued, expires = token.split(":")
    return Identity(
        subject=subject,
        roles=[r for r in roles.split(",") if r],
        claims={"iat": float(issued)} if issued else {},
        expires=float(expires) if expires else None,
    )


def is_root(identity: Identity | None) -> bool:
    return identity is not None and "root" in identity.roles


def of_role(identity: Identity | None) -> bool:
    return identity is not None and bool({"a", "root"} & set(identity.roles))


def flagged(identity: Identity | None, state: Any) -> bool:
    return is_root(identity) or bool(state.get("flag")["on"])


def in_red(identity: Identity | None, state: Any) -> bool:
    team = state.get("team/red")
    return is_root(identity) or (identity is not None and team is not None and identity.subject in team["members"])


def own(identity: Identity | None, key: str) -> bool:
    return is_root(identity) or (identity is not None and identity.subject == key)


def in_team(identity: Identity | None, key: str, state: Any) -> bool:
    team = state.get(f"team/{key}")
    return is_root(identity) or (identity is not None and team is not None and identity.subject in team["members"])


def in_itself(family: str) -> Rule:
    def inside(identity: Identity | None, key: str, state: Any) -> bool:
        value = state.get(f"{family}/{key}")
        return is_root(identity) or (
            identity is not None and value is not None and identity.subject in value["members"]
        )

    return inside


RULES: dict[str, str] = json.loads(os.environ["RULES"])
BY_NAME: dict[str, Rule] = {
    "nobody": is_root,
    "signed_in": signed_in,
    "role": of_role,
    "flagged": flagged,
    "in_red": in_red,
    "own": own,
    "in_team": in_team,
}


def rule_of(name: str) -> Rule:
    return in_itself(name) if RULES[name] == "in_itself" else BY_NAME[RULES[name]]


def declared(name: str, *, keyed: bool) -> Slice:
    """A slice with a number and members, of which people with the role `v` see the tens of the number."""
    made = Slice(name, initial={"n": 0, "members": []}, keyed=keyed, read=rule_of(name), dispatch=role("root"))

    @made.action
    def set_to(state: Any, *, n: int) -> None:
        state["n"] = n

    @made.action
    def added(state: Any, *, member: str) -> None:
        if member not in state["members"]:
            state["members"].append(member)

    @made.action
    def removed(state: Any, *, member: str) -> None:
        if member in state["members"]:
            state["members"].remove(member)

    if keyed:

        @made.action
        def deleted(state: Any) -> Any:
            return REMOVED

    @made.view("v")
    def tens(value: Any) -> Any:
        return {"tens": value["n"] // 10}

    return made


flag = Slice("flag", initial={"on": False}, read=is_root, dispatch=role("root"))


@flag.action
def turned(state: Any, *, on: bool) -> None:
    state["on"] = on


team = Slice("team", initial={"members": []}, keyed=True, read=is_root, dispatch=role("root"))


@team.action
def joined(state: Any, *, member: str) -> None:
    if member not in state["members"]:
        state["members"].append(member)


@team.action
def left(state: Any, *, member: str) -> None:
    if member in state["members"]:
        state["members"].remove(member)


slices = [declared(name, keyed=name.startswith("k")) for name in RULES]
idle = os.environ.get("IDLE")
journal = from_url(os.environ["JOURNAL"])
if idle is not None:  # what no checkpoint has does not leave the memory
    journal.retention = Retention(checkpoint=1)
store = Store([flag, team, *slices], journal=journal, idle=60.0 if idle is None else float(idle))
ordered: dict[str, int] = {}
"""The seq of the last revocation of each subject, or of its end, by the key of the subject."""


def note_order(change: Change) -> None:
    if change.slice.startswith(f"{revocations.NAME}/"):
        ordered[change.slice.partition("/")[2]] = change.version


async def order(request: web.Request) -> web.Response:
    """Revokes a subject, or reinstates it, and says at which seq."""
    what, subject = request.match_info["what"], request.match_info["subject"]
    await {"revoke": store.revoke, "reinstate": store.reinstate}[what](subject)
    return web.json_response({"seq": ordered.get(revocations.key_of(subject), 0)})


store.on_change(note_order)
unlimited = Limits(streams_per_identity=None, dispatches_per_second=None, instances_per_hour=None)
app = create_app(
    store,
    auth=auth,
    heartbeat=float(os.environ.get("HEARTBEAT", "0.5")),
    handoff=os.environ.get("HANDOFF") != "0",
    limits=unlimited,
)
app.router.add_post("/orders/{what}/{subject}", order)
