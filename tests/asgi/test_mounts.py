"""An application that is mounted in frameworks, as docs/howto/asgi.md says: it keeps every promise there.

`make soak` adds all promises in each framework; `make test` has them in one, and its streams and actions in all.
"""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import aiohttp
import pytest

from statestream.testing import check_server
from tests.support import PlainClient, dispatch, get_state
from tests.support.asgi_process import AsgiProcess
from tests.support.pages import write_files

PROGRAMS = {
    "fastapi": "with_fastapi:app",
    "starlette": "with_starlette:app",
    "litestar": "with_litestar:app",
    "django": "with_django:application",
}
TASK = '{"id": "{n}", "title": "{run} is a run"}'
SETTINGS = 'SECRET_KEY, ROOT_URLCONF, ALLOWED_HOSTS = "x", "mysite.settings", ["*"]\nurlpatterns = []\n'


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The files of the page, with heartbeats that do not take long to wait for."""
    write_files("howto/asgi.md", tmp_path)
    live = tmp_path / "live.py"
    live.write_text(live.read_text().replace("create_app(store)", "create_app(store, heartbeat=0.2)"))
    (tmp_path / "mysite").mkdir()
    (tmp_path / "mysite/__init__.py").touch()
    (tmp_path / "mysite/settings.py").write_text(SETTINGS)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    "framework", ["fastapi", *(pytest.param(name, marks=pytest.mark.soak) for name in PROGRAMS if name != "fastapi")]
)
async def test_a_mounted_application_keeps_every_promise(framework: str, site: Path) -> None:
    with AsgiProcess("uvicorn", PROGRAMS[framework], site, "--http", "h11") as program:
        outcomes = await check_server(f"{program.url}/live", action="board/task_added", payload=TASK)
        assert [(each.check.name, each.problem) for each in outcomes if not each.passed] == []


@pytest.mark.parametrize("framework", PROGRAMS)
async def test_a_mounted_application_streams_until_the_server_stops(
    framework: str, site: Path, http: aiohttp.ClientSession
) -> None:
    with (
        AsgiProcess("uvicorn", PROGRAMS[framework], site, "--http", "h11") as program,
        PlainClient(program.port, "slices=board", "/live/stream/state") as client,
    ):
        assert next(client.frames()).event == "state.initial"
        status, body = await dispatch(http, f"{program.url}/live", "board/task_added", {"id": "1", "title": "One"})
        assert status == 200
        await asyncio.to_thread(client.read_to, body["position"])
        assert [task["title"] for task in client.state["board"]["tasks"]] == ["One"]
        program.ask_to_stop()
        assert [frame.data["reason"] for frame in client.frames() if frame.event == "stream.end"] == ["shutdown"]


async def test_an_order_of_the_framework_reaches_the_streams(site: Path, http: aiohttp.ClientSession) -> None:
    with AsgiProcess("uvicorn", "with_fastapi:app", site) as program:
        with PlainClient(program.port, "slices=board", "/live/stream/state") as client:
            next(client.frames())
            async with http.post(f"{program.url}/orders/7") as response:
                position = (await response.json())["position"]
            await asyncio.to_thread(client.read_to, position)
        assert [task["title"] for task in client.state["board"]["tasks"]] == ["Pack order 7"]


async def test_hypercorn_streams_over_http_2(site: Path, http: aiohttp.ClientSession) -> None:
    with AsgiProcess("hypercorn", "with_starlette:app", site) as program:
        curl = ["curl", "-sN", "--http2-prior-knowledge", "-w", "%{http_version}"]
        body = '{"type": "board/task_added", "payload": {"id": "1", "title": "Ship it"}}'
        post = [*curl, "-H", "Content-Type: application/json", "-d", body, f"{program.url}/live/dispatch"]
        follow = [*curl, f"{program.url}/live/stream/state?slices=board"]
        with subprocess.Popen(follow, stdout=subprocess.PIPE) as stream:
            assert stream.stdout
            lines = iter(stream.stdout.readline, b"")
            assert await asyncio.to_thread(next, lines) == b"event: state.initial\n"
            answer = await asyncio.to_thread(subprocess.run, post, capture_output=True, check=True)
            assert answer.stdout.endswith(b"}2")
            assert (await get_state(http, f"{program.url}/live"))["slices"]["board"]["tasks"] != []
            program.ask_to_stop()
            rest = b"".join(await asyncio.to_thread(list, lines))  # hypercorn may close before it ends the stream
        assert b"event: state.update\n" in rest
        assert b'"reason":"shutdown"' in rest


NOT_OPEN = """
from starlette.applications import Starlette
from starlette.routing import Mount
from live import live
app = Starlette(routes=[Mount("/live", live)])
"""


async def test_an_application_that_nobody_opened_says_how(site: Path, http: aiohttp.ClientSession) -> None:
    (site / "forgotten.py").write_text(NOT_OPEN)
    said = "open it with the framework's own, as in FastAPI(lifespan=live.lifespan)"
    with AsgiProcess("uvicorn", "forgotten:app", site, failure=said) as program:
        async with http.get(f"{program.url}/live/state") as response:
            assert response.status == 500


CUT = """
from aiohttp import web
from starlette.applications import Starlette
from starlette.routing import Mount
from statestream import Store, create_app
from statestream.asgi import asgi_app
from statestream.server.abort import abort_response
from tests.apps.board import board
async def cut(request):
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"the beginning" * 10_000)  # returns when most of it was sent
    abort_response(request)
    return response
inner = create_app(Store([board]))
inner.router.add_get("/cut", cut)
live = asgi_app(inner)
app = Starlette(routes=[Mount("/live", live)], lifespan=live.lifespan)
"""


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn"])
async def test_no_server_completes_a_response_that_was_cut(
    server: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async def answer(path: str) -> int:
        async with http.get(f"{program.url}/live/{path}") as response:
            await response.read()
        return response.status

    (tmp_path / "cutting.py").write_text(CUT)
    with AsgiProcess(server, "cutting:app", tmp_path, failure="the response was cut") as program:
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer("cut")
        assert await answer("state") == 200


WITH_TICKETS = """
from starlette.applications import Starlette
from starlette.routing import Mount
from statestream import Identity, Store, create_app
from statestream.asgi import asgi_app
from tests.apps.board import board
async def everybody(request):
    return Identity(subject="ada") if "Authorization" in request.headers else None
live = asgi_app(create_app(Store([board]), auth=everybody))
app = Starlette(routes=[Mount("/inner", Starlette(routes=[Mount("/live", live)]))], lifespan=live.lifespan)
"""


async def test_a_ticket_is_for_the_place_where_the_application_is_mounted(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    (tmp_path / "ticketed.py").write_text(WITH_TICKETS)
    with AsgiProcess("uvicorn", "ticketed:app", tmp_path, "--root-path", "/outer") as program:
        async with http.post(f"{program.url}/inner/live/tickets", headers={"Authorization": "any"}) as response:
            assert response.status == 204
            assert "; Path=/outer/inner/live;" in response.headers["Set-Cookie"]


async def test_a_store_that_cannot_be_opened_stops_the_server(site: Path) -> None:
    (site / "board.db").write_bytes(b"this is not a journal" * 1000)
    with pytest.raises(RuntimeError, match="JournalUnusable"), AsgiProcess("uvicorn", "live:live", site):
        pass


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn"])
async def test_an_application_alone_is_served(server: str, site: Path, http: aiohttp.ClientSession) -> None:
    with AsgiProcess(server, "live:live", site) as program:
        assert (await dispatch(http, program.url, "board/task_added", {"id": "1", "title": "One"}))[0] == 200
