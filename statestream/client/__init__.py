"""A live copy of a server's state in a Python program.

    async with connect("http://127.0.0.1:8000", slices=["board", "chat/*"]) as stream:
        print(stream.state["board"])
        async for update in stream:
            print(update.slice, update.patches)

In the order of the story:

    address       the URL of a server, and the credentials in it
    selection     which slices a list of names selects
    redirects     a request to a server, and where the server sends it instead
    token         the token that requests carry, and how it is renewed
    refusals      an unexpected response: whether to try again, and the server's explanation
    trouble       why a server cannot be reached, as a sentence
    replica       frames in, state out: the rules of the protocol, without I/O
    health        how long the stream has been silent
    connection    the task that feeds the replica and reconnects after a loss
    update_queue  the updates that a loop has not taken yet
    overlay       the state with the changes that are expected of dispatched actions
    dispatch      actions to the server, exactly once
    stream        what a program uses: `connect` returns a Stream
    blocking      the same without an event loop: `connect_sync` returns a BlockingStream
    recording/    a stream in a file, and its replay

Invariants: the replica alone decides what a frame means. The rest is connections, time and retries. Errors of aiohttp
never leave this package.
"""

from statestream.client.blocking import BlockingStream, connect_sync
from statestream.client.health import Health
from statestream.client.recording.replay import Replay, replay
from statestream.client.replica import Update
from statestream.client.stream import Stream, connect

__all__ = ["BlockingStream", "Health", "Replay", "Stream", "Update", "connect", "connect_sync", "replay"]
