"""The packages of providers: what a model says if its package is missing, and what a package must not do by itself."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import aiohttp
import pytest

from tests.support import ROOT
from tests.support.provider import asked, script

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


TRACED = """
import asyncio, sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from statestream.chat.models import Turn
from statestream.chat.models.anthropic import AnthropicModel
from statestream.chat.models.settings import ModelSettings

exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
model = AnthropicModel("m", base_url=sys.argv[1], api_key="none")

async def main():
    turns = [Turn(role="user", text="Traced?")]
    print("".join([piece async for piece in model.answer(turns, [], ModelSettings()) if isinstance(piece, str)]))
    await model.close()

asyncio.run(main())
print([span.name for span in exporter.get_finished_spans()])
"""


async def test_a_package_makes_no_spans_of_its_own(upstream: str, http: aiohttp.ClientSession) -> None:
    """The server makes a span of each call, without any content. The anthropic package would make another one."""
    await script(http, upstream, "Traced?", {"say": "No."}, {"finish": "stop"})
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", TRACED, upstream, stdout=subprocess.PIPE, cwd=ROOT
    )
    output, _ = await process.communicate()
    assert output.decode().split("\n")[:2] == ["No.", "[]"]
    [request] = await asked(http, upstream, "Traced?")
    assert "traceparent" not in request["headers"]
