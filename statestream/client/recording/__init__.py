"""A state stream in a file: the frames that were received, in order, and when.

    lines      the format: JSON lines, one for each frame
    recorder   writes a recording while a stream goes on
    recording  reads one from a file
    replay     plays a recording: the same frames through the same replica, each when it is due

Invariants: a recording is good up to any place where it was cut off. What the recorder writes, a Recording can read.
"""
