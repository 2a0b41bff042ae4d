"""GET /inspect: the page that shows a server to its developers, its modules, and who may use it.

The page asks the ordinary routes, so it shows what its user may read. Readers, weights and runs of chats say more about
a server, and are for operators: those whom the rule `inspect` of `create_app` allows.

Invariants: the page and its modules contain nothing of the server's state, so everybody gets them, as a browser cannot
send a token for a page. Unless it was switched on, the page exists only for a browser on the server's own machine, by a
name of this machine and without a proxy. Where it is off, its routes are not found.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler
from msgspec import Struct

from statestream.browser import client_handler as modules_handler
from statestream.browser import file_handler, inspector_handler
from statestream.core.errors import Forbidden, NotFound
from statestream.core.principal import Identity
from statestream.core.rules import Rule
from statestream.server.authentication import AUTH
from statestream.server.contract import Answer, Contract, Parameter, Route
from statestream.server.hosts import HOSTS, LISTENING, is_loopback, name_of
from statestream.server.request import identity_of

Inspect = bool | Callable[[Identity | None], bool] | None
"""Whether there is an inspector: False, True, or by a rule about operators. None: on loopback."""
PASSED_ON: Final = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")
"""Headers of proxies. Whoever sends one from this machine only switches the page off for themselves."""


class Inspector(Struct, frozen=True, kw_only=True):
    """`on` is None if it depends on where a request comes from. `rule` says who is an operator."""

    on: bool | None
    rule: Rule | None = None

    @classmethod
    def of(cls, setting: Any) -> Inspector:
        """That of the setting of `create_app`. Raises TypeError."""
        if setting is None or isinstance(setting, bool):
            return cls(on=setting)
        if not callable(setting):
            raise TypeError(f"expected `inspect` to be True, False or a rule, got {type(setting).__name__}")
        rule = Rule.of(setting, "the rule `inspect`")
        if rule.keyed or rule.stateful:
            raise TypeError("expected the rule `inspect` to have the parameter identity alone: it is not about a slice")
        return cls(on=True, rule=rule)


INSPECTOR: Final = web.AppKey("statestream_inspector", Inspector)


class _NoState:
    def get(self, name: str) -> Any:
        return None


def check_on(request: web.Request) -> None:
    """Raises NotFound if there is no inspector for the sender of a request."""
    on = request.config_dict[INSPECTOR].on
    if not (_is_local(request) if on is None else on):
        raise NotFound("there is no inspector here; switch it on with --inspect or create_app(inspect=True)")


def check_operator(request: web.Request) -> None:
    """Raises NotFound, and Forbidden unless the sender of a request is an operator."""
    check_on(request)
    rule = request.config_dict[INSPECTOR].rule
    allowed = AUTH not in request.config_dict if rule is None else rule.allows(identity_of(request), None, _NoState())
    if not allowed:
        raise Forbidden("you are not an operator of this server; create_app(inspect=…) declares who is")


def _is_local(request: web.Request) -> bool:
    """Whether a request comes from this machine, by a name of it, to a server that only this machine reaches."""
    if HOSTS in request.config_dict or any(name in request.headers for name in PASSED_ON):
        return False
    listening = request.config_dict.get(LISTENING)
    here = [] if listening is None else list(listening.addresses)
    ends = (request.get_extra_info("sockname"), request.get_extra_info("peername"))
    here += [end[0] if isinstance(end, tuple) and end else "" for end in ends]
    return all(map(is_loopback, here)) and is_loopback(name_of(request.host))


def _where_on(handler: Handler) -> Handler:
    """A handler that answers only where the inspector is on."""

    async def serve(request: web.Request) -> web.StreamResponse:
        check_on(request)
        return await handler(request)

    return serve


NAME: Final = Parameter(name="name", description="The name of a module.", schema={"type": "string"}, place="path")


def _file(path: str, handler: Handler, name: str, summary: str, media_type: str) -> Route:
    answers = (
        Answer(description="The file.", media_type=media_type, headers=("ETag",)),
        Answer(description="It is still what `If-None-Match` names.", status=304, headers=("ETag",)),
    )
    parameters = (NAME,) if "{name}" in path else ()
    contract = Contract(name=name, summary=summary, answers=answers, parameters=parameters, access="open")
    return Route(method="GET", path=path, handler=_where_on(handler), contract=contract)


PAGE: Final = (
    _file("/inspect", file_handler("inspector/page.html"), "inspect", "The page of the inspector.", "text/html"),
    _file("/inspect/js/{name}", modules_handler(), "inspect_client", "A module of the web client.", "text/javascript"),
    _file(
        "/inspect/js/inspector/{name}",
        inspector_handler(),
        "inspect_module",
        "A module of the inspector.",
        "text/javascript",
    ),
)
"""What contains nothing of the state."""
