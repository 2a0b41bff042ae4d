"""What the adapters for frameworks share: their arguments and values as JSON.

Invariants: pure. Whatever a framework or a model has made, the result can be stored.
"""

from __future__ import annotations

import importlib.util
from typing import Any, Final

from pydantic import TypeAdapter

from statestream.chat.agents import Data, Task
from statestream.chat.models import ModelFailed
from statestream.core.errors import NotJSON
from statestream.core.values import loads, plain

_ANYTHING: Final[TypeAdapter[Any]] = TypeAdapter(Any)
OUTPUT: Final = "output"
"""The name of the data for an output that is not text."""


def require(module: str, extra: str) -> None:
    """Raises ImportError with the command that installs a framework."""
    if importlib.util.find_spec(module) is None:
        raise ImportError(
            f"{extra} is not installed; it comes with the extra {extra}: pip install '.[{extra}]' in the checkout",
            name=module,
        )


def arguments_of(given: Any) -> dict[str, Any]:
    """The arguments of a call, which are JSON text or an object; none if the model has written something else."""
    try:
        found = loads(given.encode(errors="replace")) if isinstance(given, str) and given else given
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def shown_arguments(given: Any) -> dict[str, Any]:
    """The arguments of a call that needs approval: people must see what will run. Raises ModelFailed."""
    try:
        found = loads(given.encode(errors="replace") or b"{}") if isinstance(given, str) else plain(given or {})
    except (NotJSON, ValueError):
        found = None
    if not isinstance(found, dict):
        raise ModelFailed("failed", "The model wrote arguments that cannot be shown for approval.")
    return found


def as_json(value: Any) -> Any:
    """A value of a framework, such as a model of Pydantic or a dataclass, as JSON."""
    return _ANYTHING.dump_python(value, mode="json")


def output(value: Any) -> Data:
    """The output of an agent that is not text."""
    return Data(name=OUTPUT, data=as_json(value))


def is_to_end(task: Task, call: str) -> bool:
    """Whether the reply still lacks the outcome of a call. It already has that of denied calls, and of windows."""
    return call not in task.answered and (call not in task.decided or task.decided[call].approved)


def is_new(task: Task, call: str) -> bool:
    """Whether the reply does not have the call yet. It has the calls for which it has waited."""
    return call not in task.decided and call not in task.answered
