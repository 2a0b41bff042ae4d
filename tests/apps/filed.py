"""A chat with agents that read and send files. Who sends a request, `by_name` says, unless FILED_OPEN is set.

FILED_JOURNAL, FILED_S3 (the URL of a store that is compatible with S3), FILED_NONE (no blobs, as on a journal that
several machines share) and AHEAD (see `moved_clock`) come from the environment.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from pathlib import Path

from statestream import Store, create_app
from statestream.chat import Chat, Files
from statestream.chat.agents import AgentPiece, File, Task
from statestream.chat.agents.context import Context
from statestream.chat.blobs.s3 import S3Blobs
from statestream.core.errors import StatestreamError
from statestream.journal.memory import MemoryJournal
from statestream.server.limits import Limits
from tests.apps.by_name import auth
from tests.support import moved_clock

Pieces = AsyncGenerator[AgentPiece, None]
LIMIT = 400_000

if "AHEAD" in os.environ:
    moved_clock.follow(os.environ["AHEAD"])

s3 = os.environ.get("FILED_S3")
chat = Chat(
    titles=False,
    files=Files(upload_size=LIMIT, chat_size=4 * LIMIT),
    blobs=S3Blobs("files", prefix="chats", endpoint=s3, region="us-east-1", key="S3RVER", secret="S3RVER")
    if s3
    else None,
)


@chat.agent
async def reader(task: Task, context: Context) -> Pieces:
    """Says how long the files are that somebody posts."""
    yield "Read:"
    for part in task.question["parts"]:
        if part["type"] == "file":
            try:
                yield f" {len(await context.file(part))}"
            except (StatestreamError, ValueError) as error:
                yield f" {type(error).__name__}"
    yield f" {[len(turn.images) for turn in task.turns]}"


@chat.agent
async def painter(task: Task, context: Context) -> Pieces:
    """Sends two files, one of them from the disk."""
    yield "Here:"
    yield File(data=b"day,celsius\n1,20\n", media_type="text/csv", filename='größe "1".csv')
    yield File(path=Path(__file__), media_type="text/plain")
    yield "Done."


@chat.agent
async def careless(task: Task, context: Context) -> Pieces:
    """Sends what the chat does not accept."""
    yield "So:"
    if task.text == "large":
        yield File(data=bytes(LIMIT + 1), media_type="text/plain")
    yield File(data=b"<script>", media_type="text/html")


class Shared(MemoryJournal):
    """A journal that stands for one that several machines share."""

    files_folder = None  # type: ignore[assignment]


app = create_app(
    Store(chat.slices, journal=Shared() if "FILED_NONE" in os.environ else os.environ.get("FILED_JOURNAL", "memory:")),
    auth=None if "FILED_OPEN" in os.environ else auth,
    limits=Limits(upload_bytes_per_day=20 * LIMIT),
)
chat.setup(app)
