"""`POST /ag-ui`: AG-UI, version 1.0, for `HttpAgent` and whatever else speaks it.

    ?follow=1              the stream stays open, and each further reply in the chat is another run in it
    ?slices=board,room/1   these slices are the client's state, live
    ?user=ana              see people.py; who follows is present

Invariants: a body that cannot be meant is a problem with its status; what goes wrong with one that can is said in the
protocol's own words, with status 200. A client that aborts has only gone away; what ends a reply is its stop.
"""

from __future__ import annotations

import contextlib

from aiohttp import web

from statestream.chat.conversations import Conversations, name_of
from statestream.chat.identity import Identify, person
from statestream.chat.messages import find, reply_to
from statestream.chat.projections.ag_ui.slices import SlicesProjection
from statestream.chat.projections.ag_ui.thread import ThreadProjection
from statestream.chat.routes.chats import chat_key
from statestream.chat.run_inputs import RunInput
from statestream.chat.viewing import EVENT_HEADERS, KEEP_ALIVE, events, show
from statestream.core.errors import Malformed, StatestreamError, TooLarge
from statestream.core.selection import Selection
from statestream.server.abort import abort_response
from statestream.server.bodies import checked, read_json
from statestream.server.gate import selection_of, view_of


def routes_of(conversations: Conversations, identify: Identify) -> list[web.RouteDef]:
    async def run(request: web.Request) -> web.StreamResponse:
        author, follow, beside = person(request, identify), _follows(request), _beside(request)
        given = checked(RunInput, await read_json(request))
        key = chat_key(given.threadId)
        view = ThreadProjection(given.threadId, given.runId, held=given.held, follow=follow)
        try:
            view.show(await _reply(conversations, key, given, author))
        except Malformed:
            raise
        except StatestreamError as error:
            view.refuse(error.why, str(error))
        with contextlib.ExitStack() as held:
            if follow and author is not None:
                held.callback(conversations.presence.enter(key, author))
            return await _stream(request, conversations, key, view, beside)

    return [web.post("/ag-ui", run)]


async def _reply(conversations: Conversations, key: str, given: RunInput, author: str | None) -> str | None:
    """The reply that the client asks for: a new one, or the newest to a question that is live. None for no reply."""
    state, question = await conversations.current(key), given.question()
    if question is None or conversations.archived(key, question):
        return None
    if find(state, question) is None:
        return await conversations.ask(key, given.asked(author), create=True)
    reply = reply_to(state, question)
    return None if reply is None or reply["id"] != state.get("leaf") else str(reply["id"])


async def _stream(
    request: web.Request,
    conversations: Conversations,
    key: str,
    view: ThreadProjection,
    beside: SlicesProjection | None,
) -> web.StreamResponse:
    view_of_store = conversations.store
    response = web.StreamResponse(headers=EVENT_HEADERS)
    await response.prepare(request)
    names = [] if beside is None else _watched(beside.selection)

    def look(changed: set[str] | None) -> tuple[bytes, bool]:
        state = conversations.find(key)
        news = [] if beside is None else beside.new(view_of_store, changed)
        return events(view.new(state, news)), view.over

    try:
        await show(response, conversations.notifier, [name_of(key), *names], look, keep_alive=KEEP_ALIVE)
        if last := view.broken_off():
            await response.write(events(last))
    except TooLarge:  # the slices are others now, and more than the client would take
        abort_response(request)
    return response


def _follows(request: web.Request) -> bool:
    follow = request.query.get("follow", "0")
    if follow not in ("0", "1"):
        raise Malformed("expected follow=1 or follow=0")
    return follow == "1"


def _beside(request: web.Request) -> SlicesProjection | None:
    """What the client has as its state: nothing, unless it says so. Raises Malformed, UnknownSlice, TooLarge."""
    if "slices" not in request.query:
        return None
    store = view_of(request)
    beside = SlicesProjection(selection_of(request, store))
    beside.fitting(store)
    return beside


def _watched(selection: Selection) -> list[str]:
    if selection.everything:
        return ["*"]
    return [*selection.names, *(f"{family}/*" for family in selection.families)]
