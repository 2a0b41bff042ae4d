"""Random rules, readers, cuts, changes of rights, revocations and restarts, against a model that asks every rule anew.

There are two servers on one journal, and several callers dispatch at once.
"""

from __future__ import annotations

import json
import os
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.support import MODES, ROOT, Server
from tests.support.oracle import Oracle, Order, Request
from tests.support.rights_model import (
    KEYED,
    KEYED_RULES,
    KEYS,
    PLAIN,
    PLAIN_RULES,
    ROLES,
    SELECTIONS,
    SUBJECTS,
    Action,
    Who,
)
from tests.support.rights_random import random_rules, random_step, seed_of

RULED, WRONG = (f"{ROOT / 'tests/apps' / name}:app" for name in ("ruled.py", "ruled_wrong.py"))
DELIVERIES = 1_000_000
CROWDS = {100: 5_000, 500: 10_000, 1_500: 15_000}
"""How many readers there are in the soak, and how much each set of rules delivers to so many: some ten seconds."""
MEMBER = st.fixed_dictionaries({"member": st.sampled_from(SUBJECTS)})
NUMBER = st.fixed_dictionaries({"n": st.integers(0, 30)})
TEAMS = st.builds(Action, st.sampled_from(("team/joined", "team/left")), MEMBER, st.sampled_from(KEYS))
FLAG = st.builds(Action, st.just("flag/turned"), st.fixed_dictionaries({"on": st.booleans()}), st.none())
NUMBERS = st.builds(Action, st.sampled_from([f"{name}/set_to" for name in PLAIN]), NUMBER, st.none())
INSTANCES = st.builds(Action, st.sampled_from([f"{name}/set_to" for name in KEYED]), NUMBER, st.sampled_from(KEYS))
MEMBERS = st.builds(
    Action,
    st.sampled_from([f"{name}/{what}" for name in KEYED for what in ("added", "removed")]),
    MEMBER,
    st.sampled_from(KEYS),
)
DELETIONS = st.builds(
    Action, st.sampled_from([f"{name}/deleted" for name in KEYED]), st.just({}), st.sampled_from(KEYS)
)
ACTIONS = st.one_of(TEAMS, FLAG, NUMBERS, INSTANCES, MEMBERS, DELETIONS)
NODES = st.integers(0, 1)
REQUESTS = st.builds(Request, st.lists(ACTIONS, min_size=1, max_size=3), NODES)


def ruled(rules: dict[str, str], folder: str, modes: Sequence[str], target: str = RULED, **env: str) -> list[Server]:
    """A server for each mode, all on one journal."""
    servers = []
    for mode in modes:
        known = {"RULES": json.dumps(rules), "JOURNAL": f"sqlite:///{folder}/ruled.db", "PYTHONPATH": str(ROOT)}
        servers.append(Server("serve", target, env=known | env))
        servers[-1].mode = mode
    return servers


@contextmanager
def oracle_of(servers: list[Server], rules: dict[str, str], **more: float) -> Iterator[Oracle]:
    with ExitStack() as stack:
        for server in servers:
            stack.enter_context(server)
        oracle = Oracle(servers, rules, **more)
        stack.callback(oracle.close)
        yield oracle


class Rights(RuleBasedStateMachine):
    """Every reader holds what the model shows it, at the position of every frame."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.restarted = False

    @initialize(
        plain=st.tuples(*[st.sampled_from(PLAIN_RULES)] * len(PLAIN)),
        keyed=st.tuples(*[st.sampled_from(KEYED_RULES)] * len(KEYED)),
        modes=st.permutations(MODES[:2]),
    )
    def start(self, plain: Any, keyed: Any, modes: Any) -> None:
        rules = dict(zip(PLAIN, plain, strict=True)) | dict(zip(KEYED, keyed, strict=True))
        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        self.oracle = self.stack.enter_context(oracle_of(ruled(rules, folder, modes), rules))
        for number, query in enumerate(SELECTIONS):
            self.oracle.join(Who(SUBJECTS[0], "", query), number % 2)

    @rule(
        who=st.builds(Who, st.sampled_from(SUBJECTS), st.sampled_from(ROLES), st.sampled_from(SELECTIONS)),
        node=NODES,
        dated=st.booleans(),
        lifetime=st.sampled_from((None, None, 0.3)),
    )
    def join(self, who: Who, node: int, dated: bool, lifetime: float | None) -> None:
        self.oracle.join(who, node, dated=dated, lifetime=lifetime)

    @rule(requests=st.lists(REQUESTS, min_size=1, max_size=4))
    def dispatch(self, requests: list[Request]) -> None:
        self.oracle.happen(requests)

    @rule(subject=st.sampled_from(SUBJECTS), node=NODES, requests=st.lists(REQUESTS, max_size=2))
    def revoke(self, subject: str, node: int, requests: list[Request]) -> None:
        self.oracle.happen(requests, [Order("revoke", subject, node)])

    @precondition(lambda self: self.oracle.model.revoked)
    @rule(number=st.integers(0, 99), node=NODES)
    def reinstate(self, number: int, node: int) -> None:
        revoked = sorted(self.oracle.model.revoked)
        self.oracle.happen([], [Order("reinstate", revoked[number % len(revoked)], node)])

    @rule(number=st.integers(0, 99), frames=st.integers(0, 3))
    def cut(self, number: int, frames: int) -> None:
        self.oracle.cut(self.oracle.readers[number % len(self.oracle.readers)], frames)

    @rule(number=st.integers(0, 99), node=NODES)
    def resume(self, number: int, node: int) -> None:
        reader = self.oracle.readers[number % len(self.oracle.readers)]
        self.oracle.renew(reader)
        self.oracle.resume(reader, node)

    @rule()
    def look(self) -> None:
        self.oracle.follow_all()

    @precondition(lambda self: not self.restarted)  # each takes a second
    @rule(node=NODES)
    def restart(self, node: int) -> None:
        self.restarted = True
        self.oracle.restart(node)

    def teardown(self) -> None:
        if hasattr(self, "oracle"):
            self.oracle.settle()
        self.stack.close()


TestRights = Rights.TestCase
TestRights.settings = settings(
    max_examples=3, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
TestRights.pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.long
def test_a_random_run(tmp_path: Path) -> None:
    """It goes on until credentials have ended in both ways."""
    counts = run(random.Random(seed_of()), str(tmp_path), readers=40, until=2_000, ends=("revoked", "expired"))
    print(dict(counts))


def test_a_random_run_whose_instances_leave_the_memory_all_the_time(tmp_path: Path) -> None:
    run(random.Random(seed_of()), str(tmp_path), readers=15, until=1_000, IDLE="0.004")


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_a_million_deliveries(tmp_path: Path) -> None:
    chance = random.Random(seed_of())
    counts: Counter[str] = Counter()
    number, began = 0, time.monotonic()
    while counts["delivered"] < int(os.environ.get("DELIVERIES", DELIVERIES)):
        folder = tmp_path / str(number)
        folder.mkdir()
        readers = chance.choice(list(CROWDS))
        counts += run(chance, str(folder), readers=readers, until=CROWDS[readers], HEARTBEAT="2")
        number += 1
        print(
            f"{counts['delivered']:,} deliveries, {number} sets of rules, {time.monotonic() - began:.0f} s", flush=True
        )
    print(dict(counts))


def run(
    chance: random.Random, folder: str, *, readers: int, until: int, ends: Sequence[str] = (), **more: str
) -> Counter[str]:
    """One set of rules, which may allow little: then it ends sooner, but not before streams have ended in these ways.

    Returns how often what has happened.
    """
    rules = random_rules(chance)
    modes = [chance.choice(MODES[:2]) for _ in range(2)]
    with oracle_of(ruled(rules, folder, modes, **more), rules) as oracle:
        while (oracle.delivered < until and oracle.counts["requests"] < until // 2) or not all(
            oracle.counts[f"ended {why}"] for why in ends
        ):
            random_step(oracle, chance, readers)
        oracle.settle()
        return oracle.counts | Counter({"delivered": oracle.delivered})


@pytest.mark.parametrize("name", ["k0", "k1"])
def test_an_instance_that_comes_back_reaches_those_who_joined_while_it_was_gone(name: str, tmp_path: Path) -> None:
    rules = dict.fromkeys((*PLAIN, *KEYED), "nobody") | {"k0": "own", "k1": "in_team"}
    created, deleted = Action(f"{name}/set_to", {"n": 1}, "bob"), Action(f"{name}/deleted", {}, "bob")
    with oracle_of(ruled(rules, str(tmp_path), MODES[:1]), rules) as oracle:
        oracle.dispatch(Action("team/joined", {"member": "bob"}, "bob"))
        oracle.join(Who("bob", "", "slices=*"))
        for action in (created, deleted):
            oracle.dispatch(action)
            oracle.follow_all()
        oracle.join(Who("bob", "", "slices=*"))
        oracle.dispatch(created)
        oracle.follow_all()


def test_an_instance_that_comes_and_goes_within_a_request_is_not_removed_from_a_view(tmp_path: Path) -> None:
    rules = dict.fromkeys((*PLAIN, *KEYED), "signed_in")
    with oracle_of(ruled(rules, str(tmp_path), MODES[:1]), rules) as oracle:
        for roles in ("", "v"):
            oracle.join(Who("ann", roles, "slices=*"))
        oracle.dispatch(
            Action("k0/set_to", {"n": 1}, "red"), Action("k0/deleted", {}, "red"), Action("p0/set_to", {"n": 20})
        )
        oracle.follow_all()


# the oracle itself

FAULTS = re.findall(r"^@fault\ndef (\w+)", (ROOT / "tests/apps/ruled_wrong.py").read_text(), re.MULTILINE)
OPEN_RULES = {"p0": "in_red", "p1": "flagged", "p2": "signed_in", "k0": "own", "k1": "in_team", "k2": "in_itself"}


@pytest.mark.slow
@pytest.mark.parametrize("wrong", FAULTS)
def test_a_fault_is_found(wrong: str, tmp_path: Path) -> None:
    servers = ruled(OPEN_RULES, str(tmp_path), MODES[:1], WRONG, WRONG=wrong, HEARTBEAT="0.2")
    chance = random.Random(1)
    with oracle_of(servers, OPEN_RULES, grace=3.0) as oracle:
        with pytest.raises(AssertionError) as found:
            happen(oracle, chance)
        print(f"{wrong}: found after {oracle.delivered} deliveries: {str(found.value)[:200]}")


def happen(oracle: Oracle, chance: random.Random) -> None:
    """More than a fault can survive."""
    while oracle.delivered < 20_000:
        for _ in range(10):
            random_step(oracle, chance, 40)
        oracle.settle()


@pytest.mark.slow
def test_a_fault_of_the_second_server_is_found(tmp_path: Path) -> None:
    """A revocation does not reach it."""
    servers = ruled(OPEN_RULES, str(tmp_path), MODES[:1])
    wrong = {"WRONG": "a_revocation_is_not_announced", "HEARTBEAT": "0.2"}
    servers += ruled(OPEN_RULES, str(tmp_path), MODES[:1], WRONG, **wrong)
    with oracle_of(servers, OPEN_RULES) as oracle:
        oracle.join(Who("ann", "", "slices=*"), 0)
        oracle.order("revoke", "ann", 0)
        oracle.order("reinstate", "ann", 0)
        reader = oracle.join(Who("ann", "", "slices=*"), 1)
        while not reader.open:  # the second server has not heard yet that she may come again
            oracle.resume(reader, 1)
        with pytest.raises(AssertionError, match="after a revocation"):
            oracle.order("revoke", "ann", 0)
