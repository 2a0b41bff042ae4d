"""A recording, served as if it happened now.

    app        the routes: `/stream/state` from a recording, and a page that shows it
    selection  the slices that a client may select, and the part of a frame that they leave
    stream     one client's stream: frames when they are due, heartbeats in between

Invariants: the frames that a client receives are the protocol's, so any client can follow. Nothing writes to the
recording.
"""

from statestream.tools.playback.app import create_playback

__all__ = ["create_playback"]
