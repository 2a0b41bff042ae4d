"""What agents and tools can do besides answering: read the state, act as the person who asks, and store values.

A tool call that somebody has approved runs on behalf of that person.

Invariants: an agent has the rights of the person on whose behalf it works, for as long as their credentials are valid,
and no others. What it reads must not be changed. What it has stored is durable when `store` returns, and belongs to a
reply that has not ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from msgspec.structs import replace

from statestream.chat.agents import AgentPiece, File, Status, StoredFile
from statestream.chat.agents.question_storage import QuestionStorage
from statestream.chat.file_keeper import FileKeeper
from statestream.chat.messages import Part
from statestream.chat.models import Finish, Model, ModelFailed, Piece, Refusal, ToolSpec, Turn, Usage
from statestream.chat.models.output import UNFIT, output_of
from statestream.chat.models.settings import ModelSettings
from statestream.chat.replies.model_calls import answering
from statestream.chat.replies.retrying import Retrying
from statestream.core.change import Action, Result
from statestream.core.errors import Refused, Unauthenticated
from statestream.core.principal import Identity
from statestream.store.revocations import why_not
from statestream.store.view import StoreView

T = TypeVar("T")
MAX_READ: Final = 25 << 20
"""The bytes of a file that an agent reads, unless it says otherwise."""
CHUNK: Final = 256 << 10


class Runner(Protocol):
    """Who runs other agents for an agent or a tool."""

    async def run(self, context: Context, name: str, text: str) -> str:
        """The final text of the agent of that name, which is given a task. Raises Refused."""

    def note(self, piece: Piece | Status) -> None:
        """A model has yielded a piece that is not shown: whoever asks is not silent, and its usage counts."""


class Context:
    """The state as the person who asks may see it. `view` is theirs; `server` is the server's own.

    `chat` and `reply` are the ids of the chat and of the reply. `call` is the id of the tool call; in an agent, None.
    `runner` runs other agents, while the reply is made. `tools` are those that the front end of the person who asks can
    run.
    """

    call: str | None = None
    tools: Sequence[ToolSpec] = ()

    def __init__(
        self, view: StoreView, server: StoreView, files: FileKeeper, key: str, reply: str, retrying: Retrying
    ) -> None:
        self._view, self._server, self._files, self.chat, self.reply = view, server, files, key, reply
        self._retrying = retrying
        self._storage = QuestionStorage(server, key, reply)
        self._prefix = ""
        self.runner: Runner | None = None

    def of_call(self, call: str, view: StoreView | None = None) -> Context:
        """The context of a tool call. `view` is that of whoever has approved it."""
        context = Context(view or self._view, self._server, self._files, self.chat, self.reply, self._retrying)
        context.call, context._storage, context.runner = call, self._storage, self.runner
        return context

    def of_run(self, agent: str, runner: Runner) -> Context:
        """The context of a nested run of that agent, whose stored values are its own."""
        context = Context(self._view, self._server, self._files, self.chat, self.reply, self._retrying)
        context._storage, context.runner = self._storage, runner
        context._prefix = f"{self._prefix}{agent}/"
        return context

    async def run(self, agent: str, text: str) -> str:
        """Has another agent of the chat work on a task, and returns its final text.

        Everybody sees the work as it happens, under a tool call of its own. The agent has the rights of the person who
        asks. Raises Refused, with the kind of the error and a sentence, if the agent fails, if there is no agent of
        that name, or if agents are nested too deeply.
        """
        if self.runner is None:
            raise Refused("failed", "No reply is in progress.")
        return await self.runner.run(self, agent, text)

    @property
    def identity(self) -> Identity | None:
        """Who asks; None if the server does not authenticate."""
        return self._view.principal.identity

    async def get(self, name: str) -> Any:
        """The committed value of a slice (`board`) or an instance (`room/42`), as this person sees it.

        None if there is no such instance, or they may not read it. Raises UnknownSlice for a slice that they may not
        read, Unauthenticated if their credentials are no longer valid, Malformed, Unavailable.
        """
        await self._check()
        state = await self._view.complete(lambda: self._view.read(name))
        return None if state is None else state.value

    async def dispatch(self, *actions: Action) -> Result:
        """Applies actions, all or none, as this person; see `Store.dispatch`.

        Raises Forbidden, Refused, InvalidPayload, UnknownAction, Unauthenticated, Unavailable.
        """
        await self._check()
        return await self._view.dispatch(actions)

    async def _check(self) -> None:
        identity = self.identity
        if identity is None:
            return
        kind = await self._server.complete(lambda: why_not(self._server, identity))
        if kind is not None:
            raise Unauthenticated("the login of the person who asked is no longer valid", kind=kind)

    def asking(
        self, model: Model, turns: Sequence[Turn], tools: Sequence[ToolSpec], settings: ModelSettings
    ) -> AbstractAsyncContextManager[AsyncIterator[Piece | Status]]:
        """The pieces of a model's answer, for the server's own code."""
        return answering(model, turns, tools, settings, chat=self.chat, retrying=self._retrying)

    async def answer(
        self,
        model: Model,
        turns: Sequence[Turn],
        tools: Sequence[ToolSpec] = (),
        settings: ModelSettings | None = None,
    ) -> AsyncIterator[AgentPiece]:
        """Yields what a model answers, and a Status if it is asked again. Raises ModelFailed, also if the answer is cut
        short.
        """
        finished = False
        async with self.asking(model, turns, tools, settings or ModelSettings()) as pieces:
            async for piece in pieces:
                finished = finished or isinstance(piece, Finish)
                yield replace(piece, model=piece.model or model.name) if isinstance(piece, Usage) else piece
        if not finished:
            raise ModelFailed("truncated", "The reply was cut short.")

    async def ask_for(
        self,
        kind: type[T],
        model: Model,
        turns: Sequence[Turn],
        settings: ModelSettings | None = None,
    ) -> T:
        """Asks a model for a value of a type. Nobody sees the answer.

        Raises ModelFailed, with the kind `unfit_output` if the answer does not fit the type.
        """
        chosen, text = (settings or ModelSettings()) | ModelSettings(output=kind), ""
        async for piece in self.answer(model, turns, settings=chosen):
            if isinstance(piece, Refusal):
                raise ModelFailed("refused", "The model declined to answer.")
            if isinstance(piece, str):
                text += piece
            if self.runner is not None and isinstance(piece, Piece | Status):
                self.runner.note(piece)
        try:
            value: T = output_of(kind).value(text)
        except ValueError:
            raise ModelFailed(*UNFIT) from None
        return value

    async def file(self, part: Part, *, most: int = MAX_READ) -> bytes:
        """Reads a file of this chat that a part of a message names. `most` limits the number of bytes.

        Raises NotFound if the file is not there, TooLarge, ValueError for a part with an address elsewhere,
        Unauthenticated, Unavailable.
        """
        await self._check()
        return await self._files.whole(self.chat, part, most)

    async def keep(self, file: File) -> StoredFile:
        """Stores a file, which becomes a part of the reply when an agent yields the result. Yielding a File does both.

        Raises Refused if the chat does not accept it, TooLarge, OSError if it cannot be read, Unavailable.
        """
        size = await asyncio.to_thread(_size_of, file)
        part, actions = await self._files.upload_for_reply(
            self.chat, _content(file), media_type=file.media_type, filename=file.filename, size=size
        )
        return StoredFile(part=part, actions=actions)

    async def keeping(self, pieces: AsyncIterator[AgentPiece]) -> AsyncGenerator[AgentPiece, None]:
        """Pieces, with each file stored. Raises as `keep` does."""
        async for piece in pieces:
            yield await self.keep(piece) if isinstance(piece, File) else piece

    @property
    def stored(self) -> Mapping[str, Any]:
        """What was stored for this question: by this run, and before it by runs that were interrupted."""
        values = self._storage.values
        if not self._prefix:
            return values
        return {name.removeprefix(self._prefix): value for name, value in values.items() if self._owns(name)}

    def _owns(self, name: str) -> bool:
        return name.startswith(self._prefix)

    async def store(self, name: str, value: Any) -> None:
        """Stores a JSON value under a name. Nobody else can read it.

        Raises NotJSON, Refused if there is too much or the reply has ended, Unavailable.
        """
        await self._storage.store(f"{self._prefix}{name}", value)

    async def open(self) -> None:
        """Reads what is stored for the question. Raises Unavailable."""
        await self._storage.open()


def _size_of(file: File) -> int:
    return len(file.data) if file.data is not None else Path(file.path or "").stat().st_size


async def _content(file: File) -> AsyncIterator[bytes]:
    if file.data is not None:
        for begin in range(0, len(file.data), CHUNK):
            yield file.data[begin : begin + CHUNK]
        return
    with await asyncio.to_thread(Path(file.path or "").open, "rb") as opened:
        while piece := await asyncio.to_thread(opened.read, CHUNK):
            yield piece
