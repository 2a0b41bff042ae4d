"""Commands that have a module of their own, registered by `cli`.

    recording    record, replay
    conformance  conformance
    serving      what every command that serves has in common

Law: as in `cli`: arguments, messages and exit codes only.
"""
