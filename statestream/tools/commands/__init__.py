"""Commands that have a module of their own, registered by `cli`.

    watch, dispatch, state, history    one each: they talk to a server that runs
    conformance   conformance
    recording     record, replay
    asking        what these share: their options, the way to the server, errors as sentences and exit codes
    text          other people's text, made safe for a terminal and short
    lines         a change as one line
    serving       what every command that serves has in common

Invariants: as in `cli`: arguments, messages and exit codes. Those that talk to a server import nothing of the store or
the server: what they know was answered.
"""
