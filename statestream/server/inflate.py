"""Decompression of request bodies that detects a missing end.

aiohttp accepts a truncated gzip body as complete. It lets a program replace the decompression for all of its bodies and
responses.

Invariants: nothing else differs from `zlib`. An empty body and a body of several gzip members are complete.
"""

from __future__ import annotations

import zlib
from typing import Any

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError


class _Inflater:
    """A `zlib.decompressobj` that raises if it ends before its data does."""

    def __init__(self, wbits: int = zlib.MAX_WBITS, zdict: Any = b"") -> None:
        self._object = zlib.decompressobj(wbits=wbits, zdict=zdict)
        self._begun = False

    def decompress(self, data: Any, max_length: int = 0) -> bytes:
        self._begun = self._begun or bool(data)
        return self._object.decompress(data, max_length)

    def flush(self, length: int = zlib.DEF_BUF_SIZE) -> bytes:
        """Is called at the end. Raises ContentEncodingError."""
        if self._begun and not self._object.eof:
            raise ContentEncodingError("the end is missing")
        return self._object.flush(length)

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def unconsumed_tail(self) -> bytes:
        return self._object.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data


class _Zlib:
    """The module `zlib` with another `decompressobj`."""

    MAX_WBITS = zlib.MAX_WBITS
    Z_FULL_FLUSH = zlib.Z_FULL_FLUSH
    Z_SYNC_FLUSH = zlib.Z_SYNC_FLUSH
    Z_BEST_SPEED = zlib.Z_BEST_SPEED
    Z_FINISH = zlib.Z_FINISH
    compressobj = staticmethod(zlib.compressobj)
    decompressobj = _Inflater
    compress = staticmethod(zlib.compress)
    decompress = staticmethod(zlib.decompress)


def refuse_truncated() -> None:
    """Makes truncated compressed data an error in this process."""
    aiohttp.set_zlib_backend(_Zlib)
