"""A chat whose questions the application schedules. AHEAD is the file of its clock (see `moved_clock`)."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from aiohttp import web

from statestream import Identity, Store, create_app
from statestream.chat import Chat, Question
from statestream.chat.models.openai import OpenAIModel
from tests.apps.by_name import auth
from tests.support import moved_clock

moved_clock.follow(os.environ["AHEAD"])
chat = Chat(
    model=OpenAIModel("test-model", base_url=os.environ["UPSTREAM"], api_key="sk-canary"), titles=False, lease=1
)
store = Store(chat.slices, journal=os.environ["JOURNAL"])
app = create_app(store, auth=auth)
conversations = chat.setup(app)


async def schedule(request: web.Request) -> web.Response:
    body = await request.json()
    question = Question(parts=[{"type": "text", "text": body["text"]}], id=body["id"], author=body["by"])
    at = datetime.now(UTC) + timedelta(seconds=body["seconds"])
    id = await conversations.schedule.add(request.match_info["chat"], question, at=at, by=Identity(subject=body["by"]))
    return web.json_response({"id": id})


async def scheduled(request: web.Request) -> web.Response:
    found = await conversations.schedule.of(request.match_info["chat"])
    return web.json_response([{"id": each.id, "text": each.text} for each in found])


async def cancel(request: web.Request) -> web.Response:
    chat, id = request.match_info["chat"], request.match_info["id"]
    return web.json_response({"cancelled": await conversations.schedule.cancel(chat, id)})


async def revoke(request: web.Request) -> web.Response:
    await store.revoke(request.match_info["subject"])
    return web.json_response({})


app.router.add_post("/revoke/{subject}", revoke)
app.router.add_post("/schedule/{chat}", schedule)
app.router.add_get("/schedule/{chat}", scheduled)
app.router.add_delete("/schedule/{chat}/{id}", cancel)
