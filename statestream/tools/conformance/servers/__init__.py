"""Checks of a running server, from outside.

    stream_under_test  one stream of the server
    server_under_test  requests, dispatches and streams
    server_check       a check of a server, and the sections that group them
    stream_checks, cursor_checks, poll_checks, dispatch_checks, state_checks, origin_checks, ticket_checks
    check_server       runs all of them, one after the other

Invariants: `server_under_test` is how a server is asked, the checks are what for.
"""
