"""What one identity or address may do, and how often somebody was refused because of a limit.

Invariants: plain data, set once when an application is made. A refusal is counted once, where it is turned into an
answer, under the name that the operator's documentation gives the limit.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from aiohttp import web
from msgspec import Struct
from msgspec.structs import asdict

from statestream.core.allowances import Allowances
from statestream.core.errors import StatestreamError
from statestream.core.values import check_settings

NAMES: Final = (
    "body",
    "body_time",
    "concurrency",
    "cost",
    "dispatches",
    "head_time",
    "idle",
    "instances",
    "memory",
    "runs",
    "socket_bytes",
    "socket_messages",
    "streams",
    "streams_per_address",
    "streams_per_identity",
    "tokens",
    "uploads",
    "waiting",
)


class Limits(Struct, frozen=True, kw_only=True):
    """What one identity, or one address, may do. None means no limit. Each process counts for itself.

    `streams_per_identity`, `streams_per_address`: the streams and WebSockets that are open at a time, those of chats
    included. `dispatches_per_second`: the actions of an identity, of which `dispatch_burst` may come at once.
    `instances_per_hour`: the instances of keyed slices that an identity creates. `runs_per_day`, `tokens_per_day`,
    `cost_per_day`: the replies of chats that an identity asks for, the tokens that models report for them, and what
    they cost. `upload_bytes_per_day`: the bytes of the files that an identity uploads to chats. `stream_seconds`: the
    age at which the server asks the client of a stream to reconnect. Raises TypeError and ValueError for anything that
    is not a number above 0.
    """

    streams_per_identity: int | None = 100
    streams_per_address: int | None = None
    dispatches_per_second: float | None = 100.0
    dispatch_burst: int = 500
    instances_per_hour: int | None = 10_000
    runs_per_day: int | None = 1_000
    tokens_per_day: int | None = None
    cost_per_day: float | None = None
    upload_bytes_per_day: int | None = 1 << 30
    stream_seconds: float | None = None

    def __post_init__(self) -> None:
        check_settings(**{name: value for name, value in asdict(self).items() if value is not None})


HOUR_SECONDS: Final = 3_600.0
DAY_SECONDS: Final = 24 * HOUR_SECONDS
LIMITS: Final = web.AppKey("statestream_limits", Limits)
LIMITED: Final = web.AppKey("statestream_limited", Counter[str])
"""Refusals by the limit that was exceeded."""


def limited_in(app: web.Application) -> Counter[str]:
    """The count of an application that `create_app` made, or that contains one."""
    if LIMITED in app:
        return app[LIMITED]
    inner = (resource.get_info().get("app") for resource in app.router.resources())
    return next((limited_in(each) for each in inner if each is not None), Counter())


def per(most: float | None, seconds: float) -> Allowances | None:
    """Allowances of so many units in that time, which may come at once; None without a limit."""
    return None if most is None else Allowances(most / seconds, most)


def nothing_limited() -> Counter[str]:
    """The count of an application that has not refused anything yet."""
    return Counter(dict.fromkeys(NAMES, 0))


def count_limited(request: web.Request, error: BaseException) -> None:
    """Counts a refusal, if it is because of a limit."""
    if isinstance(error, StatestreamError) and error.exceeded is not None:
        request.config_dict.get(LIMITED, Counter())[error.exceeded] += 1
