"""GET /metrics: what the server counts, in Prometheus' text format.

Invariants: nothing is counted for this route alone. It reads what the store and the hub count anyway.
"""

from __future__ import annotations

from collections.abc import Iterator

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from statestream.broadcast.hub import Hub
from statestream.server.request import view_of
from statestream.server.stream import HUB
from statestream.store.view import StoreView


class Metrics(Collector):
    """The metrics of one store and its hub."""

    def __init__(self, view: StoreView, hub: Hub) -> None:
        self._view, self._hub = view, hub

    def collect(self) -> Iterator[Metric]:
        hub, counted = self._hub, self._hub.counters
        yield _gauge("position", "The number of the newest change.", self._view.position.seq)
        yield _gauge("subscribers", "Open streams.", hub.subscribers)
        yield _gauge("subscribers_behind", "Streams that wait for the journal or for their client.", hub.behind)
        yield _gauge("subscribers_handed_off", "Open streams on handed-off sockets.", len(hub.sockets))
        yield _counter("streams_handed_off", "Streams whose socket was handed off.", counted.handed_off)
        yield _counter("streams_disconnected", "Streams whose client read nothing for too long.", counted.disconnected)
        yield _counter("deliveries", "Changes times the live streams that received them.", counted.deliveries)
        yield _counter("delivered_bytes", "Bytes sent to live streams.", counted.bytes)
        yield _counter("streams_began", "Streams by their first frame.", counted.began, "opening")
        yield _counter("streams_ended", "Streams that the server ended.", counted.ended, "reason")
        yield _counter(
            "streams_lagged", "Slow streams by the frame that brought them to the head.", counted.lagged, "by"
        )


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"statestream_{name}", text, value=value)


def _counter(name: str, text: str, value: float | dict[str, int], label: str | None = None) -> Metric:
    if not isinstance(value, dict):
        return CounterMetricFamily(f"statestream_{name}", text, value=value)
    family = CounterMetricFamily(f"statestream_{name}", text, labels=[label or ""])
    for key, count in sorted(value.items()):
        family.add_metric([key], count)
    return family


async def metrics(request: web.Request) -> web.Response:
    registry = CollectorRegistry()
    registry.register(Metrics(view_of(request), request.config_dict[HUB]))
    return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})
