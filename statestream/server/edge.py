"""The edge: the part of a server through which all connections pass.

Invariants: every request passes `answer` before the application. The edge knows the requests that have a body: the
server ends none of them without an answer, and refuses none that arrived because it stops. Once the server stops, each
answer has `Connection: close`. No answer names the software, whichever application makes it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from aiohttp import HttpVersion10, HttpVersion11, web

from statestream.core.errors import Malformed, Unavailable
from statestream.server.complaints import Complaints
from statestream.server.connection import HttpConnection
from statestream.server.health import STOPPING
from statestream.server.problems import hide_software, last_problem, problem

POLL_SECONDS: Final = 0.02
NEW_SECONDS: Final = 0.25
"""When the server stops, a new connection has so long to be read from: what it has sent waits in the kernel."""
VERSIONS: Final = (HttpVersion10, HttpVersion11)

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class EdgeRequest(web.Request):
    """Made for each request, also if no application knows it."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        """Is called before the headers of the answer are sent, also if no application knows the request."""
        await super()._prepare_hook(response)
        hide_software(response)


class Edge:
    """The connections of `server`. Make it before the first one is accepted.

    `limited` counts those that are ended because of a limit. `request`: the class of the requests.
    """

    def __init__(self, server: web.Server, limited: Counter[str], request: type[EdgeRequest] = EdgeRequest) -> None:
        self._server, self._limited = server, limited
        self._settings: dict[str, Any] = server._kwargs  # noqa: SLF001 - those of the runner and the application
        self._complaints = Complaints()
        self._application: Answer = server.request_handler
        self._receiving: dict[asyncio.Timeout, web.BaseRequest] = {}
        """The requests whose body had not arrived when the application was called."""
        self._bodies: dict[int, web.BaseRequest] = {}
        """All requests with a body, by identity."""
        self._stopping = False
        server.request_handler = self.answer
        factory: Any = server.request_factory  # the application's
        server.request_factory = partial(factory, _cls=request)

    def connection(self) -> HttpConnection:
        """The protocol of a new connection."""
        return HttpConnection(self._server, self._complaints, self._limited, **self._settings)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if isinstance(request.protocol, HttpConnection):
            request.protocol.head_begun = False
        if request.version not in VERSIONS:
            self._complaints.add("version", request.remote)
            return last_problem(Malformed("expected a request of HTTP/1.1 or HTTP/1.0"))
        if self._stopping:
            request[STOPPING] = True
        try:
            if request.body_exists:
                response = await self._counted(request)
            else:
                response = await self._application(request)
        except web.HTTPExpectationFailed:
            response = problem(Malformed("expected `Expect: 100-continue`, or no `Expect`"))
        if self._stopping and not response.prepared:
            response.force_close()
        return response

    async def _counted(self, request: web.BaseRequest) -> web.StreamResponse:
        self._bodies[id(request)] = request
        try:
            return await (self._application if request.content.is_eof() else self._received)(request)
        finally:
            del self._bodies[id(request)]

    async def _received(self, request: web.BaseRequest) -> web.StreamResponse:
        """The application's answer, unless the server stops and the rest of the request does not arrive."""
        patience = asyncio.timeout(None)
        self._receiving[patience] = request
        try:
            async with patience:
                return await self._application(request)
        except TimeoutError:
            if not patience.expired():
                raise
            if request.writer.output_size:
                raise ConnectionResetError("an answer has begun that will not end") from None
            return problem(Unavailable("the server is stopping, and the request did not arrive; try again in a moment"))
        finally:
            del self._receiving[patience]

    async def stop(self, seconds: float) -> None:
        """Waits up to `seconds` for requests that have begun to arrive, and for answers to requests with a body to
        begin. Requests that have not arrived by then are answered with 503.
        """
        self._stopping = True
        self._complaints.close()
        loop = asyncio.get_running_loop()
        began = loop.time()
        while loop.time() < began + seconds and self._arriving(new=loop.time() < began + NEW_SECONDS):
            await asyncio.sleep(POLL_SECONDS)
        for patience, request in self._late().items():
            if isinstance(request.protocol, HttpConnection):
                request.protocol.end_soon()
            patience.reschedule(loop.time())

    def _late(self) -> dict[asyncio.Timeout, web.BaseRequest]:
        return {patience: request for patience, request in self._receiving.items() if not request.content.is_eof()}

    def _arriving(self, *, new: bool) -> bool:
        """Whether there is a request to wait for or, with `new`, a connection from which nothing was read yet."""
        connections = [each for each in self._server.connections if isinstance(each, HttpConnection)]
        return self._unanswered() or any(each.head_begun or (new and each.silent) for each in connections)

    def _unanswered(self) -> bool:
        """Whether a body has not arrived, or an answer to one has not begun. What the answer needs must not end
        earlier.
        """
        return bool(self._late()) or any(request.writer.output_size == 0 for request in self._bodies.values())
