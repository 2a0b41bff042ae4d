"""Tools: Python functions that a model may call, run by the server.

    @chat.tool
    async def weather(city: str) -> dict: ...

The function's name, its docstring and its annotations are what the model is told; what it then sends is checked
against them before the function runs.

Law: whatever a tool does, its call has an outcome: a JSON value, or a sentence for people and the model. What
went wrong in our code is logged, not told.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any, Final, get_type_hints

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from statestream.chat.conversation import Result
from statestream.chat.models import ToolSpec
from statestream.errors import NotJSON, Refused
from statestream.slices import first_problem
from statestream.values import loads, plain

log = logging.getLogger("statestream")

MAX_RESULT: Final = 100_000
"""Bytes of a result's JSON."""


class Tool:
    """A function that a model may call. Raises TypeError for one that cannot be described."""

    def __init__(self, function: Callable[..., Any]) -> None:
        fields: dict[str, Any] = {}
        hints = get_type_hints(function, include_extras=True)
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise TypeError(f"expected parameters that can be named, got {parameter} in {function.__qualname__}")
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[parameter.name] = (hints.get(parameter.name, Any), default)
        self._function = function
        self._arguments: type[BaseModel] = create_model(
            function.__name__, __config__=ConfigDict(extra="forbid"), **fields
        )
        schema = self._arguments.model_json_schema()
        self.spec = ToolSpec(name=function.__name__, description=inspect.getdoc(function) or "", parameters=schema)

    async def run(self, arguments: str, seconds: float) -> Result:
        """The outcome of a call with these arguments, JSON text from the model."""
        name = self.spec.name
        try:
            given = self._arguments.model_validate(loads(arguments.encode(errors="replace") or b"{}"))
            async with asyncio.timeout(seconds):
                result = plain(await self._call(dict(given)))
        except ValidationError as error:
            return {"error": f"The arguments of {name} do not fit: {first_problem(error)}."}
        except NotJSON as error:
            return {"error": f"The arguments or the result of {name} are no JSON: {error}."}
        except Refused as error:
            return {"error": str(error)}
        except TimeoutError:
            return {"error": f"{name} did not end within {seconds:g} seconds."}
        except Exception:
            log.exception("the tool %s failed", name)
            return {"error": f"{name} failed."}
        if len(orjson.dumps(result)) > MAX_RESULT:
            return {"error": f"The result of {name} is too large."}
        return {"result": result}

    async def _call(self, arguments: dict[str, Any]) -> Any:
        if inspect.iscoroutinefunction(self._function):
            return await self._function(**arguments)
        return await asyncio.to_thread(self._function, **arguments)


class Tools:
    """The tools of a chat, by name."""

    def __init__(self) -> None:
        self._tools: dict[str, Tool] = {}

    def add(self, function: Callable[..., Any]) -> None:
        """Raises TypeError, and ValueError for a second one of that name."""
        tool = Tool(function)
        if self._tools.setdefault(tool.spec.name, tool) is not tool:
            raise ValueError(f"expected one tool named {tool.spec.name}, got a second one")

    @property
    def specs(self) -> list[ToolSpec]:
        return [tool.spec for tool in self._tools.values()]

    async def run(self, name: str, arguments: str, seconds: float) -> Result:
        """The outcome of a model's call."""
        tool = self._tools.get(name)
        if tool is None:
            return {"error": "There is no tool of that name."}
        return await tool.run(arguments, seconds)
