"""`statestream runs stop`: ends a reply that is in progress or waiting.

Invariants: one request, which is safe to repeat.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import orjson
import typer

from statestream.client import redirects
from statestream.tools.console.exit_codes import failure, run
from statestream.tools.console.options import Headers, Url, shown_url, target_of
from statestream.tools.console.output import write
from statestream.tools.console.requests import driver_errors_explained, not_statestream, session
from statestream.tools.target import Target, refusal


def stop(
    url: Url,
    chat: Annotated[str, typer.Argument(metavar="CHAT", help="The id of the chat.")],
    reply: Annotated[
        str | None, typer.Argument(metavar="REPLY", help="Stop only this reply. Default: the unfinished one.")
    ] = None,
    header: Headers = None,
) -> None:
    """Stops the reply of a chat. Its text stays, and everybody in the chat sees that it was stopped.

    Exit code 0: it was stopped. 1: there was none to stop, or the server
    refused or did not answer. 2: invalid usage.

    \b
    statestream runs stop URL 42
    statestream runs stop URL 42 2bac693bd70e
    """  # noqa: D301  # \b keeps the lines apart
    target = target_of(url, None, header)
    if not run(_stop(target, chat, reply)):
        raise failure("there is no such reply in progress or waiting; nothing was stopped")
    write(b"stopped")


async def _stop(target: Target, chat: str, reply: str | None) -> bool:
    url = target.url.with_path(f"{target.url.path.rstrip('/')}/api/runs/{quote(chat, safe='')}/stop", encoded=True)
    body = orjson.dumps({} if reply is None else {"reply": reply})
    headers = {"Content-Type": "application/json"}
    async with (
        driver_errors_explained(target),
        session(target) as http,
        redirects.request(http, "POST", url, headers=headers, data=body) as response,
    ):
        if response.status != 200:
            raise await refusal(f"an answer from {shown_url(target)}", response)
        try:
            return bool(orjson.loads(await response.read())["stopped"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise not_statestream(target) from None
