"""`statestream bench`: the command against real servers, good ones and one that breaks the protocol on purpose."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from statestream.tools.bench.messages import Assignment
from statestream.tools.bench.worker_pool import WorkerPool
from statestream.tools.target import Target
from tests.support import ROOT, Server, eventually, get_state
from tests.support.cutting import Proxy
from tests.support.faulty import Faulty, catchup, heartbeat, initial
from tests.support.nursery import finished
from tests.support.ran import Ran
from tests.support.running import Running

Http = aiohttp.ClientSession
QUICK = f"{ROOT / 'tests/apps/quick.py'}:app"
COUNTED = ("--action", "board/counted", "--slices", "board")
FAULTY = ("--action", "s/counted", "--readers", "5", "--rate", "50", "--seconds", "0.4")


async def started(*arguments: str) -> Running:
    return await Running.started("bench", *arguments, COLUMNS="80")


async def ended(process: Running | asyncio.subprocess.Process) -> Ran:
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return checked(Ran(process.returncode or 0, out.decode(), err.decode()))


def checked(ran: Ran) -> Ran:
    assert "Traceback" not in ran.err, ran
    return ran


async def bench(*arguments: str) -> Ran:
    return checked(await asyncio.to_thread(finished, "bench", *arguments, COLUMNS="80"))


async def no_copy(*arguments: str, prefix: tuple[str, ...] = (), **environment: str) -> Ran:
    """The same in a process that has just been started."""
    return await ended(await begun(*arguments, prefix=prefix, **environment))


async def begun(*arguments: str, prefix: tuple[str, ...] = (), **environment: str) -> asyncio.subprocess.Process:
    """The command in a process that has just been started: its children are the processes of the readers themselves."""
    return await asyncio.create_subprocess_exec(
        *(*prefix, sys.executable, "-m", "statestream", "bench", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "80"} | environment,
    )


async def heard(process: Running | asyncio.subprocess.Process, word: bytes) -> None:
    """Waits until the command has said so."""
    assert process.stderr
    while word not in (line := await process.stderr.readline()):
        assert line, "it ended before"


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# a good server


async def test_every_change_reaches_every_reader(server: Server) -> None:
    ran = await bench(server.url, *COUNTED, "--readers", "50", "--rate", "20", "--seconds", "1", "--json")
    assert ran.code == 0, ran
    found = ran.json
    assert found["problems"] == []
    assert found["changes"] == {"accepted": 20, "unseen": 0, "errors": {}}
    assert found["deliveries"]["delivered"] == found["deliveries"]["owed"] == 50 * 20 == found["updates"]
    assert found["deliveries"]["per_second"] == pytest.approx(1000 / found["seconds"])
    assert found["gaps"] == {"missing": 0, "repeated": 0, "breaks": 0}
    assert found["resyncs"] == {"initial": 0, "catchup": 0}
    assert found["disconnects"] == {"count": 0, "reasons": {}}
    assert found["bytes"] == pytest.approx(found["bytes_per_update"] * 1000)
    for name in ("reader", "last_reader", "answer"):
        times = found["latency"][name]
        assert 0 < times["p50_ms"] <= times["p99_ms"] <= times["p99_9_ms"] <= times["max_ms"]
    assert found["latency"]["reader"]["max_ms"] == found["latency"]["last_reader"]["max_ms"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
async def test_the_servers_process_is_found_and_looked_at(server: Server) -> None:
    ran = await bench(server.url, "--readers", "200", "--seconds", "0.5", "--json")
    seen = ran.json["server"]
    assert seen["pids"] == [server.pid]
    assert 10 << 20 < seen["rss_before"] < seen["rss_idle"] < 1 << 30
    assert seen["rss_per_reader"] == (seen["rss_idle"] - seen["rss_before"]) / 200
    assert seen["cpu_percent"] >= 0
    assert 0 <= ran.json["load"]["machine_percent"] <= 100


async def test_several_processes_add_up(server: Server) -> None:
    arguments = ("--readers", "31", "--rate", "50", "--seconds", "0.4", "--processes", "3", "--json")
    found = (await bench(server.url, *COUNTED, *arguments)).json
    assert found["processes"] == 3
    assert found["deliveries"]["delivered"] == 31 * 20
    assert found["problems"] == []


async def test_an_action_that_changes_several_slices_counts_once(server: Server) -> None:
    arguments = ("--action", "board/counted", "--readers", "10", "--rate", "50", "--seconds", "0.4", "--json")
    found = (await bench(server.url, *arguments)).json
    assert found["deliveries"]["delivered"] == found["deliveries"]["owed"] == 10 * 20
    assert found["updates"] == 2 * 10 * 20, "board/counted changes counter, too"


async def test_keys_and_payloads_hold_the_number(server: Server) -> None:
    action = ("--action", "room/joined", "--payload", '{"name": "{run} {n}"}', "--key", "r{n}", "--slices", "room/*")
    found = (await bench(server.url, *action, "--readers", "5", "--rate", "20", "--seconds", "0.5", "--json")).json
    assert found["deliveries"]["delivered"] == 5 * 10
    assert found["problems"] == []


async def test_without_an_action_readers_join_and_listen() -> None:
    with Server.serving(QUICK, env={"HEARTBEAT": "0.4", "PYTHONPATH": str(ROOT)}) as server:
        ran = await bench(server.url, "--readers", "20", "--seconds", "1.5", "--json")
        found = ran.json
        assert (ran.code, found["action"], found["updates"]) == (0, None, 0)
        assert found["heartbeats"] >= 20
        assert 0 < found["joining"]["p50_ms"] <= found["joining"]["max_ms"] <= found["joining"]["seconds"] * 1000 + 1


async def test_the_report_fits_a_terminal(server: Server) -> None:
    ran = await bench(server.url, *COUNTED, "--readers", "20", "--rate", "20", "--seconds", "0.5")
    assert ran.code == 0
    assert max(map(len, ran.out.splitlines())) <= 80
    words = ["delivered   200 of 200", "to each reader", "p99.9", "gaps        0", "a reader", "µs a delivery"]
    assert [word for word in words if word not in ran.out] == []
    assert "\x1b" not in ran.out + ran.err, "nobody is at a terminal"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the worker in /proc")
async def test_readers_that_fell_behind_are_resynced_and_miss_nothing(server: Server, http: Http) -> None:
    action = ("--action", "board/filled", "--payload", '{"size": 1000{n}}', "--slices", "board")
    process = await begun(server.url, *action, "--readers", "3", "--rate", "50", "--seconds", "2", "--json")
    await heard(process, b"sending")
    [worker] = children(process.pid)
    os.kill(worker, signal.SIGSTOP)
    try:
        await eventually(lambda: accepted(http, server, 100), seconds=60)
    finally:
        os.kill(worker, signal.SIGCONT)
    found = (await ended(process)).json
    assert found["problems"] == []
    assert found["resyncs"]["initial"] + found["resyncs"]["catchup"] > 0
    assert found["deliveries"]["resynced"] > 0
    assert found["deliveries"]["delivered"] + found["deliveries"]["resynced"] == found["deliveries"]["owed"] == 300


async def accepted(http: Http, server: Server, changes: int) -> bool:
    """On a server whose slices were written once, when it began."""
    state = await get_state(http, server.url, "slices=board")
    return bool(int(state["position"].partition(".")[0]) >= changes)


# a server that breaks the protocol: what is said about it is true


def at(reader: int, seq: int, instead: Callable[[bytes], bytes | None]) -> Any:
    """A fault that happens once."""
    return lambda number, now, said: instead(said) if (number, now) == (reader, seq) else said


async def with_fault(fault: Any, *more: str, **server: Any) -> Ran:
    async with Faulty(fault, **server) as faulty:
        return await bench(faulty.url, *FAULTY, "--json", *more)


async def test_the_faulty_server_without_a_fault_is_good() -> None:
    ran = await with_fault(lambda reader, seq, said: said)
    assert ran.code == 0, ran
    assert ran.json["deliveries"]["delivered"] == 100


async def test_an_update_that_is_left_out_is_missing() -> None:
    ran = await with_fault(at(3, 10, lambda said: b""))
    assert ran.code == 1
    assert ran.json["gaps"] == {"missing": 1, "repeated": 0, "breaks": 1}
    assert ran.json["deliveries"]["delivered"] == 99
    assert "missing deliveries, although readers received later changes: 1" in ran.err


async def test_the_last_update_left_out_is_missing_where_the_cursor_moves_on() -> None:
    ran = await with_fault(at(3, 21, lambda said: heartbeat(21)))
    assert ran.json["gaps"] == {"missing": 1, "repeated": 0, "breaks": 0}


async def test_the_last_update_that_does_not_come_is_not_delivered() -> None:
    ran = await with_fault(at(3, 21, lambda said: b""))
    assert ran.code == 1
    assert ran.json["gaps"]["missing"] == 0, "it may still come"
    assert ran.json["deliveries"]["undelivered"] == 1


async def test_an_update_that_comes_twice_is_repeated() -> None:
    ran = await with_fault(at(2, 10, lambda said: said + said))
    assert ran.code == 1
    assert ran.json["gaps"] == {"missing": 0, "repeated": 1, "breaks": 0}
    assert ran.json["deliveries"]["delivered"] == 100


async def test_updates_in_the_wrong_order_are_gaps() -> None:
    held: list[bytes] = []

    def swapped(reader: int, seq: int, said: bytes) -> bytes:
        if reader == 2 and seq == 10:
            held.append(said)
            return b""
        return said + held.pop() if reader == 2 and seq == 11 else said

    ran = await with_fault(swapped)
    assert ran.json["gaps"] == {"missing": 1, "repeated": 1, "breaks": 1}


@pytest.mark.parametrize(("kind", "said"), [("initial", initial(10)), ("catchup", catchup(8, 10))])
async def test_what_comes_within_a_resync_is_not_missing(kind: str, said: bytes) -> None:
    def fault(reader: int, seq: int, normal: bytes) -> bytes:
        return {9: b"", 10: said}.get(seq, normal) if reader == 3 else normal

    ran = await with_fault(fault)
    assert ran.code == 0, ran
    assert ran.json["resyncs"] == {"initial": 0, "catchup": 0} | {kind: 1}
    assert (ran.json["deliveries"]["resynced"], ran.json["deliveries"]["delivered"]) == (2, 98)
    assert ran.json["gaps"] == {"missing": 0, "repeated": 0, "breaks": 0}


async def test_a_reader_that_is_cut_off_is_a_disconnect() -> None:
    ran = await with_fault(at(3, 12, lambda said: None))
    assert ran.code == 1
    assert ran.json["disconnects"]["count"] == 1
    assert ran.json["gaps"]["missing"] == 0
    assert ran.json["deliveries"]["lost"] == 10, "of 20 changes the reader had 10"
    assert "readers that lost their stream: 1 of 5" in ran.err


async def test_dispatches_that_fail_are_counted_by_status() -> None:
    ran = await with_fault(lambda reader, seq, said: said, answer=Answers([200, 503, 503, 200]))
    assert ran.code == 1
    assert ran.json["changes"] == {"accepted": 18, "unseen": 0, "errors": {"503": 2}}
    assert ran.json["deliveries"]["delivered"] == ran.json["deliveries"]["owed"] == 5 * 18


class Answers:
    """These statuses, then 200."""

    def __init__(self, statuses: list[int]) -> None:
        self.left = statuses

    def __call__(self, seq: int) -> int:
        return self.left.pop(0) if self.left else 200


async def test_changes_are_sent_when_they_are_due_whatever_became_of_those_before() -> None:
    ran = await with_fault(lambda reader, seq, said: said, barrier=20)
    assert ran.code == 0, "a client that waits for an answer before it goes on would never get one"
    assert ran.json["changes"]["accepted"] == 20
    assert ran.json["latency"]["reader"]["max_ms"] >= 19 * 20, "the first waited until the last was due"


async def test_a_frame_that_cannot_be_read_ends_that_reader() -> None:
    ran = await with_fault(at(3, 12, lambda said: b"event: state.update\nid: 12.tag\ndata: {]\n\n"))
    assert list(ran.json["disconnects"]["reasons"]) == ["a frame of the state stream cannot be parsed: state.update"]


# headers, prefixes, TLS


async def test_headers_are_sent_with_every_request() -> None:
    async with Faulty(token="t0p") as faulty:
        refused = await bench(faulty.url, *FAULTY)
        assert refused.code == 1
        assert "401" in refused.err
        assert (await bench(faulty.url, *FAULTY, "-H", "Authorization: Bearer t0p")).code == 0


async def test_a_server_may_be_behind_a_prefix() -> None:
    async with Faulty(prefix="/live") as faulty:
        assert (await bench(f"{faulty.url}/", *FAULTY)).code == 0


async def test_a_server_may_speak_tls(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    request = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *subject)
    subprocess.run([*request, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    async with Faulty(tls=tls) as faulty:
        stranger = await bench(faulty.url, *FAULTY)
        assert stranger.code == 1
        assert "certificate" in stranger.err
        trusted = await no_copy(faulty.url, *FAULTY, "--json", SSL_CERT_FILE=str(certificate))
        assert (trusted.code, trusted.json["deliveries"]["delivered"]) == (0, 100), trusted


# what goes wrong is said


async def test_a_server_that_is_killed_in_the_middle_is_said(server: Server) -> None:
    process = await started(server.url, *COUNTED, "--readers", "50", "--rate", "50", "--seconds", "30", "--json")
    await heard(process, b"sending")
    server.kill()
    ran = await ended(process)
    assert (ran.code, ran.out) == (1, "")
    assert "the server is gone: all 50 readers lost their stream" in ran.err


async def test_a_server_that_stops_in_the_middle_says_why(server: Server) -> None:
    process = await started(server.url, "--readers", "50", "--seconds", "30")
    await heard(process, b"listening")
    await asyncio.to_thread(server.stop)
    ran = await ended(process)
    assert ran.code == 1
    assert "the server ended the stream: shutdown" in ran.err


@pytest.mark.slow
async def test_streams_that_fall_silent_are_lost_and_said() -> None:
    """A network that swallows bytes ends nothing. The limit is that of the server's heartbeat, or a little more."""
    with Server.serving(QUICK, env={"HEARTBEAT": "0.4", "PYTHONPATH": str(ROOT)}) as server:
        async with Proxy(server.port) as proxy:
            process = await started(proxy.url, "--readers", "5", "--seconds", "60")
            await heard(process, b"listening")
            proxy.swallow = "all"
            ran = await ended(process)
    assert ran.code == 1
    assert "all 5 readers lost their stream: nothing was received for 5 s" in ran.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--action", "board/nothing"), "404"),
        (("--action", "board/counted", "--payload", '{"by": "x"}'), "invalid_payload"),
        (("--action", "board/refused", "--payload", '{"why": "full"}'), "The board says no."),
        (("--action", "board/cleared"), "expected board/cleared to change something"),
        (("--action", "room/joined", "--payload", '{"name": "{n}"}', "--key", "1"), "changed room/1; use --slices"),
        (("--slices", "nothing"), "404"),
        (("--slices", "No!"), "malformed"),
    ],
)
async def test_what_the_server_refuses_is_said(server: Server, arguments: tuple[str, ...], said: str) -> None:
    ran = await bench(server.url, *arguments, "--readers", "3", "--seconds", "0.4", "--json")
    assert (ran.code, ran.out) == (1, ""), ran
    assert said in ran.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("127.0.0.1:8000",), "expected the root URL of a server, such as http://127.0.0.1:8000"),
        (("http://127.0.0.1:8000?x=1",), "expected the root URL of a server"),
        (("http://x", "--action", "a/b", "--payload", "[1]"), "JSON object"),
        (("http://x", "--action", "a/b", "--payload", '{"a": {n}'), "is not JSON"),
        (("http://x", "--action", "a/b", "--key", "a b"), "expected a key"),
        (("http://x", "--payload", "{}{}"), "goes with --action"),
        (("http://x", "--processes", "some"), "expected auto or a number"),
        (("http://x", "-H", "nonsense"), "expected a header"),
    ],
)
async def test_a_wrong_call_is_said(arguments: tuple[str, ...], said: str) -> None:
    ran = await bench(*arguments)
    assert (ran.code, ran.out) == (2, ""), ran
    assert said in " ".join(ran.err.split())


async def test_nobody_there_is_said() -> None:
    ran = await bench("http://127.0.0.1:9", "--readers", "1")
    assert ran.code == 1
    assert "expected a server at http://127.0.0.1:9, found none" in ran.err


async def test_a_server_that_is_full_is_said() -> None:
    with Server.serving(QUICK, env={"MAX_READERS": "3", "PYTHONPATH": str(ROOT)}) as server:
        ran = await bench(server.url, "--readers", "5", "--seconds", "0.4")
        assert ran.code == 1
        assert "the server ended the stream: busy" in ran.err


async def test_more_readers_than_files_are_refused_before_the_first(server: Server) -> None:
    limited = ("sh", "-c", 'ulimit -n 128; exec "$@"', "sh")
    ran = await no_copy(server.url, "--readers", "500", "--processes", "1", prefix=limited)
    assert ran.code == 2
    assert "--processes 8" in ran.err


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
async def test_a_server_that_may_not_open_so_many_files_is_said() -> None:
    limited = ("sh", "-c", 'ulimit -n 100; exec "$@"', "sh")
    with Server.serving(prefix=limited) as server:
        ran = await bench(server.url, "--readers", "150")
        assert ran.code == 2
        assert "may open 100 files" in ran.err


async def test_whoever_is_interrupted_leaves_no_process_behind(server: Server) -> None:
    process = await begun(server.url, "--readers", "5", "--seconds", "30", "--processes", "2")
    await heard(process, b"listening")
    workers = children(process.pid)
    assert len(workers) == 2
    process.terminate()
    await ended(process)
    await eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere 127.0.0.2 has to be set up first")
async def test_readers_can_come_from_several_addresses() -> None:
    async with Faulty() as faulty:
        target = Target.parse(faulty.url, None, [])
        family, address = await target.resolve()
        task = Assignment(
            family=family,
            address=list(address),
            tls=None,
            request=target.stream_request(),
            readers=6,
            at_once=2,
            sources=["127.0.0.2", "127.0.0.3"],
            run="x",
            silence=30.0,
        )
        async with WorkerPool([task]) as pool, asyncio.TaskGroup() as group:
            following = group.create_task(pool.follow())
            await eventually(pool.join_times, seconds=60)
            assert sorted(faulty.peers) == ["127.0.0.2"] * 3 + ["127.0.0.3"] * 3
            pool.finish()
            await following


@pytest.mark.parametrize(("out", "said_why"), [(">/dev/full", True), ("| true", False)])
async def test_a_stdout_that_takes_nothing_is_no_success(server: Server, out: str, said_why: bool) -> None:
    line = f'"$@" {out}; exit ${{PIPESTATUS:-$?}}'
    options = ("bench", server.url, "--readers", "1", "--seconds", "0.1")
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", line, "bash", sys.executable, "-m", "statestream", *options), stderr=subprocess.PIPE, cwd=ROOT
    )
    _, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1, "the report was not seen: no success"
    assert b"Traceback" not in said
    assert (b"cannot write" in said) == said_why
