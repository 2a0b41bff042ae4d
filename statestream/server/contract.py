"""What a route takes and answers, declared beside its handler, and the routes of an application.

Both documents for programs, of OpenAPI and of AsyncAPI, are made from these declarations and from nothing else.

Invariants: the only way to add a route of statestream's own, so no route can lack its declaration. Bodies, answers and
messages are declared as the types that the code itself uses. Declarations never change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from aiohttp import web
from aiohttp.typedefs import Handler
from msgspec import Struct

from statestream.core.errors import StatestreamError
from statestream.core.values import MAX_INT

Schema = dict[str, Any]
Access = Literal["open", "anybody", "identity"]
"""Who is answered: anybody without a look at credentials; anybody, with what they may see; somebody with an identity.

It matters only if the application has an authenticator.
"""
Carrier = Literal["events", "lines", "text", "socket"]
"""How messages travel: as server-sent events, as lines of JSON, as bits of a text, or over a WebSocket."""

NAME: Final = "[a-z][a-z0-9_]{0,63}(/[A-Za-z0-9._~:@-]{1,128})?"
ITEM: Final = rf"(\*|[a-z][a-z0-9_]{{0,63}}/\*|{NAME})"
POSITION: Final[Schema] = {"type": "string", "pattern": r"^(0\.0|[1-9][0-9]{0,14}\.[A-Za-z0-9]{1,32})$"}


class Parameter(Struct, frozen=True, kw_only=True):
    """A parameter of the query, a header, or a part of the path, which is always required."""

    name: str
    description: str
    schema: Mapping[str, Any]
    place: Literal["query", "header", "path"] = "query"
    required: bool = False
    repeated: bool = False
    """Whether a query may have it several times."""


class Answer(Struct, frozen=True, kw_only=True):
    """One answer that is no error.

    `model` is the type of the body, or a function that returns the schema of the body for a reader, who may know some
    slices; None if it is not JSON.
    """

    description: str
    status: int = 200
    media_type: str | None = "application/json"
    model: Any = None
    headers: tuple[str, ...] = ()


class Messages(Struct, frozen=True, kw_only=True):
    """What travels in a stream or over a WebSocket: the types of the messages by their names.

    `takes` are a client's: those that it sends over a WebSocket.
    """

    carrier: Carrier
    sends: Mapping[str, Any]
    takes: Mapping[str, Any] = {}
    ending: str | None = None
    """The data of the last event, if it is not JSON."""


class Contract(Struct, frozen=True, kw_only=True):
    """What a route takes and answers. `errors` are those that not every route of its kind can answer with.

    `body` is a model, or a function that returns the schema of the body for a reader, who may know some actions.
    `content` has the schemas of a body that is not JSON, by media type. `cookie`: the cookie of a ticket counts as
    credentials. `sentences`: the route's own errors are plain text.
    """

    name: str
    summary: str
    answers: tuple[Answer, ...]
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    needs_body: bool = True
    content: Mapping[str, Schema] = {}
    errors: tuple[type[StatestreamError], ...] = ()
    access: Access = "anybody"
    cookie: bool = False
    sentences: bool = False
    messages: Messages | None = None


class Route(Struct, frozen=True, kw_only=True):
    """A route: its handler, and what it takes and answers. `head`: it answers HEAD like GET."""

    method: Literal["GET", "POST", "DELETE"]
    path: str
    handler: Handler
    contract: Contract
    head: bool = False

    @property
    def changes(self) -> bool:
        """Whether a page of another origin must not send it."""
        messages = self.contract.messages
        return self.method != "GET" or (messages is not None and messages.carrier == "socket")


ROUTES: Final = web.AppKey("statestream_routes", list[Route])
"""Those of an application that this package has added."""


def add_routes(app: web.Application, routes: Iterable[Route]) -> None:
    declared = app.setdefault(ROUTES, [])
    for route in routes:
        declared.append(route)
        if route.method == "GET":
            app.router.add_get(route.path, route.handler, allow_head=route.head)
        else:
            app.router.add_route(route.method, route.path, route.handler)


SLICES: Final = Parameter(
    name="slices",
    description="Names, `name/*` for a family, or `*`, separated by commas. Without it: every plain slice.",
    schema={"type": "string", "pattern": rf"^{ITEM}(,{ITEM})*$"},
)
CAUSE: Final = Parameter(
    name="cause", description="Whether causes contain payloads.", schema={"enum": ["brief", "full"]}
)
AT: Final = Parameter(name="at", description="The state as of this position.", schema=POSITION)
AFTER: Final = Parameter(name="after", description="Only what is after this position.", schema=POSITION)
LIMIT: Final = Parameter(
    name="limit", description="At most so many lines.", schema={"type": "integer", "minimum": 0, "maximum": MAX_INT}
)
