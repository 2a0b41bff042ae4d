"""What the clients of a few nodes have recorded: what they sent and how it ended, and everything that they were shown.

Invariants: it holds what was said, not what it means: `verdict` decides that. What readers were shown is kept in a few
bytes for each change, so that an hour of a thousand changes per second fits in memory. Values are compared as they
arrive: the first one of a version is kept, and every other must be equal to it. It shares no code with the product.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

REMOVED = 0
"""The mark of a slice that was removed."""
HIDDEN = "slice_version/"
"""How the names of slices begin that the journal has and nobody is shown."""


def mark(value: Any) -> int:
    """Stands for a JSON value: equal values have the same mark."""
    return hash(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)) or 1


def seq_of(position: str) -> int:
    return int(position.partition(".")[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """An acknowledgement: when it arrived, and what it says."""

    at: float
    position: str
    changes: tuple[tuple[str, int], ...]
    duplicate: bool


@dataclass(kw_only=True, slots=True)
class Request:
    """What was sent under an id, since when, and how it ended.

    Without answers, the outcome is unknown unless it was `refused`: by a status that says that nothing has changed.
    """

    id: str
    actions: tuple[tuple[str, str], ...]
    """Of each action, the type and the slice that it may change."""
    began: float
    impossible: bool = False
    """It expects a version that no slice has."""
    answers: list[Answer] = field(default_factory=list)
    refused: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """An answer to `GET /state`, and the newest change that the node had acknowledged before it was asked."""

    node: int
    at_least: int
    position: int
    versions: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """A frame that is not a single change. `versions` are those of all slices, or of a catch-up what it changes.

    In a catch-up, a version is negative if the slice was removed.
    """

    kind: Literal["state", "resumed", "catch-up", "heartbeat"]
    position: int
    versions: Mapping[str, int] = field(default_factory=dict)


class Sightings:
    """What any client was shown of each change: its slice, its value, its tag, and the id of its request."""

    def __init__(self) -> None:
        self.values: dict[int, tuple[str, int]] = {}
        self.tags: dict[int, str] = {}
        self.causes: dict[int, str] = {}
        self.contradictions: list[str] = []

    def position(self, position: str) -> int:
        text, _, tag = position.partition(".")
        seq = int(text)
        if (known := self.tags.setdefault(seq, tag)) != tag:
            self.contradictions.append(f"position {seq} was shown with the tags {known} and {tag}")
        return seq

    def value(self, name: str, version: int, shown: int) -> None:
        """A value, by its mark, of a version of a slice."""
        if (known := self.values.setdefault(version, (name, shown))) != (name, shown):
            what = "another value" if known[0] == name else f"as a change of {known[0]}"
            self.contradictions.append(f"version {version} of {name} was shown before with {what}")

    def cause(self, version: int, id: str) -> None:
        if (known := self.causes.setdefault(version, id)) != id:
            self.contradictions.append(f"change {version} was shown as made by {known} and by {id}")


class History:
    """Everything that one reader was shown, in order: the numbers of single changes, and other frames.

    It applies what it is shown, and notes where that is impossible.
    """

    def __init__(self, name: str, selection: str, sightings: Sightings) -> None:
        self.name, self.selection, self._sightings = name, selection, sightings
        self.shown: list[int | Shown] = []
        self.reasons: list[str] = []
        self.wrong: list[str] = []
        self.cursor = ""
        self._values: dict[str, Any] = {}
        self.versions: dict[str, int] = {}

    def selects(self, name: str) -> bool:
        items = self.selection.split(",")
        if name.startswith(HIDDEN):
            return False
        return "*" in items or name in items or f"{name.partition('/')[0]}/*" in items

    @property
    def at(self) -> int:
        """The number of the last change up to which the reader is complete; -1 before the first frame."""
        return seq_of(self.cursor) if self.cursor else -1

    def frame(self, event: str, id: str, data: Any) -> None:
        """Takes a frame of the stream that has an id."""
        position = self._sightings.position(id)
        if event == "state.update":
            self._sightings.cause(data["version"], data["cause"]["id"])
            if data["version"] != position:
                self.wrong.append(f"change {data['version']} has the position {id}")
            self._apply(data)
            self.shown.append(position)
        elif event == "state.catchup":
            for item in data["updates"]:
                self._apply(item)
            changed = {item["slice"]: -item["version"] if "removed" in item else item["version"]
                       for item in data["updates"]}  # fmt: skip
            self.shown.append(Shown(kind="catch-up", position=position, versions=changed))
        elif event == "state.initial":
            self.reasons.append(data["reason"])
            self._values, self.versions = data["slices"], dict(data["versions"])
            for name, version in self.versions.items():
                self._sightings.value(name, version, mark(self._values[name]))
            self.shown.append(Shown(kind="state", position=position, versions=data["versions"]))
        elif event == "state.resumed":
            self.shown.append(Shown(kind="resumed", position=position, versions=data["versions"]))
        else:
            self.shown.append(Shown(kind="heartbeat", position=position))
        self.cursor = id

    def _apply(self, item: Any) -> None:
        name, version = item["slice"], item["version"]
        held = self.versions.get(name, 0)
        if version <= held:
            self.wrong.append(f"version {version} of {name} came after {held}")
        if item["from"] != held:
            self.wrong.append(f"version {version} of {name} continues {item['from']}, but {held} was shown last")
        if "removed" in item:
            self._values.pop(name, None)
            self.versions.pop(name, None)
            self._sightings.value(name, version, REMOVED)
            return
        try:
            value = item["value"] if "value" in item else patched(self._values[name], item["patches"])
        except (KeyError, IndexError, TypeError):
            self.wrong.append(f"the patch to version {version} of {name} does not fit the value that was shown")
            return
        self._values[name], self.versions[name] = value, version
        self._sightings.value(name, version, mark(value))


def patched(value: Any, operations: Iterable[Any]) -> Any:
    """The value after the operations of a patch (RFC 6902) that the server may send. Raises LookupError, TypeError."""
    root = {"": orjson.loads(orjson.dumps(value))}
    for operation in operations:
        steps = [step.replace("~1", "/").replace("~0", "~") for step in operation["path"].split("/")]
        parent: Any = root
        for step in steps[:-1]:
            parent = parent[int(step)] if isinstance(parent, list) else parent[step]
        _operate(parent, steps[-1], operation)
    return root[""]


def _operate(parent: Any, key: str, operation: Any) -> None:
    at: Any = int(key) if isinstance(parent, list) else key
    if operation["op"] == "remove":
        del parent[at]
    elif operation["op"] == "add" and isinstance(parent, list):
        parent.insert(at, operation["value"])
    elif operation["op"] == "add":
        parent[at] = operation["value"]
    else:
        parent[at]  # what is replaced must exist
        parent[at] = operation["value"]


@dataclass(kw_only=True, slots=True)
class Evidence:
    """All of it. `newest` is the newest change that each node has acknowledged so far."""

    sightings: Sightings = field(default_factory=Sightings)
    requests: dict[str, Request] = field(default_factory=dict)
    histories: list[History] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    newest: dict[int, int] = field(default_factory=dict)
    unavailable: list[tuple[int, str | None]] = field(default_factory=list)
    """Of each answer with status 503, the node and Retry-After."""
    failures: list[str] = field(default_factory=list)
    """Answers that no client expects."""
    lost: int = 0
    """Requests whose connection ended, or that were given up, before there was an answer."""

    def reader(self, selection: str) -> History:
        history = History(f"reader {len(self.histories)} of {selection}", selection, self.sightings)
        self.histories.append(history)
        return history

    def figures(self) -> str:
        acknowledged = sum(1 for request in self.requests.values() if request.answers)
        unknown = sum(1 for request in self.requests.values() if not request.answers and not request.refused)
        return (
            f"{len(self.requests)} requests, {acknowledged} acknowledged, {unknown} with an unknown outcome; "
            f"{self.lost} answers lost, {len(self.unavailable)} times unavailable; {len(self.looks)} looks, "
            f"{sum(len(history.shown) for history in self.histories)} frames"
        )
