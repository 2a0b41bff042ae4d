"""An MCP server: the connection to it, and its tools as tools of the chat.

While the chat runs, `keep` holds the connection, and reconnects when it is lost. It lists the tools again when the
server says that they have changed, and at regular intervals. The name of each tool begins with the name of its server.

Invariants: one task owns a connection, and enters and leaves it. There are no tools while the server cannot be reached.
A call is sent only once, because nobody can know whether a lost call has had an effect. Whatever a server does, a call
has an outcome, and in time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from statestream.chat.agents.adapting import require
from statestream.chat.approvals import Approval
from statestream.chat.mcp.results import outcome
from statestream.chat.mcp.transport import CONNECT_SECONDS, Target
from statestream.chat.models import ToolSpec
from statestream.chat.replies.tools import UNFIT, checked_needs, error_of, needed_by
from statestream.chat.slices.conversation import ToolOutcome
from statestream.core.errors import NotJSON, Refused
from statestream.core.values import loads

if TYPE_CHECKING:
    from mcp import Client
    from mcp.types import Tool

log = logging.getLogger("statestream")

MAX_NAME: Final = 64
MAX_PAGES: Final = 100
"""The maximum number of pages in which a server may list its tools."""
LOOK_SECONDS: Final = 30.0
"""How often the tools are listed without a reason. This also shows whether the server is still there."""
GATHER_SECONDS: Final = 0.2
"""How long changes are gathered before the tools are listed again."""
FIRST_PAUSE: Final = 0.25
MAX_PAUSE: Final = 10.0
"""The longest pause between attempts to connect. After a connection that lasted longer, the pauses start over."""
START_SECONDS: Final = 10.0
"""How long a chat waits for its servers when it starts."""
NOT_THERE: Final = "the MCP server %s (%s) is not there, trying again: %s"
_NAME: Final = re.compile(r"[a-zA-Z0-9_]{1,32}", re.ASCII)
_NOT_IN_NAMES: Final = re.compile(r"[^a-zA-Z0-9_-]", re.ASCII)


ServerNeeds = bool | Approval | Callable[[str, Mapping[str, Any]], bool | Approval | None]
"""Which calls need approval: all, none, or a function of the server's name for the tool and the arguments."""


class ServerTool:
    """A tool of a server as a tool of the chat. `name` is the server's own name for it."""

    def __init__(self, server: ToolServer, name: str, spec: ToolSpec) -> None:
        self._server, self._name, self.spec = server, name, spec

    def check(self, arguments: str) -> dict[str, Any]:
        """The arguments of a call, given as JSON text. Raises Refused if they are not an object. The server checks the
        rest.
        """
        try:
            given = loads(arguments.encode(errors="replace") or b"{}")
        except NotJSON as error:
            raise Refused(UNFIT, f"The arguments of {self.spec.name} are not valid JSON: {error}.") from None
        if not isinstance(given, dict | None):
            raise Refused(UNFIT, f"The arguments of {self.spec.name} do not fit: expected an object.")
        return given or {}

    def needs(self, arguments: str) -> Approval | None:
        """The approval that a call needs. None if it needs none, or does not run anyway."""
        needs = self._server.needs
        return needed_by(self, partial(needs, self._name) if callable(needs) else needs, arguments)

    async def run(self, arguments: str, seconds: float, *_: object) -> ToolOutcome:
        """The outcome of a call with these arguments, which are JSON text from the model."""
        try:
            given = self.check(arguments)
        except Refused as refused:
            return error_of(str(refused))
        return await self._server.call(self._name, self.spec.name, given, seconds)


class ToolServer:
    """A server of tools. `needs` says which calls need approval, `taken` the names that tools of the chat have.

    `tried`: whether the first attempt to connect is over, successful or not.
    """

    def __init__(self, name: str, target: Target, needs: ServerNeeds, taken: Callable[[], Collection[str]]) -> None:
        require("mcp", "mcp")
        if not _NAME.fullmatch(name):
            raise ValueError(f"expected an MCP server with a name of at most 32 letters, digits and _, got {name!r}")
        checked_needs(needs)
        self.name, self.needs, self._target, self._taken = name, needs, target, taken
        self.tools: Mapping[str, ServerTool] = {}
        self.tried = asyncio.Event()
        self._client: Client | None = None
        self._news = asyncio.Event()
        self._owned = asyncio.Lock()
        self._reported: set[str] = set()

    async def keep(self) -> None:
        """Keeps the connection until cancelled. If it already has an owner, this waits to be the next one."""
        loop, pause, quiet = asyncio.get_running_loop(), FIRST_PAUSE, False
        async with self._owned:
            while True:
                began = loop.time()
                try:
                    await self._connected()
                except Exception as error:
                    if _is_cancelled():
                        raise
                    if not quiet or self._client is not None:
                        log.warning(NOT_THERE, self.name, self._target.shown, _reason(error))
                    quiet = True
                finally:
                    self.tools, self._client = {}, None
                    self.tried.set()
                pause = FIRST_PAUSE if loop.time() - began > MAX_PAUSE else min(pause * 2, MAX_PAUSE)
                await asyncio.sleep(pause)

    async def _connected(self) -> None:
        """Connects, and follows the server until it is lost. Raises the exception that shows this."""
        from mcp import Client

        transport = self._target.transport(self._news.set)
        client = Client(transport, read_timeout_seconds=CONNECT_SECONDS, message_handler=self._notified)
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout(CONNECT_SECONDS):
                await stack.enter_async_context(client)
                await self._list(client)
            self._client = client
            self.tried.set()
            log.info("the MCP server %s has %d tools", self.name, len(self.tools))
            async with asyncio.TaskGroup() as following:
                following.create_task(self._listen(client), name=f"MCP server {self.name} listening")
                while True:
                    await self._reason_to_look()
                    await self._list(client)

    async def _reason_to_look(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await self._news.wait()
                await asyncio.sleep(GATHER_SECONDS)
        self._news.clear()

    async def _listen(self, client: Client) -> None:
        """Notices that the tools have changed, or that a server with an open stream has gone away."""
        from mcp import MCPError
        from mcp.client.subscriptions import ListenNotSupportedError

        while True:
            try:
                async with client.listen(tools_list_changed=True) as changes:
                    self._news.set()  # nobody reported earlier changes
                    async for _ in changes:
                        self._news.set()
                self._news.set()
            except ListenNotSupportedError:  # older servers send notifications
                return
            except (MCPError, RuntimeError, TimeoutError):  # the stream was lost, or the server has none
                self._news.set()
            await asyncio.sleep(LOOK_SECONDS)

    async def _notified(self, message: object) -> None:
        from mcp.types import ToolListChangedNotification

        if isinstance(message, ToolListChangedNotification):
            self._news.set()

    async def _list(self, client: Client) -> None:
        found: list[Tool] = []
        cursor = None
        for _ in range(MAX_PAGES):
            page = await client.list_tools(cursor=cursor, cache_mode="refresh")
            found += page.tools
            if (cursor := page.next_cursor) is None:
                break
        self.tools = self._named(found)

    def _named(self, found: Collection[Tool]) -> dict[str, ServerTool]:
        """The tools by their names in the chat, without those that cannot have a name there."""
        named: dict[str, ServerTool] = {}
        taken = self._taken()
        for tool in found:
            name = _NOT_IN_NAMES.sub("_", f"{self.name}_{tool.name}")
            wrong = "its name is too long" if len(name) > MAX_NAME else "there is another one of that name"
            if len(name) <= MAX_NAME and name not in named and (name in self.tools or name not in taken):
                spec = ToolSpec(name=name, description=tool.description or "", parameters=tool.input_schema)
                named[name] = ServerTool(self, tool.name, spec)
            elif tool.name not in self._reported:
                self._reported.add(tool.name)
                log.error("the tool %r of the MCP server %s is left out: %s", tool.name, self.name, wrong)
        return named

    async def call(self, name: str, shown: str, arguments: dict[str, Any], seconds: float) -> ToolOutcome:
        """The outcome of a call of the tool with that name. People and the model know the tool as `shown`."""
        from mcp import MCPError

        if self._client is None:
            return error_of(f"{shown} failed: its server cannot be reached.")
        try:
            async with asyncio.timeout(seconds):
                result = await self._client.call_tool(name, arguments, read_timeout_seconds=seconds + 1)
        except TimeoutError:
            log.warning("the tool %s did not end within %g seconds", shown, seconds)
            return error_of(f"{shown} did not end within {seconds:g} seconds.")
        except MCPError as error:
            self._news.set()  # whether the server is still there
            log.warning("the tool %s failed: error %d of the MCP server %s", shown, error.code, self.name)
            return error_of(f"{shown} failed: {error}")
        except Exception as error:  # the answer breaks the protocol, and the exception may quote it
            log.warning("the tool %s failed: %s", shown, type(error).__name__)
            return error_of(f"{shown} failed.")
        return outcome(shown, result)


async def all_tried(servers: Iterable[ToolServer]) -> None:
    """Returns when each server has been tried: the first question finds the tools of those that are there."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS):
            for server in servers:
                await server.tried.wait()


def _is_cancelled() -> bool:
    """Whether the owner has cancelled this task. Cancellation by a client that fails does not count."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}".removesuffix(": ")
