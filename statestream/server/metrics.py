"""GET /metrics: what the server counts, in Prometheus' text format.

Invariants: nothing is counted for this route alone, except how far the journal is ahead. It reads what the store, the
hub and the routes count anyway. Requests, streams and the replies of a chat are counted once, when they end, by how
they ended. A counter shows the values of its label that are known in advance from the start, at 0: Prometheus sees no
increase in a series that begins at 1, so an alert would miss the first error after every restart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, get_args

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from statestream.broadcast.counters import ENDED, LAGGED, OPENED
from statestream.broadcast.hub import Hub
from statestream.core.histogram import Histogram
from statestream.core.principal import SERVER
from statestream.server.contract import Answer, Contract, Route
from statestream.server.limits import LIMITED
from statestream.server.problems import FATES, OUTCOMES
from statestream.server.request import STORE
from statestream.server.siblings import Siblings
from statestream.server.stream import HUB
from statestream.server.subapps import serving
from statestream.store.slow_calls import Kind
from statestream.store.view import StoreView

More = Callable[[], Sequence[Metric]]
SIBLINGS: Final = web.AppKey("statestream_siblings", Siblings)
SERVING: Final = web.AppKey("statestream_serving", list[web.Application])
"""The applications that serve a store, among those of a worker."""
COUNTED: Final = web.AppKey("statestream_counted", list[More])
"""Additional metrics, such as those of a chat."""


class Metrics(Collector):
    """The metrics of one store and its hub. `requests` are counted by how they ended, `limited` by the limit that they
    exceeded, `more` are additional metrics.

    `ahead`: by how many changes the journal is ahead of this node; None if it did not say. `worker`: the number of this
    process, if several serve one port.
    """

    def __init__(
        self,
        view: StoreView,
        hub: Hub,
        requests: Mapping[str, int],
        limited: Mapping[str, int],
        more: Sequence[More],
        ahead: int | None,
        worker: int | None = None,
    ) -> None:
        self._view, self._hub, self._requests, self._limited = view, hub, requests, limited
        self._more, self._ahead = more, ahead
        self._labels = {} if worker is None else {"worker": str(worker)}

    def collect(self) -> Iterator[Metric]:
        for metric in self._all():
            if self._labels:
                metric.samples = [each._replace(labels=each.labels | self._labels) for each in metric.samples]
            yield metric

    def _all(self) -> Iterator[Metric]:
        yield from self._store()
        yield from self._streams()
        yield counter("requests", "Requests by how they ended.", self._requests, "outcome", FATES)
        limited = {**self._limited, "streams": self._hub.counters.ended["busy"]}
        yield counter("limited", "Refusals by the limit that was exceeded.", limited, "limit")
        for each in self._more:
            yield from each()

    def _store(self) -> Iterator[Metric]:
        vitals, slow = self._view.vitals, self._view.slow_calls
        yield gauge("position", "The number of the newest change.", self._view.position.seq)
        yield histogram("dispatch_seconds", "From a request to its answer.", vitals.dispatch)
        yield histogram("handler_seconds", "Calls of handlers.", slow.handlers)
        yield histogram("journal_append_seconds", "Appends to the journal, of a batch each.", vitals.journal)
        yield counter("journal_appends_failed", "Appends that failed.", vitals.appends_failed)
        yield histogram("follow_seconds", "From another process's request to this one's knowledge.", vitals.follow)
        if self._ahead is not None:
            yield gauge("journal_ahead", "Changes in the journal that this process does not know yet.", self._ahead)
        yield _by("trouble", "What is wrong now: 1 if it is.", "cause", vitals.troubles.by_cause())
        yield counter("slow_calls", "Calls that kept the server for too long.", slow.counted, "kind", get_args(Kind))

    def _streams(self) -> Iterator[Metric]:
        hub, counted, lag = self._hub, self._hub.counters, self._hub.lag()
        yield gauge("subscribers", "Open streams.", hub.subscribers)
        yield gauge("streams_of_identities", "Open streams and WebSockets of identities.", hub.held)
        yield gauge("subscribers_behind", "Streams that wait for the journal or for their client.", hub.behind)
        yield gauge("subscribers_handed_off", "Open streams on handed-off sockets.", len(hub.sockets))
        yield gauge("subscriber_lag_changes", "By how many changes the slowest stream is behind.", lag.changes)
        yield gauge("subscriber_lag_seconds", "For how long the slowest stream has been behind.", lag.seconds)
        yield histogram("commit_to_socket_seconds", "From a commit to the write to the last socket.", counted.writing)
        yield counter("streams_handed_off", "Streams whose socket was handed off.", counted.handed_off)
        yield counter("deliveries", "Changes times the live streams that received them.", counted.deliveries)
        yield counter("delivered_bytes", "Bytes sent to live streams.", counted.bytes)
        yield counter("streams_began", "Streams by their first frame.", counted.began, "opening", OPENED)
        yield counter("streams_ended", "Streams by how they ended.", counted.ended, "reason", ENDED)
        slow = "Slow streams by the frame that brought them to the head."
        yield counter("streams_lagged", slow, counted.lagged, "by", LAGGED)


def gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"statestream_{name}", text, value=value)


def _by(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"statestream_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def counter(
    name: str, text: str, value: float | Mapping[str, float], label: str | None = None, known: Sequence[str] = ()
) -> Metric:
    """A number, or several of them by the values of a label, of which the `known` are there before they are counted."""
    if not isinstance(value, Mapping):
        return CounterMetricFamily(f"statestream_{name}", text, value=value)
    family = CounterMetricFamily(f"statestream_{name}", text, labels=[label or ""])
    for key, count in sorted({**dict.fromkeys(known, 0), **value}.items()):
        family.add_metric([key], count)
    return family


def histogram(name: str, text: str, value: Histogram) -> Metric:
    return HistogramMetricFamily(f"statestream_{name}", text, buckets=list(value.buckets()), sum_value=value.sum)


async def metrics(request: web.Request) -> web.Response:
    app = next(each for each in reversed(request.match_info.apps) if STORE in each)
    siblings = request.config_dict.get(SIBLINGS)
    if siblings is None:
        text = await exposition(app)
    else:
        apps = request.config_dict[SERVING]
        siblings.publish(own := [await exposition(each, siblings.number) for each in apps])
        store = apps.index(app)
        text = siblings.with_others(own[store], store)
    return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


async def exposition(app: web.Application, worker: int | None = None) -> str:
    """The metrics of an application that serves a store, in this process."""
    view = app[STORE].view(SERVER)
    ahead = await view.vitals.lag(view.position)
    registry = CollectorRegistry()
    requests, limited, more = app[OUTCOMES], app[LIMITED], app[COUNTED]
    registry.register(Metrics(view, app[HUB], requests, limited, more, ahead, worker))
    return generate_latest(registry).decode()


def share(application: web.Application, siblings: Siblings) -> None:
    """Lets an application that several processes serve show the metrics of all of them."""
    apps = serving(application)
    application[SIBLINGS], application[SERVING] = siblings, apps

    async def expositions() -> list[str]:
        return [await exposition(app, siblings.number) for app in apps]

    siblings.share_while_running(application, expositions)


METRICS: Final = Route(
    method="GET",
    path="/metrics",
    handler=metrics,
    contract=Contract(
        name="metrics",
        summary="What the server counts.",
        answers=(Answer(description="The text format of Prometheus.", media_type="text/plain"),),
    ),
)
