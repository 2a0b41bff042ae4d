"""Checks of tickets: the cookies with which a browser opens streams, because it cannot send headers with them.

Invariants: a server need not offer tickets, so without them every check passes. It is asked with the credentials of the
run, and without any, when only the cookie may count.
"""

from __future__ import annotations

import asyncio
from typing import Final

from statestream.tools.conformance.servers.origin_checks import FOREIGN
from statestream.tools.conformance.servers.server_check import Section
from statestream.tools.conformance.servers.server_under_test import JSON, ResponseUnderTest, ServerUnderTest
from statestream.tools.conformance.violation import Violation, expect

TICKETS: Final = Section("Browsers: tickets")
TICKET_SECONDS: Final = 30
AT_ONCE: Final = 4


@TICKETS.check("A ticket is for somebody who has signed in, in a cookie that no script and no other site can use.")
async def ticket_cookie(server: ServerUnderTest) -> None:
    cookie = await _ticket(server)
    if cookie is None:
        return
    attributes = {name.strip().lower(): value for name, _, value in (part.partition("=") for part in cookie[1:])}
    expect("httponly" in attributes, "expected HttpOnly in the cookie of a ticket, got a cookie that scripts can read")
    same_site = attributes.get("samesite", "none").lower()
    expect(same_site == "strict", f"expected SameSite=Strict in the cookie of a ticket, got {same_site}")
    path, root = attributes.get("path", ""), server.target.url.path.rstrip("/") or "/"
    expect(path == root, f"expected the path {root} in the cookie of a ticket, got {path!r}")
    seconds = attributes.get("max-age", "0")
    expect(int(seconds) <= TICKET_SECONDS, f"expected a ticket of at most {TICKET_SECONDS} s, got Max-Age={seconds}")
    if server.target.url.scheme == "https":
        expect("secure" in attributes, "expected Secure in the cookie of a ticket for a page over HTTPS")
    expect(await _ticket(server) != cookie, "expected each ticket to be another, got the same twice")
    for headers in ({}, {"Cookie": cookie[0]}):
        answer = await server.anonymous("POST", "tickets", headers)
        what = "with a ticket only" if headers else "without credentials"
        expect(answer.status == 401, f"expected 401 for POST /tickets {what}, got {answer.shown()}")
        expect("Set-Cookie" not in answer.headers, f"expected no cookie for POST /tickets {what}, got one")


@TICKETS.check("A ticket opens one stream, whose answer replaces it by a pass.")
async def ticket_once(server: ServerUnderTest) -> None:
    cookie = await _ticket(server)
    if cookie is None:
        return
    kept = _replaced(await _stream(server, cookie[0]), cookie[0])
    expect(kept != cookie[0], "expected the ticket to be replaced, got the same cookie again")
    again = await _stream(server, cookie[0])
    expect(again.status == 401, f"expected 401 for a ticket that was used already, got status {again.status}")
    another = (await _ticket(server) or [""])[0]
    statuses = [each.status for each in await asyncio.gather(*(_stream(server, another) for _ in range(AT_ONCE)))]
    expect(
        sorted(statuses) == [200, *[401] * (AT_ONCE - 1)],
        f"expected one of {AT_ONCE} streams to open that come with the same ticket at once, got {statuses}",
    )


@TICKETS.check("A pass opens any number of streams, and counts for nothing else.")
async def passes(server: ServerUnderTest) -> None:
    cookie = await _ticket(server)
    if cookie is None:
        return
    kept = _replaced(await _stream(server, cookie[0]), cookie[0])
    for _ in range(2):
        status = (await _stream(server, kept)).status
        expect(status == 200, f"expected a pass to open a further stream, got status {status}")
    await _ignored(server, kept)
    unused = (await _ticket(server) or [""])[0]
    answer = await server.opened({**server.target.headers, "Cookie": unused})
    expect("Set-Cookie" not in answer.headers, "expected a ticket to be ignored beside credentials, but it was used")
    status = (await _stream(server, unused)).status
    expect(status == 200, f"expected a ticket that was ignored to be still valid, got status {status}")


async def _ignored(server: ServerUnderTest, kept: str) -> None:
    """A pass changes nothing about any other request, and nothing about a stream of a foreign page."""
    for method, path, more in (
        ("GET", "state", {}),
        ("GET", "history", {}),
        ("POST", "dispatch", JSON),
        ("GET", "stream/state", {"Origin": FOREIGN, "Sec-Fetch-Site": "cross-site"}),
    ):
        found = []
        for headers in (more, more | {"Cookie": kept}):
            if path == "stream/state":
                found.append((await server.opened(headers)).status)
            else:
                body = server.action() if method == "POST" else None
                found.append((await server.anonymous(method, path, headers, body)).status)
        what = f"{method} /{path}" + (" of a foreign page" if "Origin" in more else "")
        expect(found[0] == found[1], f"expected a pass to be ignored in {what}, got {found[1]} instead of {found[0]}")


async def _ticket(server: ServerUnderTest) -> list[str] | None:
    """The cookie of a new ticket, as `name=value` and its attributes; None if the server offers none to this run."""
    answer = await server.request("POST", "tickets", {})
    if answer.status in (404, 405) or (answer.status == 401 and not server.target.headers):
        return None
    expect(answer.status == 204, f"expected 204 for POST /tickets, got {answer.shown()}")
    return _cookie(answer)


def _cookie(answer: ResponseUnderTest) -> list[str]:
    text = answer.headers.get("Set-Cookie")
    if text is None:
        raise Violation("expected a cookie with a ticket or a pass, got none")
    return [part.strip() for part in text.split(";")]


def _replaced(answer: ResponseUnderTest, cookie: str) -> str:
    """The pass for which a stream has exchanged a ticket."""
    expect(answer.status == 200, f"expected a ticket to open a stream, got status {answer.status}")
    expect("Set-Cookie" in answer.headers, "expected the stream to replace the ticket by a pass, got no Set-Cookie")
    kept = _cookie(answer)[0]
    same = kept.partition("=")[0] == cookie.partition("=")[0]
    expect(same, "expected the pass in a cookie of the same name, so that it replaces the ticket")
    return kept


async def _stream(server: ServerUnderTest, cookie: str) -> ResponseUnderTest:
    return await server.opened({"Cookie": cookie})
