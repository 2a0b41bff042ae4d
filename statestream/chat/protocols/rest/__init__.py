"""The chat's own protocol: create, read and delete chats, stop replies, choose branches, report typing, invite people.

    routes  what everybody needs
    people  who belongs to a chat, and its end

Invariants: responses contain the state's own messages. Errors are problems, as on all routes of the server.
"""
