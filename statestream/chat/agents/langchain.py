"""Tools of the front end in agents of LangChain: middleware for `create_agent`.

    helper = create_agent(model, tools=[…], middleware=[front_end_tools()], checkpointer=…, context_schema=Context)

The model is offered the tools that the front end of the person who asks can run. If it calls one of them, the graph is
interrupted until a window has run it.

Invariants: the agent's own tools come first. The graph needs a checkpointer, as for every interrupt.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from statestream.chat.agents.adapting import require
from statestream.chat.agents.interrupts import IN_WINDOW


def front_end_tools() -> Any:
    """Makes the middleware for an agent that `langgraph.run` runs. Raises ImportError without LangChain."""
    require("langchain", "langgraph")
    from langchain.agents.middleware import AgentMiddleware
    from langchain_core.messages import ToolMessage
    from langgraph.types import interrupt

    class FrontEndTools(AgentMiddleware[Any, Any, Any]):
        async def awrap_model_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
            own = {_name_of(tool) for tool in request.tools}
            more = [
                {"type": "function", "function": {"name": tool.name, "description": tool.description, **_schema(tool)}}
                for tool in request.runtime.context.tools
                if tool.name not in own
            ]
            return await handler(request.override(tools=[*request.tools, *more]))

        async def awrap_tool_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
            call = request.tool_call
            if request.tool is not None or call["name"] not in {tool.name for tool in request.runtime.context.tools}:
                return await handler(request)
            answer = interrupt({IN_WINDOW: True, "tool_call_id": call["id"]})
            failed = "error" in answer
            content = answer["error"] if failed else orjson.dumps(answer["result"]).decode()
            status: Any = "error" if failed else "success"
            return ToolMessage(content=content, name=call["name"], tool_call_id=call["id"], status=status)

    return FrontEndTools()


def _name_of(tool: Any) -> str:
    return str(tool.get("function", tool).get("name", "")) if isinstance(tool, dict) else str(tool.name)


def _schema(tool: Any) -> dict[str, Any]:
    return {"parameters": dict(tool.parameters)}
