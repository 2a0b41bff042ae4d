"""What everybody may see, by a model that knows nothing of how the server finds it out.

The model keeps the whole state at every seq, and asks every rule anew for each of them.

Invariants: pure, and shares no code with the product. A state that was added is never changed, and what the model shows
is made once for each different content: two readers who may see the same are shown the same object.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any, NamedTuple

PLAIN, KEYED = ("p0", "p1", "p2"), ("k0", "k1", "k2")
PLAIN_RULES = ("nobody", "signed_in", "role", "flagged", "in_red")
KEYED_RULES = (*PLAIN_RULES, "own", "in_team", "in_itself")
BY_KEY = ("own", "in_team", "in_itself")
SUBJECTS = ("ann", "bob", "cyd", "dan")
KEYS = ("ann", "bob", "red", "blue")
ROLES = ("", "a", "v", "a,v")
SELECTIONS = ("slices=*", "", "slices=k0/*,p0", "slices=k1/ann,k1/red,k0/red", "slices=k0/*,k1/*,k2/*")

State = dict[str, tuple[int, Any]]
"""The version and the value of each slice and instance, by its full name."""


class Action(NamedTuple):
    """Something that root dispatches."""

    type: str
    payload: dict[str, Any]
    key: str | None = None

    @property
    def name(self) -> str:
        family = self.type.partition("/")[0]
        return family if self.key is None else f"{family}/{self.key}"

    @property
    def body(self) -> dict[str, Any]:
        return {"type": self.type, "payload": self.payload} | ({} if self.key is None else {"key": self.key})


class Who(NamedTuple):
    """A person, with their roles, and what they ask for."""

    subject: str
    roles: str
    query: str

    @property
    def items(self) -> list[str]:
        return [item for item in self.query.partition("slices=")[2].split(",") if item]

    @property
    def names(self) -> frozenset[str]:
        """Of all slices and instances that there can be, those that they ask for."""
        items = self.items
        families = {item.removesuffix("/*") for item in items if item.endswith("/*")}
        everything = (*PLAIN, *(f"{name}/{key}" for name in KEYED for key in KEYS))
        return frozenset(
            name
            for name in everything
            if "*" in items or name in items or name.partition("/")[0] in families or ("/" not in name and not items)
        )


class Shown(NamedTuple):
    """What somebody is shown."""

    state: dict[str, Any]
    versions: dict[str, int]


class Model:
    """`rules` has the name of the rule of each slice. `state` is what everything begins with, at a seq."""

    def __init__(self, rules: dict[str, str], state: State, seq: int) -> None:
        self.rules, self.head = rules, seq
        self.tags: dict[int, str] = {}
        self.revoked: dict[str, tuple[int, int]] = {}
        """The seq of the revocation of a subject, and the moment: credentials that were issued later are valid."""
        self.reinstated: dict[str, int] = {}
        self._seqs, self._states = [seq], [state]
        self._names: dict[Who, frozenset[str]] = {}
        self._shown: dict[tuple[Who, int], Shown] = {}
        self._contents: dict[tuple[bool, frozenset[tuple[str, int]]], Shown] = {}

    def described(self, seq: int) -> dict[str, Any]:
        """For the message of a failure: the rules, and the changes around a seq."""
        index = bisect_right(self._seqs, seq)
        around = range(max(1, index - 8), min(len(self._seqs), index + 2))
        changes = [
            (self._seqs[n], self.tags.get(self._seqs[n]), name, self._states[n].get(name))
            for n in around
            for name in {*self._states[n], *self._states[n - 1]}
            if self._states[n].get(name) != self._states[n - 1].get(name)
        ]
        return {"rules": self.rules, "changes": changes}

    # what happens

    @property
    def now(self) -> State:
        return self._states[-1]

    def at(self, seq: int) -> State:
        return self._states[bisect_right(self._seqs, seq) - 1]

    def between(self, since: int) -> list[State]:
        """The states at that seq and after it."""
        return self._states[max(0, bisect_right(self._seqs, since) - 1) :]

    def apply(self, actions: list[Action], changes: list[tuple[str, int]], tag: str) -> None:
        """What a request has done, which its answer must have told: each change, with its version."""
        told = iter(changes)
        for action in actions:
            value, before = after(action, self.now.get(action.name)), self.now.get(action.name)
            if (None if before is None else before[1]) == value:
                continue
            name, version = next(told, ("nothing", 0))
            assert name == action.name, (name, action, before, value, self.head, changes)
            assert version > self.head, (version, self.head)
            state = {each: kept for each, kept in self.now.items() if each != name}
            self._states.append(state if value is None else state | {name: (version, value)})
            self._seqs.append(version)
            self.tags[version], self.head = tag, version
        assert not list(told), f"{actions} have changed less than {changes}"

    def apply_nothing(self, actions: list[Action], seq: int) -> None:
        """A request that has changed nothing, as of that seq."""
        for action in actions:
            before = self.at(seq).get(action.name)
            assert (None if before is None else before[1]) == after(action, before), (
                action,
                before,
                seq,
                self._seqs[-12:],
                self.now.get(action.name),
            )

    def note(self, seq: int) -> None:
        """Something has happened that nobody is shown."""
        self.head = max(self.head, seq)

    # what everybody may see

    def readable(self, who: Who, name: str, state: State) -> bool:
        family, _, key = name.partition("/")
        match self.rules.get(family, "nobody"):
            case "signed_in":
                return True
            case "role":
                return "a" in who.roles.split(",")
            case "flagged":
                return bool(state["flag"][1]["on"])
            case "in_red":
                return _has(state.get("team/red"), who.subject)
            case "own":
                return who.subject == key
            case "in_team":
                return _has(state.get(f"team/{key}"), who.subject)
            case "in_itself":
                return _has(state.get(name), who.subject)
        return False

    def knows(self, who: Who, state: State) -> bool:
        """Whether they may know the slices that they name. If the key decides, only the instances are secret."""
        families = {item.partition("/")[0] for item in who.items if item != "*"}
        return all(self.rules[each] in BY_KEY or self.readable(who, each, state) for each in families)

    def shown(self, who: Who, seq: int) -> Shown:
        index = bisect_right(self._seqs, seq) - 1
        found = self._shown.get((who, index))
        if found is None:
            if len(self._shown) > 100_000:
                self._shown.clear()
            found = self._shown[who, index] = self._show(who, self._states[index])
        return found

    def _show(self, who: Who, state: State) -> Shown:
        asked = self._names.get(who) or self._names.setdefault(who, who.names)
        names = [name for name in state if name in asked and self.readable(who, name, state)]
        viewing = "v" in who.roles.split(",")
        content = (viewing, frozenset((name, state[name][0]) for name in names))
        found = self._contents.get(content)
        if found is None:
            values = {name: state[name][1] for name in names}
            if viewing:
                values = {name: {"tens": value["n"] // 10} for name, value in values.items()}
            found = self._contents[content] = Shown(values, dict(content[1]))
        return found


def after(action: Action, before: tuple[int, Any] | None) -> Any:
    """The value that an action leads to; None if there is nothing."""
    family, _, what = action.type.partition("/")
    if what == "deleted":
        return None
    value: Any = {"members": []} if family == "team" else {"n": 0, "members": []}
    value = value if before is None else before[1]
    member, members = action.payload.get("member"), value.get("members", [])
    if what in ("set_to", "turned"):
        return value | action.payload
    if what in ("added", "joined"):
        return value | {"members": members if member in members else [*members, member]}
    return value | {"members": [each for each in members if each != member]}


def _has(team: tuple[int, Any] | None, subject: str) -> bool:
    return team is not None and subject in team[1]["members"]
