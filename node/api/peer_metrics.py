"""Prometheus families about peers and about keys that said two things in one place.

Owns names and labels; the numbers are read at every scrape, on the event loop's thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ..peer_admin import PeerAdmin
from ..peer_link import INBOUND
from ..protocol.equivocation import EquivocationKind
from ..protocol.peer_outbound import DialKind
from .views.blocks import JsonObject

PREFIX: Final = "facechain"


def peer_families(peers: PeerAdmin) -> Iterator[Metric]:
    """Yield the address book by table, connections by kind, and what became of peers since the start."""
    known, worked = peers.address_counts
    addresses = GaugeMetricFamily(f"{PREFIX}_addresses", "Addresses in the address book", labels=("table",))
    addresses.add_metric(("new",), float(known - worked))
    addresses.add_metric(("tried",), float(worked))
    yield addresses
    connections = GaugeMetricFamily(f"{PREFIX}_connections", "Connections by why they are", labels=("kind",))
    present = peers.connections()
    for kind in (INBOUND, *(str(item) for item in DialKind)):
        connections.add_metric((kind,), float(present[kind]))
    yield connections
    in_force = GaugeMetricFamily(f"{PREFIX}_bans_in_force", "Bans by who made them", labels=("by",))
    bans = list(peers.bans().values())
    operators = sum(ban.by_operator for ban in bans)
    in_force.add_metric(("operator",), float(operators))
    in_force.add_metric(("node",), float(len(bans) - operators))
    yield in_force
    yield from _counters(peers)


def _counters(peers: PeerAdmin) -> Iterator[Metric]:
    counts = peers.counts
    for name, about, by_reason in (
        ("bans", "Bans made, by reason", counts.bans),
        ("peer_offences", "Offences of peers, by reason", counts.offences),
    ):
        family = CounterMetricFamily(f"{PREFIX}_{name}", about, labels=("reason",))
        for reason, number in sorted(by_reason.items()):
            family.add_metric((reason,), float(number))
        yield family
    yield CounterMetricFamily(
        f"{PREFIX}_evictions", "Inbound connections that made room for another", value=float(counts.evictions)
    )
    feelers = CounterMetricFamily(
        f"{PREFIX}_feelers", "Short connections to test an address", labels=("outcome",)
    )
    feelers.add_metric(("worked",), float(counts.feelers_worked))
    feelers.add_metric(("failed",), float(counts.feelers_failed))
    yield feelers


def equivocation_families(counts: JsonObject) -> Iterator[Metric]:
    """Yield in how many places keys said two things since the node started, and how many keys did."""
    family = CounterMetricFamily(
        f"{PREFIX}_equivocations", "Places in which a key sealed or signed two things", labels=("kind",)
    )
    for kind, name in ((EquivocationKind.BLOCK, "blocks"), (EquivocationKind.STATEMENT, "statements")):
        family.add_metric((str(kind),), float(counts[name]))
    yield family
    yield GaugeMetricFamily(
        f"{PREFIX}_equivocating_keys", "Keys with evidence of that", value=float(counts["keys"])
    )
