"""Random rules, readers, cuts, changes of rights and restarts, against a model that asks every rule anew."""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.support import MODES, ROOT, Server
from tests.support.oracle import (
    KEYED,
    KEYED_RULES,
    KEYS,
    PLAIN,
    PLAIN_RULES,
    ROLES,
    SELECTIONS,
    SUBJECTS,
    Oracle,
    random_rules,
    random_step,
    seed_of,
)

RULED = f"{ROOT / 'tests/apps/ruled.py'}:app"
DELIVERIES = 1_000_000


def ruled(rules: dict[str, str], folder: str, mode: str = MODES[0]) -> Server:
    server = Server("serve", RULED, env={"RULES": json.dumps(rules), "JOURNAL": f"sqlite:///{folder}/ruled.db"})
    server.mode = mode
    return server


class Rights(RuleBasedStateMachine):
    """Every reader holds what the model shows it, at the position of every frame."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.restarted = False

    @initialize(
        plain=st.tuples(*[st.sampled_from(PLAIN_RULES)] * len(PLAIN)),
        keyed=st.tuples(*[st.sampled_from(KEYED_RULES)] * len(KEYED)),
        mode=st.sampled_from(MODES[:2]),
    )
    def start(self, plain: Any, keyed: Any, mode: str) -> None:
        rules = dict(zip(PLAIN, plain, strict=True)) | dict(zip(KEYED, keyed, strict=True))
        self.server = ruled(rules, self.folder.name, mode)
        self.server.start()
        self.oracle = Oracle(self.server, rules)
        for query in SELECTIONS:
            self.oracle.join(query, SUBJECTS[0], "")

    @rule(query=st.sampled_from(SELECTIONS), subject=st.sampled_from(SUBJECTS), roles=st.sampled_from(ROLES))
    def join(self, query: str, subject: str, roles: str) -> None:
        self.oracle.join(query, subject, roles)

    @rule(what=st.sampled_from(("joined", "left")), member=st.sampled_from(SUBJECTS), key=st.sampled_from(KEYS))
    def change_a_team(self, what: str, member: str, key: str) -> None:
        self.oracle.dispatch(f"team/{what}", {"member": member}, key)

    @rule(on=st.booleans())
    def turn_the_flag(self, on: bool) -> None:
        self.oracle.dispatch("flag/turned", {"on": on})

    @rule(name=st.sampled_from(PLAIN), n=st.integers(0, 30))
    def set_a_plain_one(self, name: str, n: int) -> None:
        self.oracle.dispatch(f"{name}/set_to", {"n": n})

    @rule(name=st.sampled_from(KEYED), key=st.sampled_from(KEYS), n=st.integers(0, 30))
    def set_an_instance(self, name: str, key: str, n: int) -> None:
        self.oracle.dispatch(f"{name}/set_to", {"n": n}, key)

    @rule(
        name=st.sampled_from(KEYED),
        what=st.sampled_from(("added", "removed")),
        key=st.sampled_from(KEYS),
        member=st.sampled_from(SUBJECTS),
    )
    def change_the_members(self, name: str, what: str, key: str, member: str) -> None:
        self.oracle.dispatch(f"{name}/{what}", {"member": member}, key)

    @rule(name=st.sampled_from(KEYED), key=st.sampled_from(KEYS))
    def delete_an_instance(self, name: str, key: str) -> None:
        self.oracle.dispatch(f"{name}/deleted", {}, key)

    @rule(number=st.integers(0, 99))
    def cut(self, number: int) -> None:
        self.oracle.cut(self.oracle.readers[number % len(self.oracle.readers)])

    @rule(number=st.integers(0, 99))
    def resume(self, number: int) -> None:
        self.oracle.resume(self.oracle.readers[number % len(self.oracle.readers)])

    @rule()
    def look(self) -> None:
        self.oracle.follow_all()

    @precondition(lambda self: not self.restarted)  # each takes a second
    @rule()
    def restart(self) -> None:
        self.restarted = True
        self.oracle.restart()

    def teardown(self) -> None:
        if hasattr(self, "oracle"):
            self.oracle.settle()
            self.oracle.close()
            self.server.stop()
        self.folder.cleanup()


TestRights = Rights.TestCase
TestRights.settings = settings(
    max_examples=4, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
TestRights.pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_random_run(tmp_path: Path) -> None:
    run(random.Random(seed_of()), str(tmp_path), readers=15, until=1_000)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_a_million_deliveries(tmp_path: Path) -> None:
    chance = random.Random(seed_of())
    delivered, number, began = 0, 0, time.monotonic()
    while delivered < int(os.environ.get("DELIVERIES", DELIVERIES)):
        folder = tmp_path / str(number)
        folder.mkdir()
        delivered += run(chance, str(folder), readers=100, until=50_000)
        number += 1
        print(f"{delivered:,} deliveries, {number} sets of rules, {time.monotonic() - began:.0f} s", flush=True)


def run(chance: random.Random, folder: str, *, readers: int, until: int) -> int:
    """One set of rules. Returns the number of frames that were looked at."""
    rules = random_rules(chance)
    with ruled(rules, folder, chance.choice(MODES[:2])) as server:
        oracle = Oracle(server, rules)
        while oracle.delivered < until:
            random_step(oracle, chance, readers)
            if chance.random() < 0.002:
                oracle.restart()
        oracle.settle()
        oracle.close()
        return oracle.delivered
