"""Making replies: from a question to a model's pieces, and from these to actions on the chat.

Invariants: a reply belongs to the server, never to a request. Only this package writes to a reply.
"""
