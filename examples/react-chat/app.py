"""A chat for several people, with a front end in React, which `npm run build` puts into dist.

Serve it: statestream serve examples/react-chat/app.py:app
"""

from pathlib import Path
from urllib.parse import unquote

from aiohttp import web

from statestream import Identity, Store, create_app
from statestream.chat import Chat

DIST = Path(__file__).with_name("dist")


async def guest(request: web.Request) -> Identity | None:
    """Believes everybody, by a cookie that the page sets. Use a login instead: docs/howto/authenticate.md has some."""
    name = unquote(request.cookies.get("guest", "")).strip()[:40]
    return Identity(subject=name) if name and name.isprintable() else None


async def join(request: web.Request) -> web.Response:
    """Lets whoever has the link of a chat take part in it."""
    visitor = await guest(request)
    if visitor is not None:
        await people.invite(request.match_info["id"], visitor.subject)
    return web.json_response({})


async def page(_: web.Request) -> web.FileResponse:
    headers = {"Cache-Control": "no-cache", "Content-Security-Policy": POLICY}
    return web.FileResponse(DIST / "index.html", headers=headers)


# The page may load scripts and styles, and connect, nowhere but here.
POLICY = "default-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

chat = Chat()  # asks OpenAI or a compatible provider if OPENAI_API_KEY is set, else a demo model
store = Store([*chat.slices], journal="sqlite:///react-chat.db")
people = chat.conversations(store).people
app = create_app(store, auth=guest)
chat.setup(app)
app.router.add_post("/join/{id}", join)
app.router.add_get("/", page)
(DIST / "assets").mkdir(parents=True, exist_ok=True)  # before the first build, there are none
app.router.add_static("/assets", DIST / "assets")
