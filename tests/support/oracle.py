"""What everybody should see, by a model that knows nothing of how the server finds it out.

The model keeps the whole state at every position, and asks every rule anew each time. A reader must hold exactly what
the model shows it at the position of each frame that it receives: nothing that is forbidden, nothing that is missing.

Invariants: shares no code with the product. Every action is dispatched by one caller, one after the other, so that the
model has the state before any reader is looked at.
"""

from __future__ import annotations

import copy
import json
import random
import time
import urllib.request
from typing import Any

from tests.support.plain_client import Frame, PlainClient
from tests.support.server import Server

PLAIN, KEYED = ("p0", "p1", "p2"), ("k0", "k1", "k2")
PLAIN_RULES = ("nobody", "signed_in", "role", "flagged", "in_red")
KEYED_RULES = (*PLAIN_RULES, "own", "in_team", "in_itself")
SUBJECTS = ("ann", "bob", "cyd", "dan")
KEYS = ("ann", "bob", "red", "blue")
ROLES = ("", "a", "v", "a,v")
SELECTIONS = ("slices=*", "", "slices=k0/*,p0", "slices=k1/ann,k1/red,k0/red", "slices=k0/*,k1/*,k2/*")
ROOT_TOKEN = "root:root:0"


class Reader(PlainClient):
    """A client who knows who it is, and what it has received."""

    def __init__(self, port: int, query: str, subject: str, roles: str) -> None:
        super().__init__(port, query, token=f"{subject}:{roles}:1")
        self.subject, self.roles = subject, set(roles.split(","))

    def names(self, state: dict[str, Any]) -> set[str]:
        """The slices that its query asks for."""
        text = self.target.partition("slices=")[2]
        if not text:
            return {name for name in state if "/" not in name}
        asked = text.split(",")
        return {name for name in state if "*" in asked or name in asked or f"{name.partition('/')[0]}/*" in asked}


class Oracle:
    """A server with random rules, its model, and its readers."""

    def __init__(self, server: Server, rules: dict[str, str]) -> None:
        self.server, self.rules = server, rules
        self.readers: list[Reader] = []
        self.delivered = 0
        first = self._request("state", {"slices": "*"})
        self.state: dict[str, Any] = first["slices"]
        self.at: dict[str, dict[str, Any]] = {first["position"]: copy.deepcopy(self.state)}
        self.head: str = first["position"]

    # the model

    def readable(self, reader: Reader, name: str, state: dict[str, Any]) -> bool:
        family, _, key = name.partition("/")
        me = reader.subject
        match self.rules.get(family, "nobody"):
            case "signed_in":
                return True
            case "role":
                return "a" in reader.roles
            case "flagged":
                return bool(state["flag"]["on"])
            case "in_red":
                return me in state.get("team/red", {"members": ()})["members"]
            case "own":
                return me == key
            case "in_team":
                return me in state.get(f"team/{key}", {"members": ()})["members"]
            case "in_itself":
                return me in state[name]["members"]
        return False

    def known(self, reader: Reader) -> bool:
        """Whether the reader may know the slices that it names. If the key decides, only the instances are secret."""
        text = reader.target.partition("slices=")[2]
        families = {each.partition("/")[0] for each in text.split(",") if each not in ("", "*")}
        by_key = ("own", "in_team", "in_itself")
        return all(self.rules[each] in by_key or self.readable(reader, each, self.state) for each in families)

    def visible(self, reader: Reader, state: dict[str, Any]) -> dict[str, Any]:
        shown = {name: state[name] for name in reader.names(state) if self.readable(reader, name, state)}
        if "v" in reader.roles:
            shown = {name: {"tens": value["n"] // 10} for name, value in shown.items()}
        return shown

    # what happens

    def dispatch(self, type: str, payload: dict[str, Any], key: str | None = None) -> None:
        """An action by root, and what the model makes of it."""
        body = {"type": type, "payload": payload} | ({} if key is None else {"key": key})
        answer = self._request("dispatch", body=body)
        self._model(type, payload, key)
        self.head = answer["position"]
        self.at[self.head] = copy.deepcopy(self.state)

    def _model(self, type: str, payload: dict[str, Any], key: str | None) -> None:
        family, _, what = type.partition("/")
        name = family if key is None else f"{family}/{key}"
        if what == "deleted":
            self.state.pop(name, None)
            return
        initial: dict[str, Any] = {"members": []} if family == "team" else {"n": 0, "members": []}
        value = self.state.setdefault(name, initial)
        member = payload.get("member")
        if what == "set_to":
            value["n"] = payload["n"]
        elif what == "turned":
            value["on"] = payload["on"]
        elif what in ("added", "joined") and member not in value["members"]:
            value["members"].append(member)
        elif what in ("removed", "left") and member in value["members"]:
            value["members"].remove(member)

    def _request(self, path: str, query: dict[str, str] | None = None, body: Any = None) -> Any:
        url = f"{self.server.url}/{path}" + (f"?slices={query['slices']}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {ROOT_TOKEN}", "Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=30) as response:
            return json.load(response)

    def join(self, query: str, subject: str, roles: str) -> None:
        reader = Reader(self.server.port, query, subject, roles)
        self.readers.append(reader)
        self.connect(reader)

    def connect(self, reader: Reader) -> None:
        reader.connect()
        assert reader.status == (200 if self.known(reader) else 404), reader.head
        if reader.status == 404:
            reader.close()
        else:
            self.follow(reader)

    def follow(self, reader: Reader) -> None:
        """Reads until the reader holds the state of the head, and looks at what it holds at every frame on the way."""
        for frame in reader.frames():
            self.check(reader, frame)
            if reader.state == self.visible(reader, self.state):
                return
        raise AssertionError(f"the stream of {reader.token} ended before {self.head}: {reader.last_id}")

    def check(self, reader: Reader, frame: Frame) -> None:
        assert frame.event != "stream.end", frame
        self.delivered += 1
        if frame.event == "state.resumed" or frame.id not in self.at:
            assert frame.event == "state.resumed" or "revocation" not in str(frame), frame
            return
        expected = self.visible(reader, self.at[frame.id])
        assert reader.state == expected, (reader.token, reader.target, frame, self.rules)

    def follow_all(self) -> None:
        """What comes to those who already hold the state of the head is looked at later."""
        for reader in self.readers:
            if reader.socket is not None and reader.state != self.visible(reader, self.state):
                self.follow(reader)

    def settle(self) -> None:
        """Everybody reads until a frame of the head comes: a heartbeat, if nothing else does."""
        for reader in self.readers:
            if reader.socket is not None and reader.last_id != self.head:
                for frame in reader.frames():
                    self.check(reader, frame)
                    if frame.id == self.head:
                        break
                assert reader.last_id == self.head

    def cut(self, reader: Reader) -> None:
        reader.close()

    def resume(self, reader: Reader) -> None:
        if reader.socket is None:
            self.connect(reader)

    def restart(self) -> None:
        self.server.kill()
        self.server.start()
        for reader in self.readers:
            reader.close()
            reader.port = self.server.port
            self.connect(reader)

    def close(self) -> None:
        for reader in self.readers:
            reader.close()


def random_rules(chance: random.Random) -> dict[str, str]:
    return {name: chance.choice(PLAIN_RULES) for name in PLAIN} | {name: chance.choice(KEYED_RULES) for name in KEYED}


def random_action(oracle: Oracle, chance: random.Random) -> None:
    """One of all actions, those that change rights as often as the others."""
    kind = chance.random()
    if kind < 0.25:
        oracle.dispatch(
            f"team/{chance.choice(('joined', 'left'))}", {"member": chance.choice(SUBJECTS)}, chance.choice(KEYS)
        )
    elif kind < 0.3:
        oracle.dispatch("flag/turned", {"on": chance.random() < 0.5})
    else:
        name = chance.choice((*PLAIN, *KEYED))
        key = chance.choice(KEYS) if name in KEYED else None
        what = chance.choice(("set_to", "set_to", "added", "removed", *(("deleted",) if key else ())))
        member = {"member": chance.choice(SUBJECTS)}
        payload = {"n": chance.randrange(40)} if what == "set_to" else {} if what == "deleted" else member
        oracle.dispatch(f"{name}/{what}", payload, key)


def random_step(oracle: Oracle, chance: random.Random, readers: int) -> None:
    """Something that can happen: mostly actions, alone or several at a time."""
    kind = chance.random()
    if kind < 0.7:
        for _ in range(chance.choice((1, 1, 1, 2, 5))):
            random_action(oracle, chance)
    elif kind < 0.8 and len(oracle.readers) < readers:
        oracle.join(chance.choice(SELECTIONS), chance.choice(SUBJECTS), chance.choice(ROLES))
    elif oracle.readers:
        reader = chance.choice(oracle.readers)
        if kind < 0.9:
            oracle.cut(reader)
        else:
            oracle.resume(reader)
    oracle.follow_all()


def seed_of(given: int | None = None) -> int:
    """The seed of a run, printed so that it can be repeated."""
    seed = time.time_ns() % 1_000_000 if given is None else given
    print(f"seed {seed}")
    return seed
