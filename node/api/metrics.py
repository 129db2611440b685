"""Prometheus metrics of a node: read from the node when they are scraped, plus what the API itself counts.

Owns the registry of one server, so that several nodes in one process do not share counters.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ..protocol.relay_counts import COUNTS
from .objects import ObjectFolder
from .peer_metrics import equivocation_families, peer_families
from .port import NodePort
from .views.blocks import JsonObject
from .views.network import live_status

PREFIX = "facechain"
GAUGES = (
    ("height", "Height of the active tip"),
    ("best_header_height", "Height of the header with most work"),
    ("best_known_height", "Height of the best chain that peers showed and that can be had"),
    ("tip_time_ms", "Time of the tip's header, Unix milliseconds"),
    ("syncing", "1 while the node catches up"),
    ("progress", "Share of that chain whose bodies need not be downloaded any more"),
    ("blocks_per_second", "Blocks connected per second while catching up"),
    ("peers", "Connected peers"),
    ("mining", "1 while the node mines"),
    ("hash_rate", "Hashes per second"),
    ("uptime_seconds", "Seconds since the node started"),
)
"""Numbers of the status that are passed on under their own names."""
SYNC_GAUGES = (
    ("behind_by", "Blocks of the best chain that can be had above the tip"),
    ("bodies_missing", "Bodies on the way to that chain that are not here"),
    ("headers_checked", "Height up to which a chain of little work was looked at"),
)
"""Numbers of the status's `sync` part that are passed on."""


class _NodeCollector:
    """Reads the node at every scrape."""

    def __init__(self, node: NodePort, objects: ObjectFolder | None) -> None:
        self._node = node
        self._objects = objects

    def collect(self) -> Iterator[Metric]:
        """Yield one family per number."""
        status = live_status(self._node)
        for name, about in GAUGES:
            yield GaugeMetricFamily(f"{PREFIX}_{name}", about, value=float(status[name]))
        mempool = status["mempool"]
        yield GaugeMetricFamily(
            f"{PREFIX}_mempool_statements", "Statements that wait", value=float(mempool["statements"])
        )
        yield GaugeMetricFamily(
            f"{PREFIX}_mempool_bytes", "Bytes of statements that wait", value=float(mempool["bytes"])
        )
        yield GaugeMetricFamily(
            f"{PREFIX}_event_listeners", "Open event streams", value=float(len(self._node.events))
        )
        yield GaugeMetricFamily(
            f"{PREFIX}_store_failing",
            "1 while the store takes no changes, as on a full disk",
            value=float(status["store"]["state"] != "ok"),
        )
        upgrade = status["upgrade"]
        yield GaugeMetricFamily(
            f"{PREFIX}_upgrade_height",
            "Height of the block from which another protocol version is scheduled, 0 for none",
            value=float(upgrade["activation_height"] if upgrade else 0),
        )
        yield GaugeMetricFamily(
            f"{PREFIX}_upgrade_unknown",
            "1 while a protocol version is scheduled that this node does not know: it will stop before that height",
            value=float(upgrade is not None and not upgrade["known"]),
        )
        sync = status["sync"]
        for name, about in SYNC_GAUGES:
            yield GaugeMetricFamily(f"{PREFIX}_sync_{name}", about, value=float(sync[name]))
        for name, about in COUNTS:
            yield CounterMetricFamily(f"{PREFIX}_relay_{name}", about, value=float(status["relay"][name]))
        yield from _reorganisations(status["reorganisations"])
        yield from equivocation_families(status["equivocations"])
        yield from peer_families(self._node.peer_control)
        if self._objects is not None:
            yield GaugeMetricFamily(
                f"{PREFIX}_object_bytes", "Bytes of held images", value=float(self._objects.size_bytes)
            )


def _reorganisations(counts: JsonObject) -> Iterator[Metric]:
    """Yield what went off the chain, and what was not followed, since the node started."""
    for name, about, number in (
        ("reorganisations", "Times that blocks left the active chain", "reorganisations"),
        ("reorganisation_blocks", "Blocks that left the active chain", "blocks"),
        ("deep_reorganisations", "Reorganisations of at least deep_reorg blocks", "deep"),
        (
            "refused_forks",
            "Chains with more work below the checkpoint or deeper than max_reorg",
            "refused_forks",
        ),
    ):
        yield CounterMetricFamily(f"{PREFIX}_{name}", about, value=float(counts[number]))
    yield GaugeMetricFamily(
        f"{PREFIX}_reorganisation_deepest_blocks",
        "Most blocks that left the active chain at once",
        value=float(counts["deepest"]),
    )


class Metrics:
    """The registry of one API server."""

    def __init__(self, node: NodePort, objects: ObjectFolder | None) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_NodeCollector(node, objects))
        self._requests = Counter(
            f"{PREFIX}_http_requests", "Answered requests", ("route", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            f"{PREFIX}_http_request_seconds",
            "Time from a request's headers to its answer",
            ("route",),
            registry=self.registry,
        )

    def count(self, route: str, status: int, seconds: float) -> None:
        """Count one answered request; `route` is a template, never a path with values."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def render(self) -> bytes:
        """Return the text exposition; call on the event loop's thread."""
        return generate_latest(self.registry)
