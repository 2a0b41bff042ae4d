"""A recording, served as if it happened now.

    app     the routes: `/stream/state` from a recording, and a page that shows it
    stream  one client's stream: the part of each frame that it selects, when it is due, and heartbeats in between

Invariants: the frames that a client receives are the protocol's, so any client can follow. Nothing writes to the
recording.
"""

from statestream.tools.playback.app import create_playback

__all__ = ["create_playback"]
