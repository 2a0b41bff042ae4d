"""A live copy of a server's state in a Python program.

    async with connect("http://127.0.0.1:8000", slices=["board", "chat/*"]) as stream:
        print(stream.state["board"])
        async for update in stream:
            print(update.slice, update.patches)

`stream` is what a program holds, `connection` the one task that keeps it true, `health` how long it has been
silent, `followers` what each loop has still to see, `dispatching` the way back, `blocking` the same for scripts
without an event loop.

Invariants: what the frames mean is the replica's business; here are connections, time and retries. Errors of
aiohttp do not pass.
"""

from statestream.client.blocking import BlockingStream, connect_sync
from statestream.client.health import Health
from statestream.client.replaying import Replay, replay
from statestream.client.replica import Update
from statestream.client.stream import Stream, connect

__all__ = ["BlockingStream", "Health", "Replay", "Stream", "Update", "connect", "connect_sync", "replay"]
