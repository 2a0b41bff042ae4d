"""Asks a provider through its package, and reads its answer.

The package handles the connection, authentication and HTTP errors, and retries nothing: the chat does, for all models.
A parser of ours reads the bytes of the stream, because the package's typed events cost several times as much and check
nothing. This code does not depend on the package's transport: any exception while bytes are read means that the
connection is lost or that time has run out.

Invariants: every exception of the package and its transport becomes a ModelFailed with a sentence of ours. The
provider's own messages may contain keys or prompts, so only the type of an exception is logged. A caller that stops
early closes the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Final, Protocol

from statestream.chat.models import ModelFailed, Piece
from statestream.chat.models.failures import failure_of, rejected_setting
from statestream.chat.models.settings import ModelSettings

log = logging.getLogger("statestream")

DRAIN_SECONDS: Final = 0.1
USAGE_SECONDS: Final = 2.0


class Parser(Protocol):
    """Parses the bytes of one answer. `done`: the provider has announced the end of the stream.

    `finished`: the model has said why it stopped, and has sent nothing else since.
    """

    done: bool
    finished: bool

    def feed(self, data: bytes) -> Iterator[Piece]:
        """The pieces that these bytes complete. Raises ModelFailed."""

    def end(self) -> Iterator[Piece]:
        """The pieces that are due when the stream has ended."""


class Request(Protocol):
    """A request to a provider. It contains `settings`. `names` has the words that the provider's errors use for each of
    them.
    """

    settings: ModelSettings

    @property
    def names(self) -> Mapping[str, tuple[str, ...]]: ...

    def members(self) -> dict[str, Any]:
        """The arguments for the package."""

    def adapts(self, error: Exception, members: dict[str, Any]) -> bool:
        """Whether the next members omit what the provider has rejected in these, or add what it has required."""


class Endpoint:
    """Where to ask a provider. `opened` makes the package's client and returns it with the function that asks."""

    def __init__(self, opened: Callable[[], tuple[Any, Callable[..., Any]]]) -> None:
        self._open = opened
        self._client: Any = None
        self._create: Callable[..., Any] | None = None
        self._opening = asyncio.Lock()

    async def answer(self, request: Request, parser: Parser) -> AsyncIterator[Piece]:
        """The pieces of the answer. Raises ModelFailed."""
        try:
            async with contextlib.AsyncExitStack() as exits:
                response = await self._response(exits, request)
                body = await exits.enter_async_context(contextlib.aclosing(response.http_response.aiter_bytes()))
                until = None
                while (data := await _next(body, parser, until)) is not None:
                    for piece in parser.feed(data):
                        yield piece
                    until = (until or asyncio.get_running_loop().time() + USAGE_SECONDS) if parser.finished else None
                if parser.done:
                    await _drain(body)
        except ModelFailed as failure:
            log.warning("the model failed: %s", failure.kind)
            raise
        except Exception as error:  # of the package or its transport
            log.warning("the model failed: %s", type(error).__name__)
            raise failure_of(error) from None
        for last in parser.end():
            yield last

    async def _response(self, exits: contextlib.AsyncExitStack, request: Request) -> Any:
        """The open response. If the provider rejects something optional, asks again without it, once for each such
        thing.

        Raises ModelFailed if it rejects a setting.
        """
        create = await self._requester()
        while True:
            members = request.members()
            try:
                return await exits.enter_async_context(create(**members))
            except Exception as error:
                if request.adapts(error, members):
                    continue
                failure = rejected_setting(error, request.settings, request.names)
                if failure is not None:
                    raise failure from None
                raise

    async def _requester(self) -> Callable[..., Any]:
        """The function that asks the provider. Importing the package takes most of a second: not on the event loop."""
        async with self._opening:
            if self._create is not None:
                return self._create
            self._client, create = await asyncio.to_thread(self._open)
            self._create = create
            return create

    async def close(self) -> None:
        """Closes the connections."""
        client, self._client, self._create = self._client, None, None
        if client is not None:
            await client.close()


def digest(text: str) -> str:
    """A short name for a server and a model that does not reveal the URL."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def require(package: str, *, extra: str) -> None:
    """Raises ImportError with the command that installs a provider's package."""
    if importlib.util.find_spec(package) is None:
        raise ImportError(
            f"{package} is not installed; it comes with the extra {extra}: pip install '.[{extra}]' in the checkout",
            name=package,
        )


async def _next(body: AsyncIterator[bytes], parser: Parser, until: float | None) -> bytes | None:
    """The next bytes of the stream; None at its end.

    Once the model has said why it stopped, only its usage can be missing. This waits for it until `until`. Its absence
    is not an error.
    """
    if parser.done:
        return None
    try:
        async with asyncio.timeout_at(until):
            return await anext(body, None)
    except Exception:
        if parser.finished:
            return None
        raise


async def _drain(body: AsyncIterator[bytes]) -> None:
    """Reads the rest of the body, which is nearly complete. Only then can the connection be reused.

    If the connection is lost instead, the answer is still complete.
    """
    with contextlib.suppress(Exception):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for _ in body:
                pass
