"""GET /metrics: what the server counts, in Prometheus' text format.

Invariants: nothing is counted for this route alone. It reads what the store, the hub and the routes count anyway.
Requests, streams and the replies of a chat are counted once, when they end, by how they ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from statestream.broadcast.hub import Hub
from statestream.server.problems import OUTCOMES
from statestream.server.request import view_of
from statestream.server.stream import HUB
from statestream.store.view import StoreView

COUNTED: Final = web.AppKey("statestream_counted", list[Callable[[], Metric]])
"""Additional metrics, such as those of a chat."""


class Metrics(Collector):
    """The metrics of one store and its hub. `requests` are counted by how they ended, `more` are additional metrics."""

    def __init__(
        self, view: StoreView, hub: Hub, requests: Mapping[str, int], more: Sequence[Callable[[], Metric]]
    ) -> None:
        self._view, self._hub, self._requests, self._more = view, hub, requests, more

    def collect(self) -> Iterator[Metric]:
        hub, counted = self._hub, self._hub.counters
        yield _gauge("position", "The number of the newest change.", self._view.position.seq)
        yield _gauge("subscribers", "Open streams.", hub.subscribers)
        yield _gauge("subscribers_behind", "Streams that wait for the journal or for their client.", hub.behind)
        yield _gauge("subscribers_handed_off", "Open streams on handed-off sockets.", len(hub.sockets))
        yield counter("streams_handed_off", "Streams whose socket was handed off.", counted.handed_off)
        yield counter("deliveries", "Changes times the live streams that received them.", counted.deliveries)
        yield counter("delivered_bytes", "Bytes sent to live streams.", counted.bytes)
        yield counter("streams_began", "Streams by their first frame.", counted.began, "opening")
        yield counter("streams_ended", "Streams by how they ended.", counted.ended, "reason")
        yield counter(
            "streams_lagged", "Slow streams by the frame that brought them to the head.", counted.lagged, "by"
        )
        yield counter("requests", "Requests by how they ended.", self._requests, "outcome")
        yield counter("slow_calls", "Calls that kept the server for too long.", self._view.slow_calls.counted, "kind")
        yield from (each() for each in self._more)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"statestream_{name}", text, value=value)


def counter(name: str, text: str, value: float | Mapping[str, int], label: str | None = None) -> Metric:
    """A number, or several of them by the values of a label."""
    if not isinstance(value, Mapping):
        return CounterMetricFamily(f"statestream_{name}", text, value=value)
    family = CounterMetricFamily(f"statestream_{name}", text, labels=[label or ""])
    for key, count in sorted(value.items()):
        family.add_metric([key], count)
    return family


async def metrics(request: web.Request) -> web.Response:
    registry = CollectorRegistry()
    requests, more = request.config_dict[OUTCOMES], request.config_dict[COUNTED]
    registry.register(Metrics(view_of(request), request.config_dict[HUB], requests, more))
    return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})
