"""Readers with rights, for the benchmarks. AUDIENCE is `open` (no authentication, no rules) or `guarded`.

A token is `subject:role:issued`.
"""

from __future__ import annotations

import os
from typing import Any

from aiohttp import web

from statestream import Identity, Slice, Store, create_app
from statestream.auth import anyone, role

GUARDED = os.environ.get("AUDIENCE") == "guarded"
ROLES = [f"r{number}" for number in range(10)]


async def auth(request: web.Request) -> Identity | None:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    if kind != "Bearer":
        return None
    subject, name, issued = token.split(":")
    return Identity(subject=subject, roles=[name], claims={"iat": float(issued)})


def member(identity: Identity | None, state: Any) -> bool:
    return identity is not None and identity.subject in state.get("team")["members"]


everybody = {"read": role(*ROLES, "plain"), "dispatch": anyone} if GUARDED else {}
news = Slice("news", initial={"items": [{"id": n, "n": 0, "text": "x" * 60} for n in range(20)]}, **everybody)
people = Slice(
    "people", initial={"by": {f"p{n}": {"name": "x" * 20, "email": "y" * 20} for n in range(20)}}, **everybody
)
team = Slice("team", initial={"members": {}}, **({"read": role("boss"), "dispatch": anyone} if GUARDED else {}))
room = Slice("room", initial={"n": 0}, **({"read": member, "dispatch": anyone} if GUARDED else {}))


@news.action
def counted(state: Any, *, n: int) -> None:
    state["items"][-1]["n"] = n


@people.action
def renamed(state: Any, *, who: str, name: str) -> None:
    state["by"][who]["name"] = name


@team.action
def joined(state: Any, *, name: str) -> None:
    state["members"][name] = True


def without(*hidden: str) -> Any:
    def view(value: Any) -> Any:
        return {
            "by": {
                who: {name: text for name, text in person.items() if name not in hidden}
                for who, person in value["by"].items()
            }
        }

    return view


if GUARDED:
    for each in ROLES:
        people.view(each)(without("email", each))

store = Store([news, people, team, room], journal=os.environ.get("JOURNAL", "memory:"))
app = create_app(store, auth=auth if GUARDED else None)


async def revoke(request: web.Request) -> web.Response:
    """What an application's own administration would do."""
    await store.revoke(request.match_info["subject"])
    return web.Response(status=204)


app.router.add_post("/revoke/{subject}", revoke)
