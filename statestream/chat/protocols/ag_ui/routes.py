"""`POST /ag-ui`.

Invariants: a body that cannot be understood is a problem with its status. Any other error is an event of the protocol,
with status 200.
"""

from __future__ import annotations

import contextlib
from typing import Final

from aiohttp import web

from statestream.chat.chats import chat_key
from statestream.chat.conversations import Conversations
from statestream.chat.identity import visit
from statestream.chat.messages import find, message_or_reply, reply_to
from statestream.chat.parameters import LEAF
from statestream.chat.protocols.ag_ui.event_types import AGEvent
from statestream.chat.protocols.ag_ui.projection import ThreadProjection, check_size
from statestream.chat.protocols.ag_ui.request import RunInput, follows
from statestream.chat.protocols.rest.routes import leaf_of
from statestream.chat.questions import Asked
from statestream.chat.seen import check_same_branch, looked_at
from statestream.chat.shared_state import SharedState
from statestream.chat.viewing.projection import SlicesBeside
from statestream.chat.viewing.response import event_stream, respond
from statestream.chat.viewing.viewers import Viewer
from statestream.chat.visit import Visit
from statestream.core.errors import (
    Malformed,
    NotFound,
    StatestreamError,
    TooLarge,
    TooManyStreams,
    UnknownSlice,
    VersionConflict,
)
from statestream.server.bodies import checked, read_json
from statestream.server.contract import SLICES, Answer, Contract, Messages, Parameter, Route
from statestream.server.dispatch_rate import admit
from statestream.server.request import asked_of, check_query, view_of


def routes(conversations: Conversations) -> list[Route]:
    async def run(request: web.Request) -> web.StreamResponse:
        check_query(request, "follow", "slices", "leaf")
        chats, follow, beside = visit(request, conversations), follows(request), await _beside(request)
        branch = leaf_of(request)
        posted = checked(RunInput, await read_json(request))
        key = chat_key(posted.threadId)
        shared = conversations.shared
        projection = ThreadProjection(
            posted.threadId, posted.runId, held=posted.held, follow=follow, early=posted.is_early, shared=shared
        )
        looked_at(await chats.current(key), branch)
        refuse = projection.contradict
        try:
            await _set_state(request, shared, posted)
            refuse = projection.refuse
            shown = await _reply(chats, key, posted, branch)
            if isinstance(shown, Asked) and shown.reply is None:
                projection.wait_for(shown.question)
            else:
                asked = isinstance(shown, Asked)
                projection.show(shown.reply if isinstance(shown, Asked) else shown, late=not asked)
        except Malformed:
            raise
        except StatestreamError as error:
            refuse(error.why, str(error))
        with contextlib.ExitStack() as present:
            if follow and (leave := chats.enter(key)) is not None:
                present.callback(leave)
            viewer = Viewer(chats, key, projection, beside, branch)
            return await respond(request, chats.notifier, viewer, event_stream)

    return [Route(method="POST", path="/ag-ui", handler=run, contract=RUN)]


async def _reply(chats: Visit, key: str, posted: RunInput, branch: str | None) -> Asked | str | None:
    """The reply that the client asks for: a new one, or the newest to a question that is live. None for no reply.

    If the client answers interrupts or has run tools, this is the reply that continues.
    """
    shown, question = await chats.find(key), posted.question_id()
    decisions, answers = posted.decisions(shown), posted.answers(shown)
    if decisions or answers:
        return await chats.settle(key, decisions=decisions, answers=answers)
    if question is None or await chats.is_archived(key, question):
        return None
    state = looked_at(shown, branch)
    if find(state, question) is None:
        check_same_branch(shown, state)
        leaf = message_or_reply(state, posted.leaf)
        seen = posted.leaf if leaf is None else str(leaf["id"])
        return await chats.submit(key, posted.question(chats.person), create=True, leaf=seen)
    reply = reply_to(state, question)
    return None if reply is None or reply["id"] != state.get("leaf") else str(reply["id"])


async def _set_state(request: web.Request, shared: SharedState, posted: RunInput) -> None:
    """Dispatches what the client has changed in its state, all or none, before it asks.

    Raises VersionConflict, InvalidPayload, Forbidden, Refused, RateLimited, Malformed.
    """
    if not shared or "slices" not in request.query or not posted.state:
        return
    view = view_of(request)
    asked = await asked_of(request, view)
    states = (await view.complete(lambda: view.snapshot(view.grant(asked).selection))).slices
    actions, expect = shared.changes(posted.state, states)
    if actions:
        admit(request)
        try:
            await view.dispatch(actions, expect=expect)
        except VersionConflict:
            names = ", ".join(expect)
            raise VersionConflict(f"{names} has changed in the meantime, so your changes were not saved") from None


async def _beside(request: web.Request) -> SlicesBeside | None:
    """The slices that the client asks for as its state. Raises Malformed, UnknownSlice, TooLarge, Unavailable."""
    if "slices" not in request.query:
        return None
    view = view_of(request)
    asked = await asked_of(request, view)
    check_size((await view.complete(lambda: view.snapshot(view.grant(asked).selection))).slices)
    return await view.complete(lambda: SlicesBeside(view, asked))


RUN: Final = Contract(
    name="run",
    summary="Asks, or joins a run of AG-UI. Errors of the question are events.",
    parameters=(
        Parameter(name="follow", description="1: each further reply is another run.", schema={"enum": ["0", "1"]}),
        SLICES,
        LEAF,
    ),
    body=RunInput,
    answers=(Answer(description="The events of the run.", media_type="text/event-stream"),),
    errors=(NotFound, UnknownSlice, TooLarge, TooManyStreams),
    access="identity",
    messages=Messages(carrier="events", sends={"event": AGEvent}),
)
