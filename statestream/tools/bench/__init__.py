"""`statestream bench`: many readers of a running server, changes at a given rate, and when each change arrives.

A reader is a client that follows the state stream and only counts. In the order of a measurement:

    measurement     the whole: probe, join, dispatch on schedule, wait, report; how busy this machine is meanwhile
    limits          how many readers fit, in files, ports and processes
    server_process  memory, CPU and limits of the server, if it runs on this machine
    messages        what the measurement and its workers tell each other
    worker_pool     the worker processes, seen from the measurement
    worker          one process of readers: plain sockets and a selector
    reader          one stream: which changes came, and whether one is missing
    response_body   the HTTP around it
    frame_summary   what counts of a frame, worked out once for all readers
    counters        what a worker counts
    histogram       quantiles in little memory
    dispatcher      sends each change when it is due
    report          from all counters to one report, as plain data
    report_text     the report as text
    progress        the progress on stderr

Invariants: it measures from outside. It is a client that shares no code with what it measures: it imports nothing of
the store, the broadcast or the server, and counts only what a reader received.
"""
