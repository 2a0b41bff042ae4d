"""The chat's own protocol: create a chat, read it and its past, stop a reply, choose a branch, report typing.

Invariants: responses contain the state's own messages. Errors are problems, as on all routes of the server.
"""
