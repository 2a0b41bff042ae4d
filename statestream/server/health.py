"""GET /health/live and GET /health/ready: whether the process should be restarted, and whether to send it requests.

Invariants: anybody may ask, however often, and learns nothing about the state, the journal's place or other clients. No
answer costs more than a look at the journal per second. A client of the health needs no rights, because a load balancer
has none.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web
from msgspec import Struct
from typing_extensions import TypedDict

from statestream.broadcast.hub import Hub
from statestream.server.contract import Answer, Contract, Route
from statestream.server.problems import OUTCOME
from statestream.server.routes import json_response
from statestream.server.stream import HUB
from statestream.store.troubles import Status, Trouble, status_of
from statestream.store.vitals import Vitals

VITALS: Final = web.AppKey("statestream_vitals", Vitals)
STOPPING: Final = web.RequestKey("statestream_stopping", bool)
"""Whether the server had been asked to stop when the request arrived."""
DEAD: Final = Trouble(code="dead", status="failed", sentence="a part of the server has ended unexpectedly; restart it")
STOPS: Final = Trouble(code="stopping", status="failed", sentence="the server is stopping")
FULL: Final = Trouble(code="streams", status="degraded", sentence="as many streams are open as are allowed")


class Health(Struct, frozen=True, kw_only=True):
    """The status of a server, and its reasons."""

    status: Status
    reasons: list[Trouble]

    @classmethod
    def of(cls, troubles: list[Trouble]) -> Health:
        return cls(status=status_of(troubles), reasons=troubles)


class ReasonAnswer(TypedDict):
    """Why a server is not healthy."""

    code: str
    status: Status
    detail: str


class HealthAnswer(TypedDict):
    """The status of a server, and the reasons if it is not healthy."""

    status: Status
    reasons: list[ReasonAnswer]


async def live(request: web.Request) -> web.Response:
    """200 unless only a restart helps."""
    return _answer(request, Health.of([] if request.config_dict[VITALS].alive else [DEAD]))


async def ready(request: web.Request) -> web.Response:
    """200 if the server can be sent requests, also if it is `degraded`; else 503."""
    vitals, hub = request.config_dict[VITALS], request.config_dict[HUB]
    stopping = request.get(STOPPING, False) or hub.closing
    return _answer(request, await health_of(vitals, hub, stopping=stopping))


async def health_of(vitals: Vitals, hub: Hub, *, stopping: bool) -> Health:
    troubles = [] if vitals.alive else [DEAD]
    if stopping:
        troubles.append(STOPS)
    else:
        troubles += (await vitals.look()).current()
    if hub.full:
        troubles.append(FULL)
    return Health.of(troubles)


def _answer(request: web.Request, health: Health) -> web.Response:
    reasons: list[ReasonAnswer] = [
        {"code": each.code, "status": each.status, "detail": each.sentence} for each in health.reasons
    ]
    answer: HealthAnswer = {"status": health.status, "reasons": reasons}
    failed = health.status == "failed"
    if failed:
        request[OUTCOME] = "unavailable"
    return json_response(answer, status=503 if failed else 200)


def _contract(name: str, summary: str) -> Contract:
    answers = (
        Answer(description="Yes.", model=HealthAnswer),
        Answer(description="No, for these reasons.", status=503, model=HealthAnswer),
    )
    return Contract(name=name, summary=summary, answers=answers, access="open")


ROUTES: Final = (
    Route(
        method="GET",
        path="/health/live",
        handler=live,
        head=True,
        contract=_contract("live", "Whether the process works. If not, only a restart helps."),
    ),
    Route(
        method="GET",
        path="/health/ready",
        handler=ready,
        head=True,
        contract=_contract("ready", "Whether the server can be sent requests."),
    ),
)
