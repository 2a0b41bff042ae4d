"""AG-UI, version 1.0: `POST /ag-ui`, for `HttpAgent` and other clients of the protocol.

    ?follow=1              the stream stays open, and each further reply in the chat is another run in it
    ?slices=board,room/1   these slices are the client's state, live

A person who follows is present in the chat.

A stream consists of one or more runs. Each begins with a snapshot of the messages, so that a late client and one that
was there from the start have the same.

Source: docs.ag-ui.com, "Events", and what the protocol's own client enforces.

Invariants: ids come from the place of a thing in the conversation, never from a provider, whose ids may repeat. No
member is null, and whatever was opened is closed before its run ends. A client that aborts has only gone away; the
chat's stop route ends a reply.
"""
