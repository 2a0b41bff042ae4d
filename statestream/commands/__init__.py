"""The commands that talk to a server which runs: each in a module of its own, registered by `cli`.

    asking     what they share: their options, the way to the server, errors as sentences and exit codes
    text       other people's text, made safe for a terminal and short
    lines      a change as one line
    dispatch, state, history, watch

Law: they are clients. Nothing of the store or the server is imported: what they know was answered.
"""
