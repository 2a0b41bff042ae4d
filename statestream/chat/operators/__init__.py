"""What operators see of the chats of a server, and what they can do about it, without belonging to the chats.

Invariants: the right is that of the inspector, for routes. Nothing here shows what is written in a chat.
"""
