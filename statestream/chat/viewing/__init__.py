"""Showing conversations to viewers: what a projection is, the loop that shows one, and the connections that carry it.

Invariants: nothing here depends on a protocol. A slow viewer holds nobody up: what happens meanwhile is one look. The
end of a viewer ends nothing else.
"""
