"""The tests of the server that do not apply to an ASGI server, each with the reason.

`SERVED_BY=uvicorn pytest tests/server` runs the others. A name is a test or a file, or the beginning of several tests.
"""

from __future__ import annotations

PARSED: str = "the ASGI server parses requests, and answers what is not HTTP in its own words"
HANDED_OFF: str = "no socket is handed off"
FRAMED: str = "the ASGI server reads and writes the frames of WebSockets, and answers pings"
CUT: str = "the ASGI server logs that a response was cut"
GARBAGE: str = "counts the objects of the ASGI server too"
LISTENS: str = "an ASGI application is not told on which names its server listens"
STOPS: str = "the ASGI server closes idle connections at once when it stops, and WebSockets with a code of its own"
_INPUT = "tests/server/test_bad_inputs.py::test_each_input_has_its_answer_and_the_server_serves_on"

EXCEPTIONS: dict[str, str] = {
    "tests/server/test_handoff.py": HANDED_OFF,
    "tests/server/test_ring.py": HANDED_OFF,
    "tests/server/test_subscribers.py": "measures the memory and the system calls of our own sockets",
    "tests/server/test_proxies.py": "a proxy before `statestream serve`; ASGI servers have their own settings for one",
    "tests/server/test_fanout.py": "measures our own sockets",
    "tests/server/test_edge.py::test_what_is_not_http_is_a_problem_and_one_line_of_the_log": PARSED,
    "tests/server/test_edge.py::test_an_expectation_that_nobody_knows_is_a_problem": PARSED,
    "tests/server/test_edge.py::test_a_compressed_body_without_its_end_is_refused": "waits for the end of connections, "
    "which the ASGI server keeps open",
    "tests/server/test_edge.py::test_clients_that_leave_leave_no_word_and_no_garbage": GARBAGE,
    "tests/chat/test_sockets.py::test_nothing_is_left_of_a_connection": GARBAGE,
    "tests/chat/test_sockets.py::test_a_request_that_is_no_handshake_is_malformed": PARSED,
    "tests/server/test_origins.py::test_no_answer_names_the_software": "the ASGI server names itself",
    "tests/server/test_origins.py::test_a_server_for_everybody_answers_to_any_name_unless_names_are_given": LISTENS,
    "tests/server/test_origins.py::test_a_part_of_another_application_answers_to_its_own_names_as_well": LISTENS,
    "tests/server/test_origins.py::test_the_name_that_it_listens_on_is_its_own": LISTENS,
    "tests/server/test_origins.py::test_a_request_without_a_host_is_a_programs": PARSED,
    "tests/server/test_origins.py::test_a_header_that_is_there_twice_is_foreign[Origin]": PARSED,
    "tests/server/test_figures.py::test_a_reader_that_does_not_read_lags_by_changes_and_seconds": "the ASGI server has "
    "a buffer of its own",
    "tests/server/test_inspector.py::test_where_others_can_reach_the_server_it_must_be_switched_on": LISTENS,
    "tests/server/test_inspector.py::test_a_reader_who_does_not_read_is_behind": "the ASGI server has a buffer",
    "tests/server/test_limits.py::test_what_nobody_reads_is_bounded_and_given_back": "only `statestream serve` sets up "
    "the allocator of its process",
    "tests/server/test_limits.py::test_large_changes_leave_nothing_but_history": "measures the memory of "
    "our own sockets",
    "tests/server/test_logs.py::test_no_line_has_content": PARSED,
    "tests/server/test_logs.py::test_a_stream_has_one_line_when_it_has_ended": "the ASGI server adds the bytes of "
    "chunks to a stream",
    "tests/server/test_identity_limits.py::test_a_head_that_does_not_arrive_and_an_idle_connection_are_ended": "the "
    "ASGI server has limits of its own for these",
    "tests/server/test_health.py::test_a_server_that_stops_is_not_ready_but_alive": STOPS,
    "tests/server/test_workers.py::test_a_stop_answers_connections_that_nobody_has_accepted_yet": STOPS,
    "tests/chat/test_phases.py::test_a_server_that_stops_says_how_the_reply_ended_and_then_that_it_goes": STOPS,
    "tests/chat/test_phases.py::test_a_client_that_does_not_read_does_not_keep_the_server_from_stopping": CUT,
    "tests/server/test_server.py::test_a_client_that_does_not_read_cannot_keep_the_server_from_ending": CUT,
    "tests/chat/test_tools.py::test_a_server_stops_though_a_tool_does_not_end": CUT,
    "tests/chat/test_conversations.py::test_a_stream_whose_reply_goes_on_elsewhere_does_not_look_whole": CUT,
    "tests/server/test_edge.py::test_requests_that_are_arriving_at_sigterm_are_answered": "the ASGI server closes idle "
    "connections and those on which a request has only begun",
    "tests/server/test_bad_inputs.py::test_a_bug_of_the_application_is_logged_without_the_request": CUT,
    "tests/chat/test_models.py::test_no_secret_is_logged_or_shown_whatever_goes_wrong": CUT,
    "tests/chat/test_chat.py::test_a_server_that_is_told_to_stop_ends_its_replies_at_once[the asker stays]": CUT,
    "tests/chat/test_chat.py::test_a_failed_reply_does_not_look_like_a_whole_one_to_a_proxy_that_speaks_http_1_0": "an "
    "ASGI application cannot reset a connection",
    "tests/chat/test_sockets.py::test_a_flood_holds_up_nobody[pings": FRAMED,
    "tests/chat/test_sockets.py::test_a_flood_holds_up_nobody[pongs": FRAMED,
    "tests/chat/test_sockets.py::test_a_client_that_pings_and_does_not_read_costs_little": FRAMED,
    "tests/chat/test_sockets.py::test_who_pings_and_does_not_read_is_disconnected": FRAMED,
    "tests/server/test_bad_inputs.py::test_a_frame_that_is_wrong_closes_its_socket[4 MiB in pieces": FRAMED,
    "tests/server/test_limits.py::test_more_instances_than_a_snapshot_holds_can_be_resumed": "takes minutes there",
    **{
        f"{_INPUT}[{name}": PARSED
        for name in (
            "no HTTP",
            "TLS",
            "the preface of HTTP/2",
            "a method that nobody knows",
            "a length",
            "two lengths",
            "a negative",
            "a chunk that has no size",
            "chunks by another name",
            "two hosts",
            "no host",
            "a bare LF",
            "a folded header",
            "a NUL in",
            "a blank in a name",
            "an expectation",
            "CONNECT",
            "an absolute target",
            "a cursor with a NUL",
            "a cursor with a CR]",
        )
    },
}

UNDER: dict[str, dict[str, str]] = {
    "hypercorn": {
        "tests/server/test_server.py::test_broken_requests_are_answered_with_400": PARSED,
        "tests/server/test_edge.py::test_a_request_that_does_not_arrive_is_told_to_come_back": "hypercorn answers 500 "
        "after its grace time, and Python 3.11 logs a task that was cancelled for each open connection",
        f"{_INPUT}[HTTP/0.9": PARSED,
        f"{_INPUT}[HTTP/1.0 that stays": PARSED,
        f"{_INPUT}[100,000 chunks of a byte": PARSED,
        "tests/server/test_bad_inputs.py::test_a_thousand_requests_at_once_are_answered_in_order": PARSED,
        "tests/server/test_bad_inputs.py::test_a_frame_that_is_wrong_closes_its_socket": FRAMED,
        "tests/server/test_churn.py::test_nothing_is_left_of_clients_that_come_and_go": GARBAGE,
    }
}
"""Those that do not apply to one of them."""


def why_not(test: str, server: str) -> str | None:
    """Why a test does not apply to this ASGI server, if it does not."""
    known = EXCEPTIONS | UNDER.get(server, {})
    return next((reason for name, reason in known.items() if test.startswith(name)), None)
