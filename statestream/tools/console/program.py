"""An object in a program of the user, named as `file.py:name` or `package.module:name`.

Invariants: importing the program may run anything. If that fails, its traceback is shown from the program's first line
on, without the frames of the command. Only problems with the name itself are reported as a sentence. A file is run
once, however many objects in it are named.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import typer

from statestream.core.suggestions import instead
from statestream.tools.console.exit_codes import failure


class ProgramObject:
    """What an option or argument names. `parameter` is how messages call it."""

    def __init__(self, text: str, parameter: str) -> None:
        self._text, self._parameter = text, parameter
        self._where, colon, self._name = text.rpartition(":")
        if not colon or not self._name.isidentifier():
            hint = f"; for example {text}:store" if text.endswith(".py") and parameter == "TARGET" else ""
            raise self.wrong(f"expected FILE.py:NAME or MODULE:NAME, got {text!r}{hint}")

    def load(self, what: str, fits: Callable[[Any], bool]) -> Any:
        """Imports the program and returns the object. `what` says in a message which objects fit.

        Raises typer.BadParameter, and typer.Exit after the traceback of a program that fails.
        """
        module = self._load_file(Path(self._where)) if self._where.endswith(".py") else self._load_module(self._where)
        fitting = sorted(key for key, value in vars(module).items() if not key.startswith("_") and fits(value))
        if not hasattr(module, self._name):
            names = instead(self._name, fitting, f"names of {what}")
            raise self.wrong(f"cannot find {self._text}: there is no {self._name} in it{names}")
        found = getattr(module, self._name)
        if not fits(found):
            other = f"; did you mean {self._where}:{fitting[0]}?" if fitting else ""
            raise self.wrong(f"expected {what} in {self._text}, got {type(found).__name__}{other}")
        return found

    def wrong(self, sentence: str) -> typer.BadParameter:
        return typer.BadParameter(sentence, param_hint=self._parameter)

    def _load_module(self, name: str) -> Any:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` does
        try:
            with self._explained():
                return importlib.import_module(name)
        except ModuleNotFoundError:
            raise self.wrong(f"cannot find the module {name}; for a file, write {name.replace('.', '/')}.py") from None

    def _load_file(self, path: Path) -> Any:
        if not path.is_file():
            raise self.wrong(f"there is no file {path}")
        loaded = sys.modules.get(path.stem)
        if loaded is not None and Path(getattr(loaded, "__file__", None) or "").resolve() == path.resolve():
            return loaded
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise self.wrong(f"{path} is not a Python file")
        sys.path.insert(0, str(path.resolve().parent))  # so that the file can import its neighbours
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        with self._explained():
            spec.loader.exec_module(module)
        return module

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except ModuleNotFoundError as error:
            if error.name is not None and f"{self._where}.".startswith(f"{error.name}."):
                raise  # the program itself cannot be found
            raise self._failed(error) from None
        except Exception as error:
            raise self._failed(error) from None

    def _failed(self, error: Exception) -> typer.Exit:
        traceback.print_exception(type(error), error, _of_the_program(error.__traceback__))
        return failure(f"cannot import {self._where}: the lines above show where it fails")


def _of_the_program(frames: TracebackType | None) -> TracebackType | None:
    """Without the frames that lead to the program; None if it does not even compile."""
    above = (__file__, importlib.__file__)
    while frames is not None:
        name = frames.tb_frame.f_code.co_filename
        if name not in above and not name.startswith("<frozen importlib"):
            return frames
        frames = frames.tb_next
    return None
