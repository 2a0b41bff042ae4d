"""A chat as AG-UI, version 1.0: its messages, the runs of its replies, and the slices beside it.

Source: docs.ag-ui.com, "Events", and what the protocol's own client enforces. A stream is one or several runs; each
begins with a snapshot of the messages, so whoever joins in the middle and who was there from the start have the same.

Invariants: ids come from the place of a thing in the conversation, never from a provider, whose ids may come twice. No
member is null, and what was opened is closed before its run ends.
"""
