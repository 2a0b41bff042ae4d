"""Checks of a chat, from outside: wherever a client is cut, it ends up with what a client holds that was never cut.

    event_blocks      the bytes of an event stream, and the JSON in its blocks
    comparison        what two clients hold, and where it differs first
    ui_message, ag_ui_thread, phases_chat, slice_replica, plain_text
                      what the client of a protocol makes of its frames
    connections       open connections, which can be cut
    chat_server       how the server is asked
    reply_under_test  one reply, and what makes it go on
    client            what a client does
    ui_client, ui_socket_client, ag_ui_client, phases_client, state_client, text_client
                      the clients of the protocols, and how they come back
    cuts              where clients are cut, and when they come back
    following         a client that follows a reply, and is cut on the way
    protocols         all protocols
    check_chat        runs all of them on the same replies

Invariants: what a client holds is computed by pure code, without anything that the server is made of. Clients do what
their protocol's own clients do, and nothing more lenient.
"""
