"""Several authenticators, for a server whose clients have credentials of different kinds.

Invariants: the first identity counts. Credentials that nobody recognizes are refused even if some authenticators saw
none, so a request never becomes anonymous by wrong credentials.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Self

from aiohttp import web

from statestream.core.errors import Unauthenticated
from statestream.core.principal import Identity
from statestream.server.authentication import Authenticator, check_authenticator, credential_headers, entered


class AnyOf:
    """Asks the authenticators in turn, until one of them recognizes the sender: `AnyOf(Tokens(…), JWT(…))`.

    If none does, the request is refused for the reason that the last one gives that has found credentials.
    """

    def __init__(self, *authenticators: Authenticator) -> None:
        if not authenticators:
            raise TypeError("expected authenticators, as in AnyOf(Tokens(…), JWT(…))")
        for each in authenticators:
            check_authenticator(each)
        self._authenticators = authenticators
        self._entered = AsyncExitStack()

    @property
    def credential_headers(self) -> Sequence[str]:
        """The headers with credentials of all authenticators."""
        return list(dict.fromkeys(header for each in self._authenticators for header in credential_headers(each)))

    async def __call__(self, request: web.Request) -> Identity | None:
        refusal: Unauthenticated | None = None
        for each in self._authenticators:
            try:
                identity = await each(request)
            except Unauthenticated as error:
                refusal = error
            else:
                if identity is not None:
                    return identity
        if refusal is not None:
            raise refusal
        return None

    async def __aenter__(self) -> Self:
        for each in self._authenticators:
            await self._entered.enter_async_context(entered(each))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._entered.aclose()
