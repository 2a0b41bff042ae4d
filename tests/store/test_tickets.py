"""What is kept of tickets and passes does not grow, whoever asks for them."""

from __future__ import annotations

from functools import reduce
from typing import Any

import pytest

from statestream import Identity, Store
from statestream.core.principal import SERVER
from statestream.server.tickets import COOKIE, TIDY, Tickets
from statestream.store import tickets
from statestream.store.revocations import key_of

DEEP = reduce(lambda value, _: [value], range(60), 1)
ANN = Identity(subject="ann", roles=["editor"], claims={"sub": "ann", "deep": DEEP})


def kept(store: Store, subject: str) -> Any:
    return store.get(f"{tickets.NAME}/{key_of(subject)}")


async def issued(made: Tickets, identity: Identity = ANN) -> str:
    cookie, _, _ = (await made.issue(identity, "Path=/")).partition(";")
    return cookie.removeprefix(f"{COOKIE}=")


async def exchanged(made: Tickets, secret: str) -> str:
    found = await made.recognize(secret)
    assert found is not None
    assert found.renewed is not None
    return found.renewed.partition(";")[0].removeprefix(f"{COOKIE}=")


async def test_a_pass_is_for_the_identity_that_asked_for_the_ticket() -> None:
    async with Store([tickets.ticket_slice]) as store:
        made = Tickets(store.view(SERVER))
        secret = await exchanged(made, await issued(made))
        found = await made.recognize(secret)
        assert found is not None
        assert found.renewed is None
        assert found.identity.rights() == ANN.rights()
        assert found.identity.expires is not None


async def test_the_oldest_of_a_subject_makes_room() -> None:
    async with Store([tickets.ticket_slice]) as store:
        made = Tickets(store.view(SERVER))
        other = await exchanged(made, await issued(made, Identity(subject="bob")))
        passes = [await exchanged(made, await issued(made)) for _ in range(tickets.MAX_OF_A_SUBJECT + 1)]
        found = [await made.recognize(each) is not None for each in passes]
        assert found.count(False) == 1
        assert found[-1]
        assert await made.recognize(other) is not None
        unused = [await issued(made) for _ in range(tickets.MAX_OF_A_SUBJECT + 1)]
        assert await made.recognize(unused[-1]) is not None
        assert len(kept(store, "ann")["tickets"]) == tickets.MAX_OF_A_SUBJECT - 1
        assert len(kept(store, "ann")["passes"]) == tickets.MAX_OF_A_SUBJECT


async def test_what_has_lapsed_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Store([tickets.ticket_slice]) as store:
        made = Tickets(store.view(SERVER))
        living = await issued(made)
        monkeypatch.setattr(tickets, "TICKET_MS", 0)
        people = [Identity(subject=f"person {number}") for number in range(2 * TIDY)]
        stale = [await issued(made, each) for each in people]
        assert await made.recognize(stale[0]) is None
        for _ in range(6):  # one finds out who there is, and each of the next looks at some of them
            await issued(made)
        assert [each.subject for each in people if kept(store, each.subject) is not None] == []
        assert len(kept(store, "ann")["tickets"]) == 2, "the one that lives, and the newest"
        assert await made.recognize(living) is not None
