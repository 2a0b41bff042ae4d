"""The commands, one file each; `cli` registers them.

    serve, demo, check, types, journal, migrate, bench, watch, dispatch, state
    history, record, replay, conformance, conformance_of_chats, transcripts

Invariants: arguments, messages and exit codes only; the work is done by the packages beside this one. Commands that
talk to a server import neither the store nor the server: all that they know was in a response.
"""
