"""An MCP server, made with the SDK: `toolbox.py` on stdin and stdout, `toolbox.py PORT` at http://127.0.0.1:PORT/mcp.

OLDER: it knows the handshake of older versions only. SECRET: it answers 401 unless requests have this as their token.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import anyio
from mcp import MCPError
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.runner import serve_loop
from mcp.server.stdio import stdio_server
from mcp.types import METHOD_NOT_FOUND, CallToolResult, RequestParams, ResourceLink, TextContent
from pydantic import BaseModel
from starlette.responses import Response

server = MCPServer("toolbox", log_level="ERROR")


class Weather(BaseModel):
    """What the weather is like."""

    city: str
    celsius: int


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def weather(city: str) -> Weather:
    """The weather in a city."""
    if city == "Atlantis":
        raise ToolError("There is no weather in Atlantis.")
    return Weather(city=city, celsius=20)


@server.tool(structured_output=False)
def say(text: str) -> list[Any]:
    """Says something, with a picture."""
    return [text, Image(data=b"canary", format="png"), "And that is all."]


@server.tool(name="look.up")
def look_up() -> CallToolResult:
    """Gives a page."""
    link = ResourceLink(type="resource_link", name="page", uri="https://example.org/page", title="A page")
    return CallToolResult(content=[TextContent(type="text", text="See"), link])


@server.tool()
def process() -> dict[str, Any]:
    """Who this is, and what it has of its environment."""
    return {"pid": os.getpid(), "secret": os.environ.get("SECRET"), "key": os.environ.get("OPENAI_API_KEY")}


@server.tool()
def die() -> str:
    """Ends the server without an answer."""
    os._exit(1)


@server.tool()
async def hang(ctx: Context) -> str:
    """Never ends."""
    await anyio.sleep_forever()
    return ""


@server.tool()
async def grow(ctx: Context) -> str:
    """From now on there is one more tool."""

    def grown() -> str:
        """Was not there from the beginning."""
        return "Grown."

    server.add_tool(grown)
    await ctx.notify_tools_changed()
    await ctx.session.send_tool_list_changed()  # for clients of older versions
    return "Growing."


def taken() -> str:
    """Has the name of another one."""
    return ""


server.add_tool(taken)
server.add_tool(taken, name="x" * 64)


async def unknown(*_: Any) -> Any:
    raise MCPError(METHOD_NOT_FOUND, "Method not found")


if "OLDER" in os.environ:
    server._lowlevel_server.add_request_handler("server/discover", RequestParams, unknown)


def guarded(app: Any, secret: str) -> Any:
    """The application, for those who know the token."""

    async def checked(scope: Any, receive: Any, send: Any) -> None:
        known = scope["type"] != "http" or (b"authorization", f"Bearer {secret}".encode()) in scope["headers"]
        await (app if known else Response(status_code=401))(scope, receive, send)

    return checked


async def as_older() -> None:
    """Serves on stdin and stdout as older versions did."""
    low = server._lowlevel_server
    async with stdio_server() as (read, write), low.lifespan(low) as state:
        await serve_loop(low, read, write, lifespan_state=state, init_options=low.create_initialization_options())


if len(sys.argv) == 1 and "OLDER" in os.environ:
    anyio.run(as_older)
elif len(sys.argv) == 1:
    server.run()
else:
    import uvicorn

    app = server.streamable_http_app()
    if "SECRET" in os.environ:
        app = guarded(app, os.environ["SECRET"])
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), timeout_graceful_shutdown=1)
