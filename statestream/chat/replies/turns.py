"""What a model is given: the newest messages of the conversation, as turns.

A reply with tool calls becomes several turns: its text and its calls, the outcome of each call, then the rest. The
window counts messages, so it never separates a call from its outcome.

Providers refuse a conversation that breaks their rules, and some are stricter than others. The turns comply with the
strictest rules that are known:

1. The first turn is a user's.
2. Turns of the user and the assistant alternate. If the reply between two messages of people said nothing, these
   messages are one turn.
3. A turn with calls is followed by their outcomes, in the order of the calls, and these by the assistant's next turn.
   If a reply ended before that turn, a sentence in brackets about its end takes the place. Calls that were never run
   are left out.
4. The ids of all calls differ. A call of another model has an id of nine letters and digits.
5. The name of a call consists of at most 64 letters, digits, `_` and `-`, and its arguments are a JSON object.
6. No turn is empty, or blank: each has text, images, documents or calls.
7. The last turn is a user's, or the outcome of a call. It belongs to the newest question, which no window cuts off. If
   the answer to that question is to continue, the last turn is the request to continue: newer models reject a
   conversation that ends with their own words.

Opaque data is returned to the provider that sent it, with the calls and the answers that it belongs to.

Invariants: pure. The stored messages are the conversation, whatever a client has posted. Whatever is stored, the turns
comply with these rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count, groupby
from typing import Final

from msgspec.structs import replace

from statestream.chat.file_urls import file_of, is_data
from statestream.chat.messages import (
    NOT_RUN,
    Message,
    Part,
    full_text,
    is_object,
    outcome_text,
    short_id,
    text_of,
)
from statestream.chat.models import CONTINUE, Document, ToolCall, Turn
from statestream.chat.slices.provider import NOTHING, Sent

BETWEEN: Final = "\n\n"
STOPPED: Final = "The reply was stopped."
NOTHING_SAID: Final = "Nothing more was said."
NO_TEXT: Final = '""'
"""A tool's outcome without text, which some providers refuse, as JSON."""
MAX_NAME: Final = 64
PDF: Final = "application/pdf"
_NOT_IN_NAMES: Final = re.compile(r"[^a-zA-Z0-9_-]", re.ASCII)


def turns_of(
    messages: Sequence[Message], window: int, model: str, sent: Mapping[str, Sent], request: str = ""
) -> list[Turn]:
    """The turns of the newest messages: at most `window` with content, but always the newest question.

    `model` is the name of the model that they are for, `sent` the opaque data of its provider by reply. `request`
    follows as a turn of the user.
    """
    newest = max((at for at, message in enumerate(messages) if message["role"] == "user"), default=len(messages))
    kept: list[list[Turn]] = []
    for at in range(len(messages) - 1, -1, -1):
        if len(kept) >= window and at < newest:
            break
        if turns := _turns(messages[at], model, sent.get(messages[at]["id"], NOTHING)):
            kept.append(turns)
    turns = [turn for turns in reversed(kept) for turn in turns]
    begin = next((at for at, turn in enumerate(turns) if turn.role == "user"), len(turns))
    asked = [Turn(role="user", text=request)] if request else []
    alternating = _alternating([*turns[begin:], *asked])
    if alternating and alternating[-1].role == "assistant":
        alternating.append(Turn(role="user", text=CONTINUE))
    return list(_with_different_ids(alternating))


def _turns(message: Message, model: str, sent: Sent) -> list[Turn]:
    """The turns of one message; none if it is a reply that said nothing."""
    if message["role"] == "user":
        return [_question(message)]
    turns: list[Turn] = []
    own = ((index, part) for index, part in enumerate(message["parts"]) if "of" not in part)
    for step, parts in groupby(own, key=lambda numbered: numbered[1].get("step", 0)):
        turns += _step(step, list(parts), sent)
    if message.get("model") != model:
        turns = list(_with_ids(turns, (short_id(message["id"], number) for number in count())))
    if turns and turns[-1].role == "tool" and message["status"] != "streaming":
        turns.append(Turn(role="assistant", text=f"[{_end(message)}]"))
    return turns


def _question(message: Message) -> Turn:
    files = [part for part in message["parts"] if part["type"] == "file"]
    images = tuple(part["url"] for part in files if _is_image(part))
    documents = tuple(_document(part) for part in files if _is_document(part))
    others = (_named(part) for part in files if not _is_image(part) and not _is_document(part))
    text = "\n".join(line for line in (text_of(message), *others) if line.strip())
    if not text and not images and not documents:
        text = f"[{', '.join(dict.fromkeys(part['type'] for part in message['parts'])) or 'nothing'}]"
    return Turn(role="user", text=text, images=images, documents=documents)


def _is_image(file: Part) -> bool:
    """Whether models receive it as an image. A file that was not read has a URL that they cannot open."""
    return str(file["mediaType"]).startswith("image/") and file_of(file["url"]) is None


def _is_document(file: Part) -> bool:
    return str(file["mediaType"]).startswith(PDF) and is_data(file["url"])


def _document(file: Part) -> Document:
    return Document(url=file["url"], name=file.get("filename", "document.pdf"))


def _named(file: Part) -> str:
    """Of other files, models receive the name or the type."""
    return f"[file: {file.get('filename') or file['mediaType']}]"


def _step(step: int, parts: Sequence[tuple[int, Part]], sent: Sent) -> Iterator[Turn]:
    """The turns of one answer of the model: its text and its calls, and their outcomes."""
    text, reasoning = (
        "".join(full_text(part) for _, part in parts if part["type"] == kind) for kind in ("text", "reasoning")
    )
    tools = [(index, part) for index, part in parts if part["type"] == "tool" and _was_run(part)]
    if not text.strip() and not tools:
        return
    calls = tuple(_call(part, sent.calls.get(index, ())) for index, part in tools)
    yield Turn(
        role="assistant",
        text=text if text.strip() else "",
        calls=calls,
        reasoning=reasoning,
        opaque=sent.answers.get(step, ()),
    )
    for _, part in tools:
        outcome = outcome_text(part)
        yield Turn(role="tool", text=outcome if outcome.strip() else NO_TEXT, answers=part["call"])


def _was_run(tool: Part) -> bool:
    return tool["status"] != "streaming" and tool.get("error") != NOT_RUN


def _call(tool: Part, opaque: tuple[str, ...]) -> ToolCall:
    arguments = full_text(tool)
    return ToolCall(
        id=tool["call"],
        name=_NOT_IN_NAMES.sub("_", tool["name"])[:MAX_NAME],
        arguments=arguments if is_object(arguments) else "{}",
        opaque=opaque,
    )


def _end(message: Message) -> str:
    """A sentence about the end of a reply that ended before the model had answered the outcomes of its tools."""
    if message["status"] == "error":
        return str(message["error"]["message"])
    return STOPPED if message["status"] == "stopped" else NOTHING_SAID


def _alternating(turns: Iterable[Turn]) -> list[Turn]:
    """The turns, with consecutive turns of one side joined."""
    alternating: list[Turn] = []
    for turn in turns:
        last = alternating[-1] if alternating else None
        if last is not None and last.role == turn.role and turn.role != "tool":
            alternating[-1] = _joined(last, turn)
        else:
            alternating.append(turn)
    return alternating


def _joined(first: Turn, second: Turn) -> Turn:
    """Joins two turns. The first one has no calls: their outcomes would be between the two."""
    return replace(
        second,
        text=BETWEEN.join(turn.text for turn in (first, second) if turn.text),
        images=first.images + second.images,
        documents=first.documents + second.documents,
    )


def _with_different_ids(turns: Sequence[Turn]) -> Iterator[Turn]:
    used: set[str] = set()

    def different(id: str) -> str:
        number = 0
        while id in used:
            id, number = short_id(id, number), number + 1
        used.add(id)
        return id

    return _with_ids(turns, (different(call.id) for turn in turns for call in turn.calls))


def _with_ids(turns: Sequence[Turn], ids: Iterator[str]) -> Iterator[Turn]:
    """The turns, with these ids for their calls. Outcomes are in the order of the calls."""
    answered: Iterator[str] = iter(())
    for turn in turns:
        if turn.calls:
            calls = tuple(replace(call, id=next(ids)) for call in turn.calls)
            answered = iter([call.id for call in calls])
            yield replace(turn, calls=calls)
        elif turn.role == "tool":
            yield replace(turn, answers=next(answered))
        else:
            yield turn
