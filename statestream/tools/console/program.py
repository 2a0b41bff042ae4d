"""An object in a program of the user, named as `file.py:name` or `package.module:name`.

Invariants: importing the program may run anything, and a traceback from it is shown as it is. Only problems with the
name itself are reported as a sentence. A file is run once, however many objects in it are named.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from statestream.core.suggestions import instead


class ProgramObject:
    """What an option or argument names. `parameter` is how messages call it."""

    def __init__(self, text: str, parameter: str) -> None:
        self._text, self._parameter = text, parameter
        self._where, colon, self._name = text.rpartition(":")
        if not colon or not self._name.isidentifier():
            hint = f"; for example {text}:store" if text.endswith(".py") and parameter == "TARGET" else ""
            raise self.wrong(f"expected FILE.py:NAME or MODULE:NAME, got {text!r}{hint}")

    def load(self, what: str, fits: Callable[[Any], bool]) -> Any:
        """Imports the program and returns the object. `what` says in a message which objects fit."""
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
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # the module exists, but an import in it fails
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
        spec.loader.exec_module(module)
        return module
