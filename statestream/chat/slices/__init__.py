"""The slices of a chat: what the journal keeps, and what can happen to it.

Invariants: declarations and pure handlers. All of these slices are internal: only the server's own code dispatches
their actions.
"""
