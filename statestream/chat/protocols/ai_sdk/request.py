"""What front ends post to ask a question, and which of it counts: one message of a person, new, edited or repeated.

    {"messages": [{"role", "content"}, …]}                            the oldest front ends
    {"id", "messages": [UIMessage, …], "trigger"?, "messageId"?}      the AI SDK's transports, both majors
    {"id", "message": UIMessage, …}                                   the same, reduced to the last message

The posted history is the client's copy, and the server ignores it: an id says which message is meant, and the parts of
a new or edited message are taken. At the client an edited message keeps its id. Here it becomes a sibling, whose id is
made from the old one and its content, so that posting it again finds it. A message with a known id and other content
counts as edited, with or without `messageId`, because some front ends leave that out.

A request to regenerate a reply with `"continue": true` lets a reply that was cut off continue.

Regenerating a reply or editing a question changes what everybody sees. The ids in the body show, within limits, what
the page has seen: its last question, or the reply that it names, must be shown. If a page names `leaf`, only that
counts.

If the last message of a post is a reply in which somebody has approved or denied tool calls, the post contains these
decisions. If the page has run tools itself, it posts their outputs.

Invariants: the only place that reads such bodies. Reading them is pure, and raises Malformed for anything that cannot
be understood. What a post means is decided here; the conversations decide what comes of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, Final, Literal

from msgspec import Struct
from pydantic import ConfigDict, Field

from statestream.chat.agents.declared import MAX_NAME
from statestream.chat.approvals import Decision, ToolAnswer
from statestream.chat.chats import chat_key
from statestream.chat.file_urls import same_parts
from statestream.chat.messages import KEPT_DEPTH, Message, Part, State, call_id, find, message_or_reply, path
from statestream.chat.protocols.ai_sdk.messages import own_metadata
from statestream.chat.protocols.ai_sdk.projection import NOTHING, Held
from statestream.chat.question import MAX_ID, MAX_PARTS, Question, check_metadata, check_parts
from statestream.chat.questions import Asked
from statestream.chat.seen import hidden_by_sibling, leaf_seen, looked_at, stale
from statestream.chat.viewing.pending import shown
from statestream.chat.viewing.projection import Item, Projection
from statestream.chat.visit import Visit
from statestream.core.errors import Malformed, Refused
from statestream.core.values import canonical, plain
from statestream.server.bodies import Body, checked

_MEMBERS: Final = {
    "text": {"text": True},
    "file": {"mediaType": True, "url": True, "filename": False},
}
"""The members of a part that are kept, and whether they are required."""


class _Posted(Body):
    """A posted message. Front ends post more than the server needs, such as the states of parts."""

    model_config = ConfigDict(strict=True, extra="ignore")
    id: str | None = Field(default=None, min_length=1, max_length=MAX_ID)
    content: str | None = None
    parts: list[dict[str, Any]] | None = Field(default=None, max_length=MAX_PARTS)
    metadata: Any = None

    @cached_property
    def kept_metadata(self) -> dict[str, Any]:
        """The front end's own metadata: an object, as `useChat` sends it. Raises Malformed."""
        return check_metadata(own_metadata(self.metadata)) if isinstance(self.metadata, dict) else {}

    @cached_property
    def kept_parts(self) -> list[dict[str, Any]]:
        """The parts that a person's message may have. Raises Malformed."""
        if not self.parts:
            parts = [{"type": "text", "text": self.content or ""}]
        else:
            parts = [part for posted in self.parts if (part := _part(posted)) is not None]
        return check_parts(parts)


class _PostedApproval(Body):
    """A page's decision about a tool call."""

    model_config = ConfigDict(strict=True, extra="ignore")
    id: str = Field(min_length=1, max_length=MAX_ID)
    approved: bool
    reason: str | None = None


def _part(posted: dict[str, Any]) -> dict[str, Any] | None:
    """A posted part as it is kept; None if only a reply can have it."""
    kind = posted.get("type")
    if not isinstance(kind, str):
        return None
    if kind.startswith("data-"):
        data = {name: plain(posted[name], KEPT_DEPTH) for name in ("id", "data") if posted.get(name) is not None}
        return {"type": kind, **data}
    members = _MEMBERS.get(kind)
    if members is None:
        return None
    for name, required in members.items():
        if not isinstance(posted.get(name, None if required else ""), str):
            raise Malformed(f"expected text as `{name}` of a {kind} part")
    return {"type": kind, **{name: posted[name] for name in members if name in posted}}


class Post(Body):
    """The body of a question. `trigger` and `messageId` are the AI SDK's, `leaf`, `agent` and `continue` are ours.

    The last message of a person counts. It has text in `content`, or `parts`. Other members are ignored.
    """

    model_config = ConfigDict(strict=True, extra="ignore")
    id: str | None = Field(default=None, min_length=1)
    messages: list[dict[str, Any]] = Field(default_factory=list)
    message: dict[str, Any] | None = None
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    messageId: str | None = Field(default=None, max_length=MAX_ID)  # noqa: N815 - the wire's name
    leaf: str | None = Field(default=None, min_length=1, max_length=MAX_ID)
    agent: str | None = Field(default=None, min_length=1, max_length=MAX_NAME)
    continues: bool = Field(default=False, alias="continue")

    @cached_property
    def _last(self) -> _Posted | None:
        """The person's message that the request is about."""
        posted = [*self.messages, self.message] if self.message is not None else self.messages
        last = next((message for message in reversed(posted) if message.get("role") == "user"), None)
        return None if last is None else checked(_Posted, last)

    def question(self, state: State, author: str | None) -> Question:
        """The question to ask. Raises Malformed if there is none, and Refused if a reply was edited."""
        last, meant = self._last, self._meant(state)
        if last is None:
            raise Malformed("expected a last user message with content in `messages`, got none")
        parts = last.kept_parts
        asked = partial(Question, parts=parts, author=author, agent=self.agent, metadata=last.kept_metadata)
        if meant is None:
            return asked(id=last.id)
        if meant["role"] != "user":
            raise Refused("not_yours", "A reply cannot be edited; its tools are run by the server.")
        if _has_content(meant, parts):
            return asked(id=meant["id"])
        return asked(id=_edited_id(last.id or meant["id"], parts), edits=meant["id"])

    def settled(self, state: State) -> Settled | None:
        """The page's decisions about tool calls and its results, if that is why it posts. Raises Malformed."""
        posted = self.message or (self.messages[-1] if self.messages else {})
        parts = posted.get("parts")
        if self.trigger != "submit-message" or posted.get("role") != "assistant" or not isinstance(parts, list):
            return None
        held = [part for part in parts if isinstance(part, dict) and part.get("type") != "step-start"]
        message = find(state, posted.get("id"))
        if message is None:
            return None
        decisions = [_decision(part) for part in held if part.get("state") == "approval-responded"]
        offers = {
            call_id(message["id"], index): part["offer"]["id"]
            for index, part in enumerate(message["parts"])
            if "offer" in part
        }
        answers = [
            _answer(part, offers[part["toolCallId"]])
            for part in held
            if part.get("state") in ("output-available", "output-error") and _id_in(part) in offers
        ]
        known = [part["call"] for part, has in zip(message["parts"], held, strict=False) if _has_outcome(has, part)]
        inputs = {_id_in(part): part["input"] for part in held if "input" in part}
        holds = Held(parts=len(held), outcomes=frozenset(known), inputs=inputs)
        found = Settled(decisions=decisions, answers=answers, held=holds)
        return found if decisions or answers else None

    def to_regenerate(self, state: State) -> str | None:
        """The id of the question to answer again; None if a question is to be asked. Raises Refused if there is none.

        None also if a page wants an answer to a question that was edited there or has never come here.
        """
        if self.trigger != "regenerate-message":
            return None
        last, meant = self._last, self._meant(state)
        if last is not None and last.id is not None:
            return str(meant["id"]) if meant is not None and _has_content(meant, last.kept_parts) else None
        questions = [message for message in path(state) if message["role"] == "user"]
        if meant is None and (self.messageId is not None or not questions):
            raise Refused("unknown_message", "The message to answer again is no longer in this chat.")
        return str((meant or questions[-1])["id"])

    def to_continue(self, state: State) -> Any:
        """The reply to continue, if this is wanted and not another answer. Raises Refused if there is none."""
        if self.trigger != "regenerate-message" or not self.continues:
            return None
        named = message_or_reply(state, self.messageId) if self.messageId else find(state, state.get("leaf"))
        if named is None or named["role"] == "user":
            raise Refused("unknown_message", "The reply to continue is no longer in this chat.")
        return named

    def leaf_for_regenerating(self, state: State, question: str) -> str | None:
        """The leaf that the sender of a request to regenerate has seen. Raises Refused."""
        if self.leaf is None and not self._shows(state, question):
            raise stale()
        hidden = hidden_by_sibling(state, find(state, question)) if self.leaf is None else ()
        return leaf_seen(state, self.leaf, hidden)

    def _shows(self, state: State, question: str) -> bool:
        """Whether the chat shows what the sender sees: the message that it names, otherwise the question as the last
        one.
        """
        named, shown = message_or_reply(state, self.messageId), path(state)
        if named is not None:
            meant = named["id"] if named["role"] != "user" else question
            return any(message["id"] == meant for message in shown)
        return next((message["id"] for message in reversed(shown) if message["role"] == "user"), None) == question

    def replaced(self, state: State, question: Question) -> Any:
        """The stored message that the question replaces; None if the question is new, or already shown."""
        if question.edits is not None:
            return find(state, question.edits)
        earlier = None if self.messageId is None else find(state, question.id)
        return None if earlier in path(state) else earlier

    def _meant(self, state: State) -> Any:
        """The stored message that the request is about, or None. A page calls an edited message by its old id."""
        last, named = self._last, message_or_reply(state, self.messageId)
        if named is not None and named["role"] != "user":
            return find(state, named.get("parent")) if self.trigger == "regenerate-message" else named
        ids = [_edited_id(last.id, last.kept_parts), last.id] if last is not None and last.id is not None else []
        found = (find(state, message_id) for message_id in (*ids, self.messageId))
        return next((message for message in found if message is not None), None)


class Settled(Struct, frozen=True, kw_only=True):
    """A page's decisions about and results of tool calls of a reply, and what the page holds of the reply."""

    decisions: list[Decision]
    answers: list[ToolAnswer]
    held: Held


def _has_outcome(posted: dict[str, Any], part: Part) -> bool:
    """Whether a page holds the outcome of a tool call."""
    match part.get("status"):
        case "complete":
            has = posted.get("state") == "output-available"
            return has and canonical(posted.get("output")) == canonical(part["result"])
        case "error":
            return posted.get("state") == "output-error" and posted.get("errorText") == part["error"]
        case "denied":
            return posted.get("state") == "output-denied"
    return False


def _id_in(part: dict[str, Any]) -> str:
    """The id of a call in a posted part; no id if it is not one."""
    id = part.get("toolCallId")
    return id if isinstance(id, str) else ""


def _answer(part: dict[str, Any], id: str) -> ToolAnswer:
    """A page's result of a front-end tool call: `addToolOutput`."""
    if part["state"] == "output-available":
        return ToolAnswer(id=id, result=part.get("output"))
    return ToolAnswer(id=id, error=str(part.get("errorText") or "The tool failed."))


def _decision(part: dict[str, Any]) -> Decision:
    """Raises Malformed."""
    posted = checked(_PostedApproval, part.get("approval"))
    return Decision(id=posted.id, approved=posted.approved, reason=posted.reason)


class ChatPost(Post):
    """The body of a question that names its chat. The last message of a person counts: its `content` or `parts`."""

    id: str = Field(min_length=1)

    @property
    def key(self) -> str:
        """The key of the chat. Raises Malformed."""
        return chat_key(self.id)


def _has_content(message: Message, parts: list[dict[str, Any]]) -> bool:
    return same_parts(message["parts"], parts)


def _edited_id(message_id: str, parts: list[dict[str, Any]]) -> str:
    return hashlib.sha256(message_id.encode() + b"\n" + canonical(parts)).hexdigest()[:16]


class Answer(Struct, frozen=True, kw_only=True):
    """The reply that a page wants to see, and what the page holds of it.

    `reply` is None as long as the question with the id `question` is queued. `late`: the page was away meanwhile.
    """

    reply: str | None
    held: Held = NOTHING
    late: bool = False
    question: str = ""

    def projection(self, begin: Callable[[str], Projection], removed: Callable[[], list[Item] | None]) -> Projection:
        """That of the reply, once there is one; see Pending."""
        return shown(Asked(question=self.question, reply=self.reply), begin, removed)


async def answer(chats: Visit, key: str, post: Post, *, create: bool) -> Answer:
    """Does what a page has posted. `create`: whether a chat that does not exist is created.

    Raises NotFound, Malformed, Forbidden, Refused.
    """
    state = await chats.current(key)
    if not create:
        await chats.existing(key)
    settled = post.settled(state)
    if settled is not None:
        reply = await chats.settle(key, decisions=settled.decisions, answers=settled.answers)
        return Answer(reply=reply, held=settled.held)
    cut_off = post.to_continue(state)
    if cut_off is not None:
        hidden = hidden_by_sibling(state, cut_off) if post.leaf is None else ()
        leaf = leaf_seen(state, post.leaf, hidden)
        return Answer(reply=await chats.continue_reply(key, cut_off["id"], leaf=leaf))
    again = post.to_regenerate(state)
    if again is not None:
        leaf = post.leaf_for_regenerating(state, again)
        return Answer(reply=await chats.regenerate(key, again, leaf=leaf))
    question, leaf = post.question(state, chats.person), post.leaf
    replaced = post.replaced(state, question)
    if replaced is not None:
        hidden = hidden_by_sibling(state, replaced) if leaf is None else ()
        leaf = leaf_seen(state, leaf, hidden)
    asked = await chats.submit(key, question, create=create, leaf=leaf, show=replaced is not None)
    return Answer(reply=asked.reply, question=asked.question)


async def to_resume(chats: Visit, key: str, leaf: str | None) -> str | None:
    """The id of the reply in progress, if there is one on the branch with the message `leaf`. Raises NotFound."""
    reply = await chats.in_progress(key)
    branch = path(looked_at(await chats.find(key), leaf))
    return str(reply["id"]) if reply is not None and reply["id"] in [message["id"] for message in branch] else None
