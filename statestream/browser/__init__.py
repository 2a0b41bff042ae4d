"""What runs in a browser: the web client, and the pages of the demo, of a served recording and of the inspector.

The client is the package that `npm pack` makes of this folder: `statestream.js` and `react.js` have what is public, and
`package.json` says what belongs to it. One module builds on those above it:

    errors.js, sharing.js, sse.js     what goes wrong; equal parts of values; events from bytes
    patch.js, replica.js              the pure core: operations, and frames that become a state
    deadline.js, refusals.js          limits of waits; what a refusal says
    token.js, health.js, probe.js, stream.js    the connection
    selection.js, group.js            what is selected; which clients share a stream
    leader.js, shared.js              the one that has the connection; the stream that it shares with the others
    dispatch.js, ticket.js            other requests
    address.js, notifier.js, wake.js  the URL of a server; who is told of changes; what happens to a page
    client.js                         `connect`: all of it together
    overlay.js, outbox.js, stored.js  changes that are expected; actions that wait, in memory and in IndexedDB
    optimistic.js                     `optimistic`: these together, for pages that want them
    conversation.js, archive.js       chats as people see them, and their older messages
    feed.js                           what components show of it
    provider.js, react.js             the hooks for React
    tool_runner.js                    calls of tools that run in a window
    tools.js, react_tools.js          `runTools` and `useTools`, for pages that have such tools

The inspector is a page of its own, `inspector/`, which builds on the client and is no part of the package:

    format.js, pointer.js, diff.js    texts for people; places in values; differences
    log.js, trace.js, travel.js       the newest changes; recordings; the past, from the journal
    server.js, model.js               requests; what the page knows, and where in time it is
    rows.js, tree.js, list.js         rows that exist while they can be seen; the state; the log
    schema.js, form.js, details.js    payloads; dispatching; one change, and differences
    operators.js, charts.js, runs.js  readers and weights; figures over time; replies of chats
    page.js                           all of it together, in `page.html`

The chat page of the demo, `chat/`, builds on the client in the same way. `vendor/` has modules that others publish:

    elements.js, names.js, times.js   elements, and names and times as people read them
    blocks.js, markdown.js, code.js   Markdown: its blocks as text grows; as elements; blocks of code
    server.js, person.js, drafts.js   other requests; who sits here; what they have typed
    talk.js, search.js                the open chat; what chats contain
    attachments.js, composer.js       files to send; the field in which people write
    approval.js                       a tool call that waits for approval
    parts.js, message.js, messages.js the parts of a message; one message; all of them
    sidebar.js, people.js, board.js   the chats; who takes part in one; the tasks beside it
    page.js                           all of it together, in `page.html` and `page.css`

Invariants: no build step; each file is served as it is. A page loads nothing from other servers, runs only the scripts
that it was written with, and cannot be shown in a frame. The files of `vendor/` are those of their packages.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from importlib import resources
from typing import Final, NamedTuple

from aiohttp import web

CONTENT_TYPES: Final = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
POLICY: Final = (
    "default-src 'none'; connect-src 'self'; img-src data:; script-src 'self' {scripts}; style-src {styles}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
CHAT_POLICY: Final = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data:; script-src 'self'; style-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
"""The chat page shows what others wrote, so it has nothing inline, and can make no markup of text."""
CHAT_PAGE: Final = "chat/page.html"


class _File(NamedTuple):
    """A file of this folder as it is served."""

    text: str
    content_type: str
    tag: str
    headers: Mapping[str, str]


@cache
def _file(name: str) -> _File:
    """Reads it once, when it is first asked for: most servers show no page of ours."""
    text = resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
    content_type = CONTENT_TYPES[f".{name.rpartition('.')[2]}"]
    tag = hashlib.sha256(text.encode()).hexdigest()[:16]
    headers = {"Cache-Control": "no-cache", "ETag": f'"{tag}"'}
    if content_type == "text/html":
        headers["Content-Security-Policy"] = CHAT_POLICY if name == CHAT_PAGE else policy_of(text)
    return _File(text, content_type, tag, headers)


def file_handler(name: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Returns a handler that serves the file `name` of this folder. Browsers ask whether theirs is still the same.

    Raises FileNotFoundError.
    """
    if not resources.files(__name__).joinpath(name).is_file():
        raise FileNotFoundError(name)

    async def serve(request: web.Request) -> web.Response:
        return _answer(_file(name), request)

    return serve


def _answer(file: _File, request: web.Request) -> web.Response:
    if any(known.value in (file.tag, "*") for known in request.if_none_match or ()):
        return web.Response(status=304, headers=file.headers)
    return web.Response(text=file.text, content_type=file.content_type, headers=file.headers)


def client_handler() -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Returns a handler that serves the modules of the web client, at a path that ends with `{name}`.

    After `app.router.add_get("/js/{name}", client_handler())`, a page imports `/js/statestream.js`.
    """
    return _module_handler("")


def inspector_handler() -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Returns a handler that serves the modules of the inspector, which look for those of the client one level up."""
    return _module_handler("inspector/")


def chat_handler() -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Returns a handler that serves the modules of the chat page, and its styles.

    The modules look for those of the client one level up, and there in `vendor/` for those of others.
    """
    return _module_handler("chat/")


def vendor_handler(package: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Returns a handler that serves the modules of a folder of `vendor/`."""
    return _module_handler(f"vendor/{package}/")


def _module_handler(folder: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    files = resources.files(__name__).joinpath(folder)
    names = frozenset(each.name for each in files.iterdir() if each.name.endswith((".js", ".css")))

    async def serve(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in names:
            raise web.HTTPNotFound
        return _answer(_file(f"{folder}{name}"), request)

    return serve


def policy_of(page: str) -> str:
    """The `Content-Security-Policy` of a page: what it contains inline is allowed by its hash."""
    return POLICY.format(scripts=_hashes(page, "script"), styles=_hashes(page, "style"))


def _hashes(page: str, tag: str) -> str:
    inline = re.findall(rf"<{tag}(?: [^>]*)?>(.+?)</{tag}>", page, flags=re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in inline)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
