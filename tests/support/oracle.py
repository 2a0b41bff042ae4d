"""An oracle of rights: servers on one journal, everybody who reads from them, and a model of what they may see.

Several callers dispatch at once, on every server. Their answers say in which order that has happened. A reader must
hold exactly what the model shows it at the position of each frame that it receives: nothing that is forbidden, nothing
that is missing. When its credentials end, so must its stream, and after that nothing may come.

Invariants: the model has everything that has happened before a reader is looked at. What one server knows already may
lag behind the others; `seen` is how far it has shown that it got, and only what it may not know yet is excused.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.support.plain_client import Frame
from tests.support.rights_model import Action, Model, Shown, Who
from tests.support.rights_reader import Memory, Reader, described, seq_of
from tests.support.server import Server

ROOT_HEADERS = {"Authorization": "Bearer root:root::", "Content-Type": "application/json", "Host": "localhost"}
GRACE = 20.0
"""Seconds within which anything that must happen has happened, however busy the machine is."""
CUT = 0
"""In place of a status: the connection was closed while the request was being answered, as its credentials ended."""
LOST = (ConnectionError, http.client.HTTPException)


class Order:
    """A revocation of a subject, or its end: `revoke` or `reinstate`."""

    def __init__(self, what: str, subject: str, node: int = 0) -> None:
        self.what, self.subject, self.node = what, subject, node


class Request:
    """Actions that take effect together, and the server that is asked."""

    def __init__(self, actions: Sequence[Action], node: int = 0) -> None:
        self.actions, self.node = list(actions), node


class Patience:
    """How long a reader waits for something that must come. Heartbeats of the same position do not count."""

    def __init__(self, reader: Reader, seconds: float) -> None:
        self.reader, self.seconds = reader, seconds
        self.at, self.since = reader.last_id, time.monotonic()

    def check(self) -> None:
        now = time.monotonic()
        if self.reader.last_id != self.at:
            self.at, self.since = self.reader.last_id, now
        assert now < self.since + self.seconds, f"it does not end, or holds too little: {described(self.reader)}"


class Oracle:
    """Servers with these rules, their model, and their readers. `grace`: see GRACE."""

    def __init__(self, servers: Sequence[Server], rules: dict[str, str], *, grace: float = GRACE) -> None:
        self.servers, self.grace = servers, grace
        self.readers: list[Reader] = []
        self.memory: Memory = {}
        self.counts: Counter[str] = Counter()
        self.moment, self.number = 0, 0
        self.slowest = 0.0
        """Of the seconds from the answer to a revocation until all of its streams were seen to have ended."""
        with urllib.request.urlopen(
            urllib.request.Request(f"{servers[0].url}/state?slices=*", headers=ROOT_HEADERS), timeout=30
        ) as response:
            first = json.load(response)
        state = {name: (first["versions"][name], value) for name, value in first["slices"].items()}
        self.model = Model(rules, state, seq_of(first["position"]))
        self.seen = [0 for _ in servers]
        self.spare: list[list[http.client.HTTPConnection]] = [[] for _ in servers]

    @property
    def delivered(self) -> int:
        """The frames that were looked at, without heartbeats."""
        return sum(self.counts[event] for event in ("state.initial", "state.update", "state.catchup", "state.resumed"))

    # what happens

    def dispatch(self, *actions: Action, node: int = 0) -> None:
        """A request by root, alone."""
        self.happen([Request(actions, node)])

    def order(self, what: str, subject: str, node: int = 0) -> None:
        self.happen([], [Order(what, subject, node)])

    def happen(
        self,
        requests: Sequence[Request],
        orders: Sequence[Order] = (),
        *,
        joining: Sequence[tuple[Reader, int]] = (),
        killed: Sequence[int] = (),
    ) -> None:
        """Requests, orders and joins that are under way together, while servers are killed and started again."""
        known = list(self.seen)  # what a server answers now may be older than what it will have shown by then
        asked = [(each, self._asked(each)) for each in (*requests, *orders)]
        for reader, node in joining:
            self._ask(reader, node)
        for node in killed:
            self._kill(node)
        answers = [(each, self._answer(each, *pending)) for each, pending in asked]
        self._happened([(each, answer) for each, answer in answers if isinstance(each, Request)])
        if orders:
            self._next_moment()
        for each, answer in answers:
            if isinstance(each, Order):
                self._ordered(each, answer["seq"])
        for reader, node in joining:
            if node in killed:
                reader.close()
            else:
                self._joined(reader, known[node], {each.subject for each in orders})
        if orders:
            self._see_the_ends()

    def _see_the_ends(self) -> None:
        """Everybody whose credentials were revoked reads to the end, before they are valid again."""
        began = time.monotonic()
        for reader in self.readers:
            if reader.open and self._revocation(reader) is not None:
                self.follow(reader)
        self.slowest = max(self.slowest, time.monotonic() - began)

    def _next_moment(self) -> None:
        """Credentials of a later moment have a later time, too: it is in whole milliseconds."""
        self.moment += 1
        until = int(time.time() * 1000) + 1
        while int(time.time() * 1000) < until:
            pass

    def _asked(self, what: Request | Order) -> tuple[http.client.HTTPConnection, str, bytes]:
        if isinstance(what, Order):
            path, body = f"/orders/{what.what}/{what.subject}", b""
        else:
            self.number += 1
            actions = [action.body for action in what.actions]
            path, body = "/dispatch", json.dumps({"actions": actions, "id": f"oracle-{self.number}"}).encode()
        return self._sent(what.node, path, body), path, body

    def _sent(self, node: int, path: str, body: bytes) -> http.client.HTTPConnection:
        """The connection on which a request was sent: a spare one, unless the server has closed it meanwhile."""
        spare = self.spare[node]
        while spare:
            caller = spare.pop()
            try:
                caller.request("POST", path, body, ROOT_HEADERS)
            except LOST:
                caller.close()
            else:
                return caller
        caller = http.client.HTTPConnection("127.0.0.1", self.servers[node].port)
        caller.request("POST", path, body, ROOT_HEADERS)
        return caller

    def _answer(self, what: Request | Order, caller: http.client.HTTPConnection, path: str, body: bytes) -> Any:
        """The answer, by trying again with the same id as long as the outcome is unknown."""
        until = time.monotonic() + 2 * GRACE
        while True:
            try:
                with caller.getresponse() as response:
                    text = response.read()
                if response.status == 200:
                    self.spare[what.node].append(caller)
                    return json.loads(text)
                assert response.status == 503, (response.status, text)
            except LOST:
                caller.close()
            assert time.monotonic() < until, f"no answer to {path}"
            self.counts["repeats"] += 1
            caller = self._sent(what.node, path, body)

    def _happened(self, answers: list[tuple[Request, Any]]) -> None:
        """The model does what the answers say, in the order that they say."""
        nothing: list[tuple[Request, Any]] = []
        changing: list[tuple[int, Request, Any]] = []
        for request, answer in answers:
            if answer["changes"]:
                changing.append((answer["changes"][0]["version"], request, answer))
            else:
                nothing.append((request, answer))
        for _, request, answer in sorted(changing, key=lambda each: each[0]):
            changes = [(change["slice"], change["version"]) for change in answer["changes"]]
            assert seq_of(answer["position"]) == changes[-1][1], answer
            self.model.apply(request.actions, changes, answer["position"].partition(".")[2])
            self._knows(request.node, changes[-1][1])
        for request, answer in nothing:  # the position is one of the journal, which the server may not have reached
            self.model.apply_nothing(request.actions, seq_of(answer["position"]))
        self.counts["requests"] += len(answers)

    def _knows(self, node: int, seq: int) -> None:
        """A server has shown that it knows what has happened up to a seq."""
        self.seen[node] = max(self.seen[node], seq)

    def _ordered(self, order: Order, seq: int) -> None:
        self.model.note(seq)
        self._knows(order.node, seq)
        self.counts[f"{order.what}d"] += 1
        if order.what == "revoke":
            self.model.revoked[order.subject] = (seq, self.moment)
            self.model.reinstated.pop(order.subject, None)
        elif self.model.revoked.pop(order.subject, None) is not None:
            self.model.reinstated[order.subject] = seq

    # readers

    def new_reader(self, who: Who, *, dated: bool = False, lifetime: float | None = None) -> Reader:
        """`dated`: the credentials tell when they were issued. `lifetime`: for how many seconds they are valid."""
        reader = Reader(who, self.memory, dated=dated)
        reader.log_in(self.moment, lifetime)
        self.readers.append(reader)
        return reader

    def join(self, who: Who, node: int = 0, *, dated: bool = False, lifetime: float | None = None) -> Reader:
        reader = self.new_reader(who, dated=dated, lifetime=lifetime)
        self.connect(reader, node)
        return reader

    def connect(self, reader: Reader, node: int) -> None:
        known = self.seen[node]
        self._ask(reader, node)
        self._joined(reader, known, set())

    def renew(self, reader: Reader, lifetime: float | None = None) -> None:
        """Logs in again, if the credentials are not valid any more."""
        if self._why_not(reader) is not None or reader.ended:
            reader.log_in(self.moment, lifetime)

    def _ask(self, reader: Reader, node: int) -> None:
        reader.node, reader.port, reader.ended = node, self.servers[node].port, ""
        reader.asked_at = time.time()
        reader.dial(self.grace)
        reader.ask(reader.last_id)

    def _joined(self, reader: Reader, known: int, in_flux: set[str]) -> None:
        """Looks at the answer to a reader who has asked when the server had shown that it knew `known`."""
        try:
            reader.answered()
        except (EOFError, ConnectionError):
            reader.status, reader.head = CUT, ""
        allowed = self._allowed(reader, known, in_flux)
        assert reader.status in allowed, (reader.status, allowed, described(reader), self.model.rules, reader.head)
        self.counts[f"answered {reader.status}"] += 1
        if reader.status != 200:
            reader.close()
            return
        frame = self._next(reader)  # what a reader holds who comes with a cursor may be what it is shown now
        if frame is not None:
            assert frame.event in ("state.initial", "state.resumed", "stream.end"), frame
            self.follow(reader)

    def _allowed(self, reader: Reader, since: int, in_flux: set[str]) -> set[int]:
        """The statuses, or CUT, that a server may answer with that knows what happened up to `since`, or some more."""
        subject, why_not = reader.who.subject, self._why_not(reader)
        valid, invalid = why_not is None, why_not is not None
        if why_not == "expired":
            valid = reader.expires is not None and reader.asked_at < reader.expires
        elif subject in in_flux or since < self._decided(subject):
            valid = invalid = True
        states = self.model.between(since)
        answers = {200 if self.model.knows(reader.who, state) else 404 for state in states} if valid else set()
        return answers | ({401, CUT} if invalid else set())

    def _decided(self, subject: str) -> int:
        """The seq of what says whether somebody's credentials are valid."""
        revoked = self.model.revoked.get(subject)
        return self.model.reinstated.get(subject, 0) if revoked is None else revoked[0]

    def _why_not(self, reader: Reader) -> str | None:
        """Why the credentials of a reader are not valid; None if they are."""
        if self._revocation(reader) is not None:
            return "revoked"
        return "expired" if _has_expired(reader) else None

    def _revocation(self, reader: Reader) -> int | None:
        """The seq at which the credentials of a reader were revoked."""
        seq, moment = self.model.revoked.get(reader.who.subject, (None, 0))
        return seq if reader.moment is None or reader.moment < moment else None

    def follow(self, reader: Reader) -> None:
        """Reads until the reader holds what it is shown now, or until its stream has ended as it must."""
        patience = Patience(reader, self.grace)
        while reader.open and (self._revocation(reader) is not None or not self._is_current(reader)):
            if self._next(reader) is None:
                return
            patience.check()

    def _is_current(self, reader: Reader) -> bool:
        return reader.held is self.model.shown(reader.who, self.model.head)

    def _next(self, reader: Reader) -> Frame | None:
        """Reads one frame, and looks at it. None if the stream has ended as it must."""
        try:
            frame = reader.next()
        except TimeoutError:
            raise AssertionError(f"nothing comes, not even a heartbeat: {described(reader)}") from None
        assert frame is not None, f"a stream ended without a word: {described(reader)}"
        if frame.event == "stream.end":
            self._end(reader, frame)
            return None
        self.check(reader, frame)
        return frame

    def check(self, reader: Reader, frame: Frame) -> None:
        assert frame.id is not None
        seq, _, tag = frame.id.partition(".")
        at = int(seq)
        assert at <= self.model.head, ("nobody has done that", frame, described(reader))
        assert tag == self.model.tags.get(at, tag), ("another history", frame, described(reader))
        revoked = self._revocation(reader)
        assert revoked is None or at < revoked, ("delivered after a revocation", revoked, frame, described(reader))
        shown = reader.held if frame.event == "state.resumed" else self.model.shown(reader.who, at)
        same = reader.received is shown or reader.received == shown
        assert same, (_difference(reader.received, shown), described(reader), frame, self.model.described(at))
        reader.keep(frame, shown)
        self._knows(reader.node, at)
        self.counts[frame.event] += 1

    def _end(self, reader: Reader, frame: Frame) -> None:
        """The end of a stream must have a reason, and nothing may come after it."""
        reason, revoked = frame.data["reason"], self._revocation(reader) is not None
        good = revoked if reason == "revoked" else reason == "expired" and _has_expired(reader)
        assert good, ("a stream ended", frame, described(reader))
        assert reader.next() is None, "something came after the end"
        reader.ended = reason
        self.counts[f"ended {reader.ended}"] += 1

    def follow_all(self) -> None:
        """What comes to those who already hold what they are shown now is looked at later."""
        for reader in self.readers:
            if reader.open:
                self.follow(reader)
        if len(self.memory) > 20_000:
            self.memory.clear()

    def dismiss(self) -> None:
        """Forgets the readers who were refused, or cut, before they held anything: a new one is their equal."""
        self.readers = [reader for reader in self.readers if reader.open or reader.last_id]

    def settle(self) -> None:
        """Everybody reads until a frame of the head comes: a heartbeat, if nothing else does."""
        for reader in self.readers:
            patience = Patience(reader, self.grace)
            while reader.open and (seq_of(reader.last_id) < self.model.head or self._why_not(reader) is not None):
                self._next(reader)
                patience.check()

    def cut(self, reader: Reader, frames: int = 0) -> None:
        """Cuts the connection of a reader who has read at most that many of the frames that it is behind."""
        while frames and reader.open and not self._is_current(reader) and self._next(reader) is not None:
            frames -= 1
        reader.close()

    def resume(self, reader: Reader, node: int = 0) -> None:
        """Connects a reader again, with its cursor."""
        if not reader.open:
            self.connect(reader, node)

    def restart(self, node: int) -> None:
        """kill -9, and all of its readers return."""
        lost = [reader for reader in self.readers if reader.open and reader.node == node]
        self.happen([], killed=[node])
        for reader in lost:
            self.connect(reader, node)

    def _kill(self, node: int) -> None:
        self.servers[node].kill()
        for reader in self.readers:
            if reader.node == node:
                reader.close()
        for caller in self.spare[node]:
            caller.close()
        self.spare[node].clear()
        self.servers[node].start()
        self.counts["kills"] += 1

    def close(self) -> None:
        for each in (*self.readers, *(caller for spare in self.spare for caller in spare)):
            each.close()


def _difference(received: Shown, shown: Shown) -> dict[str, Any]:
    """What was received and what should have been, where these differ."""
    names = {*received.state, *shown.state, *received.versions, *shown.versions}
    both = {
        name: [(each.versions.get(name), each.state.get(name)) for each in (received, shown)] for name in sorted(names)
    }
    return {name: pair for name, pair in both.items() if pair[0] != pair[1]}


def _has_expired(reader: Reader) -> bool:
    return reader.expires is not None and time.time() >= reader.expires
