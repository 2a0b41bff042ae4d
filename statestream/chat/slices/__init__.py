"""The slices of a conversation: what the journal keeps of it, and what can happen to it.

    conversation   messages, and who belongs to the chat
    approvals      tool calls that people have to approve: actions on the same slice
    continuations  replies that continue after their end: an action on the same slice
    queueing       replies whose runs wait for their turn: actions on the same slice
    later          questions that wait in a queue, or for their time
    turn           whether a chat takes a question now
    data           data of a reply that changes or passes: actions on the same slice
    membership     who belongs to the chat, for rules
    listing        the chats of each person
    archive        older messages
    uploads        files that no message has yet
    kept_files     files of messages
    provider       opaque data of providers
    deleted_chats  ids that cannot be used again
    erasures       deleted chats that are still to be erased from the journal
    runs           the replies in progress
    waits          the replies that wait until a certain time
    storage        what agents keep while they answer a question

The slices that nodes need among themselves are in `nodes`.

Invariants: declarations and pure handlers. All slices of a chat are internal: only the server's own code dispatches
their actions.
"""
