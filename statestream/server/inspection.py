"""GET /inspect/landmarks, /inspect/readers and /inspect/weights: what the inspector shows beside the state.

Invariants: nothing here names a slice that its reader may not read, and readers and weights are for operators only.
However often somebody asks, slices are weighed once at a time.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from statestream.broadcast.readers import Reader, names_of, readers
from statestream.core.errors import Expired, Forbidden, JournalUnusable, TooLarge
from statestream.protocol.frame_types import PositionText
from statestream.server.authentication import AUTH
from statestream.server.contract import Answer, Contract, Route
from statestream.server.inspector import check_on, check_operator
from statestream.server.request import check_query, view_of
from statestream.server.routes import json_response
from statestream.server.stream import HUB
from statestream.store.weights import weigh

NAMED: Final = 20
"""Slices of one reader that are listed."""
WEIGHING: Final = web.AppKey("statestream_weighing", asyncio.Lock)
Count = Annotated[int, Field(ge=0)]


class LandmarksAnswer(TypedDict):
    """Positions from which the history can be read: its beginning, those in between, and its end.

    `authenticates`: the server recognizes who asks, so somebody may see more if they sign in.
    """

    authenticates: bool
    earliest: PositionText
    checkpoints: list[PositionText]
    position: PositionText


class ReaderAnswer(TypedDict):
    """An open stream. `others` is the number of slices that are not listed."""

    subject: str | None
    slices: list[str]
    others: Count
    state: str
    position: PositionText | None
    lag_changes: Count
    lag_seconds: float
    waiting_bytes: Count | None
    sent_bytes: Count | None


class ReadersAnswer(TypedDict):
    """The streams of this process, those that are farthest behind first."""

    position: PositionText
    readers: list[ReaderAnswer]
    more: bool


class WeightAnswer(TypedDict):
    """A plain slice, or all instances of a keyed one. `memory_bytes` is the size of those that are loaded."""

    slice: str
    instances: Count
    loaded: Count
    memory_bytes: Count
    changes: Count
    history_bytes: Count


class WeightsAnswer(TypedDict):
    """What slices weigh. Changes are those after `since`; `whole`: the journal keeps no older ones."""

    since: PositionText
    until: PositionText
    whole: bool
    slices: list[WeightAnswer]


async def landmarks(request: web.Request) -> web.Response:
    check_on(request)
    check_query(request)
    view = view_of(request)
    earliest = await view.past.earliest()
    points = [str(each.position) for each in await view.past.checkpoints() if each.position.seq > earliest.seq]
    answer: LandmarksAnswer = {
        "authenticates": AUTH in request.config_dict,
        "earliest": str(earliest),
        "checkpoints": points,
        "position": str(view.position),
    }
    return json_response(answer)


async def list_readers(request: web.Request) -> web.Response:
    check_operator(request)
    check_query(request)
    view, hub = view_of(request), request.config_dict[HUB]
    asked = await view.complete(lambda: view.asked("*"))
    found = await view.complete(lambda: readers(hub, view, asked))
    answer: ReadersAnswer = {
        "position": str(view.position),
        "readers": [_reader(each) for each in found.found],
        "more": found.more,
    }
    return json_response(answer)


def _reader(reader: Reader) -> ReaderAnswer:
    names, others = names_of(reader.slices, NAMED)
    return {
        "subject": reader.subject,
        "slices": names,
        "others": others,
        "state": reader.state,
        "position": None if reader.position is None else str(reader.position),
        "lag_changes": reader.lag.changes,
        "lag_seconds": round(reader.lag.seconds, 3),
        "waiting_bytes": reader.waiting,
        "sent_bytes": reader.sent,
    }


async def weights(request: web.Request) -> web.Response:
    check_operator(request)
    check_query(request)
    async with request.config_dict[WEIGHING]:
        found = await weigh(view_of(request))
    slices: list[WeightAnswer] = [
        {
            "slice": name,
            "instances": each.instances,
            "loaded": each.loaded,
            "memory_bytes": each.memory_bytes,
            "changes": each.changes,
            "history_bytes": each.history_bytes,
        }
        for name, each in found.families.items()
    ]
    answer: WeightsAnswer = {
        "since": str(found.since),
        "until": str(found.until),
        "whole": found.whole,
        "slices": slices,
    }
    return json_response(answer)


ROUTES: Final = (
    Route(
        method="GET",
        path="/inspect/landmarks",
        handler=landmarks,
        contract=Contract(
            name="inspect_landmarks",
            summary="Positions from which the inspector reads the history.",
            answers=(Answer(description="The positions.", model=LandmarksAnswer),),
        ),
    ),
    Route(
        method="GET",
        path="/inspect/readers",
        handler=list_readers,
        contract=Contract(
            name="inspect_readers",
            summary="The streams that are open, for operators.",
            answers=(Answer(description="Those of slices that you may read.", model=ReadersAnswer),),
            errors=(Forbidden, JournalUnusable),
        ),
    ),
    Route(
        method="GET",
        path="/inspect/weights",
        handler=weights,
        contract=Contract(
            name="inspect_weights",
            summary="What slices weigh in memory and in the journal, for operators.",
            answers=(Answer(description="The slices that you may read.", model=WeightsAnswer),),
            errors=(Forbidden, TooLarge, Expired, JournalUnusable),
        ),
    ),
)
