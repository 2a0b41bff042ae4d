"""The types of messages say what chats contain, at every moment of a reply."""

from __future__ import annotations

import pytest

from statestream.chat.slices.conversation import chat_slice
from statestream.core.values import encode
from tests.dialogues import DIALOGUES


@pytest.mark.parametrize("name", DIALOGUES)
def test_every_state_of_a_dialogue_is_of_the_type_of_its_slice(name: str) -> None:
    assert chat_slice.type is not None
    for state in DIALOGUES[name]():
        chat_slice.type.check(encode(state))
