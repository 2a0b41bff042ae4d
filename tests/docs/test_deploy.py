"""The files in examples/deploy: each is checked by the program that reads it, if it is here, and run as far as it can.

nginx runs with its file as it is, apart from addresses and folders, before two real servers on one journal.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from typer.main import get_group

from statestream.tools import cli
from tests.support import ROOT, PlainClient, Server, dispatch, eventually

FILES = ROOT / "examples/deploy"
NGINX = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
SERVE: Any = get_group(cli.app).commands["serve"]  # type: ignore[attr-defined]
SCRATCH = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
INSTALLED = "/opt/board/.venv/bin/statestream"


def check_call(command: list[str]) -> None:
    """The arguments of `statestream serve` are ones that it has."""
    assert command[:3] == ["statestream", "serve", "app.py:store"]
    SERVE.make_context("serve", command[2:], resilient_parsing=False)


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    text = (FILES / "statestream.service").read_text()
    start = next(line for line in text.replace("\\\n", "").splitlines() if line.startswith("ExecStart="))
    check_call(shlex.split(start.removeprefix("ExecStart=").replace(INSTALLED, "statestream")))
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "statestream.service"
    unit.write_text(text.replace(INSTALLED, sys.executable))  # it looks whether the program is there
    done = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_image_runs_what_the_command_has() -> None:
    lines = dict(line.split(" ", 1) for line in (FILES / "Dockerfile").read_text().splitlines() if line[:1].isupper())
    assert lines["USER"].split(":")[0].isdigit()
    check_call([*json.loads(lines["ENTRYPOINT"]), *json.loads(lines["CMD"])])


def test_compose_runs_two_servers_behind_nginx() -> None:
    compose = yaml.safe_load((FILES / "compose.yaml").read_text())
    services = compose["services"]
    for name, service in services.items():
        assert set(service.get("depends_on", ())) <= set(services), name
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (FILES / source).is_file() if source.startswith("./") else source in compose["volumes"]
    servers = {name: service for name, service in services.items() if service.get("build") == "."}
    proxied = {
        line.split()[1]
        for line in (FILES / "nginx.conf").read_text().splitlines()
        if line.strip().startswith("server ") and ":" in line
    }
    assert proxied == {f"{name}:8000" for name in servers}
    assert len(proxied) == 2
    for service in servers.values():
        check_call(["statestream", "serve", "app.py:store", *service["command"]])
        assert "/health/ready" in service["healthcheck"]["test"][-1]
    assert not [name for name, service in services.items() if "ports" in service and name != "nginx"]


def test_kubernetes_finds_the_pods_and_their_ports() -> None:
    found = {each["kind"]: each for each in yaml.safe_load_all((FILES / "kubernetes.yaml").read_text())}
    deployment, service = found["Deployment"]["spec"], found["Service"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    for selector in (deployment["selector"]["matchLabels"], service["selector"]):
        assert selector.items() <= labels.items()
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert found["PodDisruptionBudget"]["spec"]["minAvailable"] < deployment["replicas"]
    [container] = deployment["template"]["spec"]["containers"]
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {"http": 8000}
    assert container["readinessProbe"]["httpGet"] == {"path": "/health/ready", "port": "http"}
    assert container["livenessProbe"]["httpGet"] == {"path": "/health/live", "port": "http"}
    assert service["ports"][0]["targetPort"] == "http"
    [*_, path] = found["Ingress"]["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"]["service"] == {"name": found["Service"]["metadata"]["name"], "port": {"name": "http"}}
    check_call(["statestream", "serve", "app.py:store", *container["args"]])


@contextmanager
def nginx(folder: Path, *servers: Server) -> Iterator[int]:
    """nginx with the file, as Compose runs it; the result is its port."""
    assert NGINX
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port: int = unused.getsockname()[1]
    text = (FILES / "nginx.conf").read_text().replace("listen 80;", f"listen 127.0.0.1:{port};")
    for number, server in enumerate(servers, 1):
        text = text.replace(f"app{number}:8000", f"127.0.0.1:{server.port}")
    paths = "".join(f"{name}_temp_path {folder}/{name};" for name in SCRATCH)
    text = text.replace("http {", f"http {{ access_log off; {paths}")
    user = "user root root;" if os.getuid() == 0 else ""  # who may read the test's folder
    (folder / "nginx.conf").write_text(f"{user} daemon off; pid {folder}/pid; error_log {folder}/error.log;\n{text}")
    command = [NGINX, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True)
    assert tested.returncode == 0, tested.stderr
    process = subprocess.Popen(command)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed: .ci/setup test does that")
async def test_clients_of_nginx_do_not_notice_which_server_they_have(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    """A stream of each server sees a change that the other one makes. If one stops, its reader resumes on the other."""
    journal = f"sqlite:///{tmp_path / 'j.db'}"
    with (
        Server.serving(journal=journal) as one,
        Server.serving(journal=journal) as other,
        nginx(tmp_path, one, other) as port,
    ):
        await eventually(lambda: listens(port))
        url = f"http://127.0.0.1:{port}"
        readers = [PlainClient(port) for _ in range(2)]
        for reader in readers:
            await asyncio.to_thread(reader.connect)
            await asyncio.to_thread(reader.read_until, lambda frame: frame.event == "state.initial")
        for server in (one, other):
            assert await server.metric(http, "subscribers") == 1, "least_conn spreads streams"
        for server in (one, other):
            _, answer = await dispatch(http, server.url, "board/counted")
            for reader in readers:
                await asyncio.to_thread(reader.read_to, answer["position"])
        await asyncio.to_thread(one.stop)
        for _ in range(6):
            status, answer = await dispatch(http, url, "board/counted")
            assert status == 200
        for reader in readers:
            if "shutdown" in str(await asyncio.to_thread(last_of, reader, answer["position"])):
                await asyncio.to_thread(reader.connect)
                await asyncio.to_thread(reader.read_to, answer["position"])
            assert reader.state["board"]["count"] >= 7
            assert reader.reasons == ["start"], "it resumed where it was"
            reader.close()
        async with http.get(f"{url}/metrics") as response:
            assert response.status == 403


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


def last_of(reader: PlainClient, position: str) -> Any:
    """The frame at a position, or the end of the stream if it comes before."""
    for frame in reader.frames():
        if frame.id == position or frame.event == "stream.end":
            return frame.data
    return None
