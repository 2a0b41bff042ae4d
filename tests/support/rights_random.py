"""Random rules, and things that can happen, for an oracle of rights.

Invariants: everything is chosen by the given source of chance, so that its seed repeats a run as far as the order in
which servers answer allows.
"""

from __future__ import annotations

import random
import time

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
from tests.support.rights_reader import Reader

CROWD = 100
"""So many readers are a crowd."""


def random_rules(chance: random.Random) -> dict[str, str]:
    return {name: chance.choice(PLAIN_RULES) for name in PLAIN} | {name: chance.choice(KEYED_RULES) for name in KEYED}


def random_action(chance: random.Random) -> Action:
    """One of all actions, those that change rights as often as the others."""
    kind, member = chance.random(), {"member": chance.choice(SUBJECTS)}
    if kind < 0.25:
        return Action(f"team/{chance.choice(('joined', 'left'))}", member, chance.choice(KEYS))
    if kind < 0.3:
        return Action("flag/turned", {"on": chance.random() < 0.5})
    name = chance.choice((*PLAIN, *KEYED))
    key = chance.choice(KEYS) if name in KEYED else None
    what = chance.choice(("set_to", "set_to", "added", "removed", *(("deleted",) if key else ())))
    payload = {"n": chance.randrange(40)} if what == "set_to" else {} if what == "deleted" else member
    return Action(f"{name}/{what}", payload, key)


def random_actions(chance: random.Random) -> list[Action]:
    """A request: one action, or several, or a right that somebody has for a moment."""
    kind = chance.random()
    if kind < 0.7:
        return [random_action(chance)]
    if kind < 0.9:
        return [random_action(chance) for _ in range(3)]
    member, key = {"member": chance.choice(SUBJECTS)}, chance.choice(KEYS)
    return [Action("team/joined", member, key), random_action(chance), Action("team/left", member, key)]


def random_reader(oracle: Oracle, chance: random.Random) -> Reader:
    """Some have credentials that tell when they were issued, some have some that soon expire."""
    who = Who(chance.choice(SUBJECTS), chance.choice(ROLES), chance.choice(SELECTIONS))
    lifetime = chance.uniform(0.2, 3.0) if chance.random() < 0.1 else None
    return oracle.new_reader(who, dated=chance.random() < 0.5, lifetime=lifetime)


def random_step(oracle: Oracle, chance: random.Random, readers: int) -> None:
    """Something that can happen, or several things at the same time: mostly actions, alone or by several callers.

    About that many readers are there. A crowd is looked at after more has happened, since each time must wait for what
    one server has done to reach the other: a tenth of a second with SQLite. So orders and kills are more frequent, too.
    """
    crowd = readers >= CROWD
    nodes = range(len(oracle.servers))
    for _ in range(chance.randrange(1, 8) if crowd else 1):
        count = chance.choice((1, 2, 4, 8, 16) if crowd else (1, 1, 2, 4, 8))
        requests = [Request(random_actions(chance), chance.choice(nodes)) for _ in range(count)]
        joining = random_joins(oracle, chance, readers)
        orders = random_orders(oracle, chance) if chance.random() < (0.1 if crowd else 0.03) else []
        killed = [chance.choice(nodes)] if chance.random() < (0.02 if crowd else 0.002) else []
        oracle.happen(requests, orders, joining=joining, killed=killed)
        random_cuts(oracle, chance)
    oracle.follow_all()
    oracle.dismiss()


def random_joins(oracle: Oracle, chance: random.Random, readers: int) -> list[tuple[Reader, int]]:
    """Some are new, others return."""
    nodes = range(len(oracle.servers))
    away = [reader for reader in oracle.readers if not reader.open]
    returning = chance.sample(away, min(len(away), chance.choice((0, 1, 3, len(away) // 10))))
    for reader in returning:
        oracle.renew(reader, chance.uniform(0.2, 3.0) if chance.random() < 0.1 else None)
    count = chance.choice((1, 2, readers // 10)) if len(oracle.readers) - len(away) < readers else 0
    returning += [random_reader(oracle, chance) for _ in range(count)]
    return [(reader, chance.choice(nodes)) for reader in returning]


def random_orders(oracle: Oracle, chance: random.Random) -> list[Order]:
    """Somebody is revoked, or reinstated."""
    what = "reinstate" if oracle.model.revoked and chance.random() < 0.7 else "revoke"
    subject = chance.choice(list(oracle.model.revoked) if what == "reinstate" else SUBJECTS)
    return [Order(what, subject, chance.choice(range(len(oracle.servers))))]


def random_cuts(oracle: Oracle, chance: random.Random) -> None:
    count = chance.choice((0, 0, 1, 1 + len(oracle.readers) // 50))
    for reader in chance.sample(oracle.readers, min(len(oracle.readers), count)):
        oracle.cut(reader, chance.choice((0, 1, 1, 2, 5)))


def seed_of(given: int | None = None) -> int:
    """The seed of a run, printed so that it can be repeated."""
    seed = time.time_ns() % 1_000_000 if given is None else given
    print(f"seed {seed}")
    return seed
