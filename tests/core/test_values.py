"""JSON from outside: how much of it is parsed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statestream.core.errors import NotJSON
from statestream.core.values import MAX_VALUES, loads


@pytest.mark.parametrize(
    "text",
    [
        "[" + "[]," * MAX_VALUES + "0]",
        "[" + "0," * MAX_VALUES + "0]",
        "{" + ",".join(f'"{number}":0' for number in range(MAX_VALUES + 1)) + "}",
        '["' + "\\" * 2 * MAX_VALUES + '",' + "{}," * MAX_VALUES + "0]",
        "[" * (MAX_VALUES + 1),
        '"' * (8 * MAX_VALUES) + "," * (MAX_VALUES + 1),
    ],
    ids=["lists", "numbers", "members", "after an escape", "nested", "quotes"],
)
def test_more_values_than_the_limit_are_refused(text: str) -> None:
    with pytest.raises(NotJSON, match="more than 50,000 values"):
        loads(text.encode())


def test_commas_and_brackets_in_a_string_are_no_values() -> None:
    text = '[{,"\\' * MAX_VALUES
    assert loads(json.dumps({"text": text}).encode()) == {"text": text}
    assert len(loads(b"[" + b"0," * (MAX_VALUES - 2) + b"0]")) == MAX_VALUES - 1


@given(st.recursive(st.text() | st.integers(-5, 5), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_what_json_writes_is_read_as_it_was(value: object) -> None:
    if "__proto__" not in json.dumps(value):
        assert loads(json.dumps(value).encode()) == value
