"""The route that stops a reply, which several protocols have.

Invariants: stopping is idempotent, and the response says whether this request has stopped anything.
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import ConfigDict

from statestream.chat.conversations import Conversations
from statestream.chat.protocols.rest.requests import check_site, key_of
from statestream.server.bodies import Body, checked, read_json
from statestream.server.routes import json_response


class _Stop(Body):
    """`activeStreamId`, the id of a reply, keeps a late request from stopping the next reply."""

    model_config = ConfigDict(strict=True, extra="ignore")
    activeStreamId: str | None = None  # noqa: N815 - the AI SDK's name


def stop_route(conversations: Conversations) -> Handler:
    """A handler that ends the reply in progress of the chat in the path."""

    async def stop(request: web.Request) -> web.Response:
        check_site(request)
        body = checked(_Stop, await read_json(request) if request.can_read_body else {})
        stopped = await conversations.stop(key_of(request), body.activeStreamId)
        return json_response({"success": True, "stopped": stopped})

    return stop
