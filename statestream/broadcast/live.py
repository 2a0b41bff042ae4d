"""The readers of an audience that get what comes, in the form in which writing to them is cheapest.

Where a sink's descriptor may be written to directly, the descriptors stand in a flat list for each of the two
framings: sending to a thousand of them touches nothing but numbers and the frame.

Invariants: synchronous. A descriptor stands here as long as its sink is open and no longer: whoever closes a live
reader's sink takes the reader out before anything else can open a descriptor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from statestream.broadcast.reader import Reader
from statestream.protocol.frames import Frame

Send = Callable[[list[int], bytes], list[tuple[int, int]]]
"""`Sockets.send`."""


class Live:
    """Readers in the order in which they came, a group for each way of writing to them."""

    __slots__ = ("_chunked", "_others", "_raw", "_send")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._chunked: dict[int, Reader] = {}
        self._raw: dict[int, Reader] = {}
        self._others: dict[int, Reader] = {}

    def add(self, reader: Reader) -> None:
        reader.place = reader.sink.descriptor if reader.sink.direct else id(reader)
        self._group(reader)[reader.place] = reader

    def discard(self, reader: Reader) -> bool:
        """Whether it was live."""
        group = self._group(reader)
        if group.get(reader.place) is not reader:
            return False
        del group[reader.place]
        return True

    def __contains__(self, reader: Reader) -> bool:
        return self._group(reader).get(reader.place) is reader

    def __len__(self) -> int:
        return len(self._chunked) + len(self._raw) + len(self._others)

    def __iter__(self) -> Iterator[Reader]:
        for group in (self._chunked, self._raw, self._others):
            yield from group.values()

    def _group(self, reader: Reader) -> dict[int, Reader]:
        if not reader.sink.direct:
            return self._others
        return self._chunked if reader.sink.chunked else self._raw

    def write(self, frame: Frame) -> list[Reader]:
        """To everybody. Gives who can take no more for now, or is gone: they are live no longer."""
        behind = [reader for reader in self._others.values() if not reader.sink.write(frame)]
        for group, data in ((self._chunked, frame.chunked), (self._raw, frame.raw)):
            for descriptor, sent in self._send(list(group), data) if group else ():
                group[descriptor].sink.took(data, sent)
                behind.append(group[descriptor])
        for reader in behind:
            self.discard(reader)
        return behind
