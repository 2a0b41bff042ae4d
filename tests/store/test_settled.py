"""What is worked out once for all readers with the same roles, and what must not be."""

from __future__ import annotations

from typing import Any

import pytest

from statestream import Identity, Slice, Store
from statestream.auth import anyone, role, signed_in
from statestream.core.errors import Malformed
from statestream.core.principal import Principal
from statestream.core.rules import Rule
from statestream.core.selection import Selection
from statestream.store.grant import MAX_GRANTS, MAX_ROLES
from statestream.store.view import StoreView


def own(identity: Identity | None) -> bool:
    return identity is not None and identity.subject == "ada"


def store() -> tuple[Store, Slice[Any]]:
    news = Slice("news", initial={"secret": 1}, read=role("editor", "reader"))
    news.view("reader")(lambda value: {})
    return Store([news, Slice("diary", initial={}, read=own), Slice("hall", initial={}, read=anyone)]), news


def person(subject: str, *roles: str) -> Principal:
    return Principal(identity=Identity(subject=subject, roles=roles), closed=True)


def readable(view: StoreView) -> set[str]:
    return set(view.grant(view.asked("*")).selection.names)


async def test_answers_are_shared_by_roles_and_never_between_subjects() -> None:
    shared, _ = store()
    async with shared:
        for _ in range(2):  # the second time, from what the first has left
            assert readable(shared.view(person("ada", "editor"))) == {"news", "diary", "hall"}
            assert readable(shared.view(person("bob", "editor"))) == {"news", "hall"}
            assert readable(shared.view(person("ada"))) == {"diary", "hall"}
            assert readable(shared.view(Principal(closed=True))) == {"hall"}
            assert readable(shared.view(Principal())) == {"hall"}


async def test_each_role_keeps_its_view_of_a_slice() -> None:
    shared, _ = store()
    async with shared:
        for subject in ("ada", "bob"):
            for name, value in (("editor", {"secret": 1}), ("reader", {})):
                view = shared.view(person(subject, name))
                grant = view.grant(view.asked("news"))
                assert view.snapshot(grant.selection).slices["news"].value == value


async def test_a_rule_that_is_set_later_counts_at_once() -> None:
    shared, news = store()
    view = shared.view(person("ada", "editor"))
    assert readable(view) == {"news", "diary", "hall"}
    shared.guard(news, read=role("boss"))
    async with shared:
        assert readable(view) == {"diary", "hall"}
        assert readable(shared.view(person("eve", "boss"))) == {"news", "hall"}


async def test_roles_and_selections_without_end_are_kept_within_bounds() -> None:
    shared, _ = store()
    settled = shared._registry.settled
    async with shared:
        for number in range(MAX_ROLES + 10):
            assert readable(shared.view(person("bob", "editor", f"r{number}"))) == {"news", "hall"}
        assert len(settled._known) <= MAX_ROLES
        view, names = shared.view(person("bob", "editor")), [f"gone{number}" for number in range(MAX_GRANTS + 10)]
        for name in names:
            view.grant(Selection(names=frozenset(("hall", name))))
        assert len(settled.of(view.principal)._grants) <= MAX_GRANTS


@pytest.mark.parametrize(
    ("function", "by_role"), [(anyone, True), (signed_in, True), (role("editor"), True), (own, False)]
)
def test_a_rule_knows_whether_it_asks_for_more_than_roles(function: Any, by_role: bool) -> None:
    assert Rule.of(function, "read").by_role is by_role


@pytest.mark.parametrize("roles", ["editor", [1], [None], 7, None, ["two\nlines"]])
def test_roles_are_a_list_of_names(roles: Any) -> None:
    with pytest.raises(Malformed, match="list of names"):
        Identity(subject="ada", roles=roles)
