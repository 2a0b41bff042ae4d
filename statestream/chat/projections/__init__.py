"""Views of a chat in other protocols.

Invariants: a projection is pure: the chat's state goes in, bytes or text come out. It holds its viewer's
cursor and nothing that the state does not have, so a late joiner's stream is made from the state.
"""
