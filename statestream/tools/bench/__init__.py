"""`statestream bench URL`: many readers of a running server, changes at a rate, and what came of it.

    run        the whole measurement: probe, join, dispatch on schedule, wait, add up
    target     where the server is, and whether it lets a reader in
    dispatcher sends the changes when they are due
    crew       the worker processes, seen from here
    worker     one process of readers: plain sockets and a selector
    reader     what one stream's bytes say: which changes came, and whether one is missing
    body       HTTP's part of it
    server_process, machine, limits: memory, CPU, and how many readers fit
    tally      what a worker counts
    figures    everybody's counts as one answer; report prints it

Invariants: it measures from outside. It is a client that shares no code with what it measures: nothing of the
store, the fan-out or the server is imported, and nothing is believed that a reader has not seen.
"""
