"""Which model answers unless the application chooses one.

Invariants: only the variables that it reads decide. The openai package is imported when its model is first asked, not
here.
"""

from __future__ import annotations

import os

from statestream.chat.models import Model
from statestream.chat.models.demo import DemoModel
from statestream.chat.models.openai import OpenAIModel


def default_model() -> Model:
    """OpenAI's model if OPENAI_API_KEY is set (OPENAI_BASE_URL chooses the server), otherwise the demo model."""
    if os.environ.get("OPENAI_API_KEY"):
        return OpenAIModel(os.environ.get("STATESTREAM_MODEL", "gpt-5-mini"))
    return DemoModel()
