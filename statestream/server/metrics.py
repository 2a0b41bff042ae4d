"""GET /metrics: what the server counts, in the text format of Prometheus.

Invariants: nothing is counted for this page; it reads what the store and the hub know when somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterator

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from statestream.broadcast.hub import Hub
from statestream.server.routes import STORE
from statestream.server.stream import HUB
from statestream.store.store import Store


class Figures(Collector):
    """One store's and its hub's."""

    def __init__(self, store: Store, hub: Hub) -> None:
        self._store, self._hub = store, hub

    def collect(self) -> Iterator[Metric]:
        hub, counts = self._hub, self._hub.counts
        yield _gauge("position", "The number of the newest change.", self._store.position.seq)
        yield _gauge("readers", "Open streams.", hub.readers)
        yield _gauge("readers_behind", "Streams that wait for the journal, or for their client to read.", hub.behind)
        yield _gauge("readers_handed_off", "Streams whose socket was handed off.", len(hub.sockets))
        yield _counter("streams_handed_off", "Streams whose socket was handed off, ever.", counts.handed_off)
        yield _counter("streams_cut", "Streams cut because their client took nothing for too long.", counts.cut)
        yield _counter("deliveries", "Changes times the live streams that got them.", counts.deliveries)
        yield _counter("delivered_bytes", "Bytes for live streams.", counts.bytes)
        yield _counter("streams_began", "Streams, by what they opened with.", counts.began, "opening")
        yield _counter("streams_ended", "Streams that the server ended.", counts.ended, "reason")
        yield _counter("streams_lagged", "Slow streams, by what brought them to head.", counts.lagged, "by")


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
    registry.register(Figures(request.config_dict[STORE], request.config_dict[HUB]))
    return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})
