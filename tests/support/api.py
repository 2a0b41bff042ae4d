"""Requests to a server's HTTP API."""

from __future__ import annotations

from typing import Any

import aiohttp


async def dispatch(session: aiohttp.ClientSession, url: str, type: str, payload: Any = None, **more: Any) -> Any:
    """POST /dispatch; the answer with its status as (status, body)."""
    body = {"type": type, "payload": payload or {}, **more}
    async with session.post(f"{url}/dispatch", json=body) as response:
        return response.status, await response.json(content_type=None)


async def get_state(session: aiohttp.ClientSession, url: str, query: str = "slices=*") -> Any:
    async with session.get(f"{url}/state?{query}") as response:
        assert response.status == 200
        return await response.json()
