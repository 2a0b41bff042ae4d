"""Checks of a client: golden transcripts that it follows, and what it must have at their end.

    transcript         the form of a transcript, and its parser
    transcripts/       the golden transcripts
    sse_vectors        event streams and the events in them, for a client's own decoder
    transcript_server  plays the transcripts to a client in any language
    check_client       plays all of them to an async function

Invariants: a client is known by the cursors that it asks with and the state that it reports; its language and its inner
structure do not matter.
"""
