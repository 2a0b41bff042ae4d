"""Tools: Python functions that a model may call and the server runs.

    @chat.tool
    async def weather(city: str) -> dict: ...

The model receives the function's name, its docstring and its annotations. Arguments are checked against the annotations
before the function runs. A coroutine function runs on the event loop, any other function in a thread. An awaitable
result is awaited on the event loop. A parameter with the annotation `Context` gets the context of the call. The model
does not see this parameter.

A tool can require a person's approval, which may depend on the arguments of each call. If this check fails, the call
needs approval.

A front-end tool runs in a person's window. Only the signature and the docstring of its function matter.

Invariants: whatever a tool does, its call has an outcome, and in time: a JSON value, or a sentence for people and the
model. The details of an exception are logged and not shown. If a function never returns, everything else can still end.
A tool's thread touches the event loop only through `call_soon_threadsafe`. A callable that can never have a result is
refused when it is declared.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import re
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Protocol, get_type_hints

import orjson
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from typing_extensions import NotRequired, Required, TypedDict

from statestream.chat.agents.context import Context
from statestream.chat.approvals import ANYBODYS, Approval, approval_of
from statestream.chat.messages import KEPT_DEPTH
from statestream.chat.models import ToolSpec
from statestream.chat.replies.grace import GRACE_SECONDS, mark_as_retrieved
from statestream.chat.slices.conversation import ToolOutcome
from statestream.core.errors import NotJSON, Refused
from statestream.core.functions import check_plain, code_of, kind_of
from statestream.core.signature import first_problem
from statestream.core.values import loads, plain
from statestream.store.slow_calls import SlowCalls, Stepped, name_of

log = logging.getLogger("statestream")

MAX_RESULT: Final = 100_000
"""The bytes of a result's JSON."""
MAX_SENTENCE: Final = 2_000
UNFIT: Final = "unfit_arguments"
_NAME: Final = re.compile(r"[a-zA-Z0-9_]{1,64}", re.ASCII)

Needs = bool | Approval | Callable[[Mapping[str, Any]], bool | Approval | None]
"""Whether a tool needs approval: always, never, or depending on a function of its arguments."""


class Offered(Protocol):
    """A tool that is offered to a model, regardless of who runs it."""

    spec: ToolSpec

    def check(self, arguments: str) -> dict[str, Any]:
        """The arguments of a call, which are JSON text. Raises Refused if they do not fit."""

    def needs(self, arguments: str) -> Approval | None:
        """The approval that a call needs. None if it needs none, or does not run anyway."""

    async def run(
        self, arguments: str, seconds: float, context: Context | None = None, slow: SlowCalls | None = None
    ) -> ToolOutcome:
        """The outcome of a call with these arguments, which are JSON text from the model."""


class Tool:
    """A function that a model may call. Raises TypeError if it cannot be described to a model."""

    def __init__(self, function: Callable[..., Any], needs: Needs = False, *, frontend: bool = False) -> None:
        name = _checked_name(function)
        self._function, self._needs, self.frontend = function, checked_needs(needs), frontend
        self._on_loop = kind_of(function) == "coroutine function"
        fields, defaults, self._contexts = _parameters(function, name)
        make_typed_dict: Any = TypedDict
        arguments = make_typed_dict(name, fields)
        arguments.__pydantic_config__ = ConfigDict(extra="forbid")
        try:
            self._arguments: TypeAdapter[dict[str, Any]] = TypeAdapter(arguments)
            schema = self._arguments.json_schema()
        except PydanticUserError as error:
            raise TypeError(f"the annotations of {name} must be types that JSON can represent: {error}") from error
        for parameter, default in defaults.items():
            schema["properties"][parameter]["default"] = default
        self.spec = ToolSpec(name=name, description=_description(function), parameters=schema)

    def check(self, arguments: str) -> dict[str, Any]:
        """The arguments of a call, which are JSON text. Raises Refused if they do not fit."""
        name = self.spec.name
        try:
            value = loads(arguments.encode(errors="replace") or b"{}")
            return self._arguments.validate_python({} if value is None else value)  # some models write null for {}
        except ValidationError as error:
            raise Refused(UNFIT, f"The arguments of {name} do not fit: {first_problem(error)}.") from None
        except NotJSON as error:
            raise Refused(UNFIT, f"The arguments of {name} are not valid JSON: {error}.") from None
        except Exception:  # a validator of the application's own types may raise anything
            log.exception("the arguments of the tool %s could not be read", name)
            raise Refused(UNFIT, f"The arguments of {name} do not fit.") from None

    def fits(self, arguments: str) -> bool:
        """Whether a call with these arguments can run."""
        try:
            self.check(arguments)
        except Refused:
            return False
        return True

    def needs(self, arguments: str) -> Approval | None:
        """The approval that a call needs. None if it needs none, or does not run anyway."""
        return needed_by(self, self._needs, arguments)

    async def run(
        self, arguments: str, seconds: float, context: Context | None = None, slow: SlowCalls | None = None
    ) -> ToolOutcome:
        """The outcome of a call with these arguments, which are JSON text from the model."""
        try:
            given = self.check(arguments)
        except Refused as refused:
            return error_of(str(refused))
        return await self._outcome({**given, **dict.fromkeys(self._contexts, context)}, seconds, slow or SlowCalls())

    async def _outcome(self, given: dict[str, Any], seconds: float, slow: SlowCalls) -> ToolOutcome:
        name = self.spec.name
        work = asyncio.create_task(Stepped(self._call(given), slow, "tool", name_of(self._function)))
        try:
            await asyncio.wait((work,), timeout=seconds)
            if not work.done():
                log.warning("the tool %s did not end within %g seconds", name, seconds)
                return error_of(f"{name} did not end within {seconds:g} seconds.")
        finally:
            await _ended(work, name)
        try:
            return error_of(f"{name} failed.") if work.cancelled() else work.result()
        except Refused as error:
            return error_of(str(error))
        except Exception:
            log.exception("the tool %s failed", name)
            return error_of(f"{name} failed.")

    async def _call(self, given: dict[str, Any]) -> ToolOutcome:
        try:
            if self._on_loop:
                result = self._function(**given)
            else:
                result = await in_daemon_thread(self._function, given, self.spec.name)
            if inspect.isawaitable(result):
                result = await result
        except SystemExit as error:  # in a task of the event loop it would end the server
            raise RuntimeError("the tool tried to end the process") from error
        return outcome_of(self.spec.name, result)


def outcome_of(name: str, result: Any) -> ToolOutcome:
    """The outcome of a tool that has returned this: a sentence if it cannot be stored."""
    try:
        value = plain(result, KEPT_DEPTH)
    except NotJSON as error:
        log.warning("the tool %s returned a value that is not JSON: %s", name, error)
        return error_of(f"The result of {name} is not JSON: {error}.")
    if len(orjson.dumps(value)) > MAX_RESULT:
        return error_of(f"The result of {name} is too large.")
    return {"result": value}


def _checked_name(function: Any) -> str:
    """The name under which the model calls the function. Raises TypeError for what cannot be a tool."""
    if not callable(function) or inspect.isclass(function):
        raise TypeError(f"expected a function as a tool, got {function!r}")
    named = function.func if isinstance(function, partial) and not hasattr(function, "__name__") else function
    name = getattr(named, "__name__", type(named).__name__)
    if not _NAME.fullmatch(name):
        raise TypeError(f"expected a function with a name of at most 64 letters, digits and _, got {function!r}")
    if (kind := kind_of(function)).endswith("generator function"):
        raise TypeError(f"the tool {name} is a {kind}, which has no result; return a list instead of yielding")
    return name


def checked_needs(needs: Any) -> Needs:
    """Raises TypeError."""
    if callable(needs):
        check_plain(needs, "approval", "which says whether a call with such arguments needs approval")
    else:
        approval_of(needs)
    checked: Needs = needs
    return checked


def needed_by(tool: Offered, needs: Needs, arguments: str) -> Approval | None:
    """The approval that a call of a tool needs, by what was declared. None if it needs none, or does not run anyway."""
    try:
        defaults = {name: each["default"] for name, each in _properties(tool).items() if "default" in each}
        return approval_of(needs({**defaults, **tool.check(arguments)}) if callable(needs) else needs)
    except Refused:
        return None
    except Exception:
        log.exception("could not decide whether the tool %s needs approval, so it does", tool.spec.name)
        return ANYBODYS


def _properties(tool: Offered) -> Mapping[str, Any]:
    properties = tool.spec.parameters.get("properties")
    return {name: each for name, each in properties.items() if isinstance(each, dict)} if properties else {}


def _description(function: Callable[..., Any]) -> str:
    """The docstring: for an object that of its class, for a partial function that of its function."""
    if isinstance(function, partial) and function.__doc__ == partial.__doc__:
        return _description(function.func)
    return inspect.getdoc(function) or inspect.getdoc(code_of(function)) or ""


def _parameters(function: Callable[..., Any], name: str) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """The annotations of a function's parameters, the defaults that are JSON, and the parameter that gets the context.

    The model cannot choose arguments that a partial function sets by name. Raises TypeError.
    """
    fields: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    contexts: list[str] = []
    taken = function.keywords if isinstance(function, partial) else {}
    if isinstance(function, partial):  # without attributes of `update_wrapper`, which hide the arguments already set
        function = partial(function.func, *function.args, **function.keywords)
    try:
        hints = get_type_hints(code_of(function), include_extras=True)
        parameters = inspect.signature(function).parameters
    except (NameError, ValueError) as error:  # an annotation that is not defined, or a function without a signature
        raise TypeError(f"the parameters of {name} cannot be described to a model: {error}") from error
    for parameter in parameters.values():
        if parameter.name in taken:
            continue
        if hints.get(parameter.name) is Context:
            contexts.append(parameter.name)
            continue
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"expected parameters that can be named, got {parameter} in {name}")
        if parameter.name == "self" and "self" not in hints:
            raise TypeError(f"{name} is a method without its object; declare the method of an object as a tool")
        need = Required if parameter.default is parameter.empty else NotRequired
        fields[parameter.name] = need[hints.get(parameter.name, Any)]
        if parameter.default is not parameter.empty:
            with contextlib.suppress(NotJSON):
                defaults[parameter.name] = plain(parameter.default)
    return fields, defaults, contexts


async def _ended(work: asyncio.Task[ToolOutcome], name: str) -> None:
    """Cancels a call that still runs and waits for it, but not forever: a tool may swallow the cancellation."""
    if work.done():
        return
    work.cancel()
    _, late = await asyncio.wait((work,), timeout=GRACE_SECONDS)
    if late:
        log.error("the tool %s does not end although it was cancelled; nothing waits for it any more", name)
        work.add_done_callback(mark_as_retrieved)
    elif not work.cancelled() and work.exception() is not None:
        log.warning("the tool %s failed when it was cancelled", name, exc_info=work.exception())


def error_of(sentence: str) -> ToolOutcome:
    """A sentence may contain names that the model made up, or whatever a tool's Refused says: it is made JSON text."""
    return {"error": sentence.encode(errors="replace").decode()[:MAX_SENTENCE]}


class Tools:
    """The tools of a chat, by name: its own functions, and the current tools of its sources."""

    def __init__(self) -> None:
        self._tools: dict[str, Tool] = {}
        self._sources: list[Callable[[], Mapping[str, Offered]]] = []

    def add(self, function: Callable[..., Any], needs: Needs = False, *, frontend: bool = False) -> None:
        """Raises TypeError, and ValueError if there is a tool with that name already."""
        tool = Tool(function, needs, frontend=frontend)
        if self._tools.setdefault(tool.spec.name, tool) is not tool:
            raise ValueError(f"there is a tool named {tool.spec.name} already")

    def add_source(self, source: Callable[[], Mapping[str, Offered]]) -> None:
        """Adds a source whose tools come and go. If two tools have the same name, the first one counts."""
        self._sources.append(source)

    @property
    def by_name(self) -> dict[str, Offered]:
        """All current tools."""
        found: dict[str, Offered] = dict(self._tools)
        for source in self._sources:
            for name, tool in source().items():
                found.setdefault(name, tool)
        return found

    @property
    def specs(self) -> list[ToolSpec]:
        return [tool.spec for tool in self.by_name.values()]

    def check(self, name: str, arguments: str) -> None:
        """Raises Refused if the arguments do not fit the tool, or nobody can tell because it is not there."""
        if (tool := self.by_name.get(name)) is None:
            raise Refused(UNFIT, f"{name} is not there at the moment, so its arguments cannot be changed.")
        tool.check(arguments)

    def has(self, name: str) -> bool:
        return name in self.by_name

    def in_front_end(self, name: str, arguments: str) -> bool:
        """Whether a model's call runs in a window. A call with invalid arguments fails at once, like any other."""
        tool = self._tools.get(name)
        return tool is not None and tool.frontend and tool.fits(arguments)

    def needs(self, name: str, arguments: str) -> Approval | None:
        """The approval that a model's call needs, if it needs one."""
        tool = self.by_name.get(name)
        return None if tool is None else tool.needs(arguments)

    async def run(
        self, name: str, arguments: str, seconds: float, context: Context | None, slow: SlowCalls
    ) -> ToolOutcome:
        """The outcome of a model's call. A tool that blocks the event loop is reported to `slow`."""
        tool = self.by_name.get(name)
        if tool is None:
            return error_of("There is no tool of that name.")
        return await tool.run(arguments, seconds, context, slow)


async def in_daemon_thread(function: Callable[..., Any], arguments: dict[str, Any], name: str) -> Any:
    """What the function returns. Raises what it raises. A cancelled caller leaves the thread to itself."""
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    future: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if not future.done():
            future.set_result((result, error))
        elif inspect.iscoroutine(result):
            result.close()  # nobody will await it

    def work() -> None:
        result, error = None, None
        try:
            result = context.run(function, **arguments)
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, name=f"tool-{name}", daemon=True).start()
    result, error = await future  # a pair, because a future cannot carry StopIteration
    if error is not None:
        raise error
    return result
