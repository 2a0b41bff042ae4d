"""Models whose package is not installed say which extra brings it."""

from __future__ import annotations

import subprocess
import sys

import pytest

MODELS = {
    "openai.OpenAIModel": ("openai", "chat"),
    "responses.OpenAIResponsesModel": ("openai", "chat"),
    "anthropic.AnthropicModel": ("anthropic", "anthropic"),
}


@pytest.mark.parametrize("model", MODELS)
def test_a_model_without_its_package_says_what_to_install(model: str) -> None:
    package, extra = MODELS[model]
    module, _, name = model.partition(".")
    script = (
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name: None if name == {package!r} else find(name)\n"
        f"from statestream.chat.models.{module} import {name}\n"
        f"try: {name}('m')\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (
        f"{package} is not installed; it comes with the extra {extra}: pip install '.[{extra}]' in the checkout"
    )
