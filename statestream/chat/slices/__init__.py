"""The slices of a conversation: what the journal keeps of it, and what can happen to it.

The slices that nodes need among themselves are in `nodes`.

Invariants: declarations and pure handlers. All slices of a chat are internal: only the server's own code dispatches
their actions.
"""
