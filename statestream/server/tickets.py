"""POST /tickets, and the cookie by which an EventSource or a WebSocket shows whose it is.

Once a page has a stream or a WebSocket, the cookie also shows whose the pictures are that its elements load.

Invariants: the cookie counts for streams, for handshakes of WebSockets and for reading files of chats only, so no other
page can make a browser change anything with it. Reading a file never uses up a ticket, which may be meant for a stream.
A page gets it for other credentials, never for the cookie itself. Its attributes are decided
once, when it is issued. The secret is in the `Cookie` and `Set-Cookie` headers and nowhere else.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler
from msgspec import Struct

from statestream.core.change import Action, now_ms
from statestream.core.errors import Forbidden, Refused, Unauthenticated
from statestream.core.principal import Identity
from statestream.core.selection import Selection
from statestream.server.contract import Answer, Contract, Route
from statestream.server.dispatch_rate import admit
from statestream.server.origin import is_foreign
from statestream.server.request import MOUNT, check_query, identity_of
from statestream.store.revocations import key_of
from statestream.store.tickets import NAME, TICKET_MS, digest_of, entry_identity, holder_of, is_over
from statestream.store.view import StoreView

COOKIE: Final = "statestream_ticket"
MAX_COOKIES: Final = 4
"""A browser sends several if servers share a host name, or are mounted in one another."""
TIDY: Final = 10
"""How many subjects are looked at, whenever a ticket is issued, for whether anything of them is still valid."""
_SECRET: Final = re.compile(r"([0-9a-f]{32})\.[A-Za-z0-9_-]{43}", re.ASCII)
STALE: Final = "the ticket was used already, or has expired; get another one with POST /tickets"


class Recognized(Struct, frozen=True, kw_only=True):
    """Who has shown a pass, or a ticket. For a ticket, which is used now, `renewed` is the pass as a `Set-Cookie`."""

    identity: Identity
    renewed: str | None = None


class Tickets:
    """Issues tickets and recognizes who has one. `view` is the server's own."""

    def __init__(self, view: StoreView) -> None:
        self._view = view
        self._names: Iterator[str] = iter(())

    async def issue(self, identity: Identity, attributes: str) -> str:
        """A new ticket as a `Set-Cookie` with these attributes. Raises Unavailable."""
        key = key_of(identity.subject)
        secret = _new_secret(key)
        holder = {"holder": holder_of(identity), "expires": identity.expires}
        payload = {"ticket": digest_of(secret), "cookie": attributes, **holder}
        await self._view.dispatch([Action(type=f"{NAME}/issued", key=key, payload=payload), *await self._tidying()])
        return _set_cookie(secret, attributes, TICKET_MS)

    async def _tidying(self) -> list[Action]:
        """The removal of the next subjects who have nothing valid any more."""
        names, now = list(islice(self._names, TIDY)), now_ms()
        if not names:
            self._names = iter(self._view.versions(Selection.family(NAME)))
        states = await self._view.complete(lambda: self._view.states(names))
        over = [name for name, state in states.items() if is_over(state.value, now)]
        return [Action(type=f"{NAME}/lapsed", key=name.partition("/")[2]) for name in over]

    async def recognize(self, secret: str, *, exchange: bool = True) -> Recognized | None:
        """None if it is neither a pass nor a ticket, or not any more. Without `exchange`, only a pass counts.

        Raises Unavailable.
        """
        form = _SECRET.fullmatch(secret)
        if form is None:
            return None
        key, digest = form[1], digest_of(secret)
        entry = await self._entry(key, "passes", digest)
        if entry is None and await self._entry(key, "tickets", digest) is None:
            await self._view.caught_up()  # another process may have just issued it
            entry = await self._entry(key, "passes", digest)
        if entry is not None:
            return Recognized(identity=entry_identity(entry))
        if not exchange or await self._entry(key, "tickets", digest) is None:
            return None
        return await self._exchanged(key, digest)

    async def _exchanged(self, key: str, ticket: str) -> Recognized | None:
        secret = _new_secret(key)
        payload = {"ticket": ticket, "to": digest_of(secret)}
        try:
            await self._view.dispatch(Action(type=f"{NAME}/exchanged", key=key, payload=payload))
        except Refused:
            return None
        entry = await self._entry(key, "passes", payload["to"])
        if entry is None:
            return None
        renewed = _set_cookie(secret, entry["cookie"], entry["until"] - now_ms())
        return Recognized(identity=entry_identity(entry), renewed=renewed)

    async def _entry(self, key: str, kind: str, digest: str) -> Mapping[str, Any] | None:
        state = await self._view.complete(lambda: self._view.get(f"{NAME}/{key}"))
        entry: Mapping[str, Any] | None = None if state is None else state.value[kind].get(digest)
        return None if entry is None or entry["until"] <= now_ms() else entry


def _new_secret(key: str) -> str:
    """Begins with the subject's key, which says where to look for it; the rest cannot be guessed."""
    return f"{key}.{secrets.token_urlsafe(32)}"


def _set_cookie(secret: str, attributes: str, ms: int) -> str:
    return f"{COOKIE}={secret}; Max-Age={ms // 1000}; {attributes}"


TICKETS: Final = web.AppKey("statestream_tickets", Tickets)
STREAMS: Final = web.AppKey("statestream_streams", Collection[Handler])
"""The routes that an EventSource opens."""
PASSES: Final = web.AppKey("statestream_passes", list[Handler])
"""The routes that a pass opens, but no ticket."""
SET_COOKIE: Final = web.RequestKey("statestream_set_cookie", str)
"""Of the response."""


async def issue_ticket(request: web.Request) -> web.Response:
    """Raises Malformed, Forbidden, RateLimited, Unavailable."""
    check_query(request)
    identity = identity_of(request)
    if identity is None:
        raise Forbidden("a ticket is for somebody who has signed in")
    admit(request)
    request[SET_COOKIE] = await request.config_dict[TICKETS].issue(identity, _attributes(request))
    return web.Response(status=204)


def _attributes(request: web.Request) -> str:
    """Those of the cookie. The path is where the application is mounted.

    A browser does not keep a `Strict` cookie that a page of another site asks for, and sends one without `Secure` over
    plain HTTP.
    """
    path = request.get(MOUNT, "") + request.rel_url.raw_path.removesuffix("/tickets") or "/"
    found = ["HttpOnly", f"Path={path}"]
    if request.headers.get("Sec-Fetch-Site") == "cross-site":  # of an allowed origin
        return "; ".join([*found, "SameSite=None", "Secure", "Partitioned"])
    return "; ".join([*found, "SameSite=Strict", *(["Secure"] if _is_https(request) else [])])


def _is_https(request: web.Request) -> bool:
    """Whether the page that asks came by HTTPS, as its browser or a proxy says. Nobody gains anything by lying."""
    said = (request.headers.get("Origin", "").partition(":")[0], request.headers.get("X-Forwarded-Proto", ""))
    return request.secure or "https" in said


async def identity_of_cookie(request: web.Request) -> Identity | None:
    """Who opens a stream or a WebSocket, by the cookie; None without it. Raises Unauthenticated, Unavailable."""
    found, exchange = _secrets(request), _takes_cookie(request)
    if not found or not (exchange or _takes_pass(request)) or is_foreign(request):
        return None
    for secret in found[:MAX_COOKIES]:
        recognized = await request.config_dict[TICKETS].recognize(secret, exchange=exchange)
        if recognized is not None:
            if recognized.renewed is not None:
                request[SET_COOKIE] = recognized.renewed
            return recognized.identity
    raise Unauthenticated(STALE, kind="ticket")


def _secrets(request: web.Request) -> list[str]:
    """The values of the cookie: aiohttp's own parser gives only the last."""
    pairs = (pair.strip().partition("=") for each in request.headers.getall("Cookie", ()) for pair in each.split(";"))
    return [value for name, _, value in pairs if name == COOKIE]


def _takes_cookie(request: web.Request) -> bool:
    is_handshake = request.method == "GET" and request.headers.get("Upgrade", "").lower() == "websocket"
    return is_handshake or request.match_info.handler in request.config_dict[STREAMS]


def _takes_pass(request: web.Request) -> bool:
    return request.match_info.handler in request.config_dict.get(PASSES, ())


async def give_cookie(request: web.Request, response: web.StreamResponse) -> None:
    """For `on_response_prepare`: whatever the answer is, a ticket that it has cost is replaced."""
    cookie = request.get(SET_COOKIE)
    if cookie is not None:
        response.headers.add("Set-Cookie", cookie)


TICKET: Final = Route(
    method="POST",
    path="/tickets",
    handler=issue_ticket,
    contract=Contract(
        name="ticket",
        summary="Sets a cookie that opens one EventSource or WebSocket, which replaces it by one for all further ones.",
        answers=(Answer(description="The cookie is set.", status=204, media_type=None, headers=("Set-Cookie",)),),
        access="identity",
    ),
)
