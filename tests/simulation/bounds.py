"""What a node may hold: a table of everything that a peer can make grow, with its bound."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from facechain.consensus.chain import context_headers
from facechain.node.backlog import BACKLOG_BYTES_MAX
from facechain.node.hub import SMALL_BYTES
from facechain.node.peer_link import OUTBOX_MESSAGES_MAX, PeerLink
from facechain.node.wire.limits import (
    MAX_BANS,
    MAX_EQUIVOCATIONS_PER_KEY,
    MAX_EQUIVOCATORS,
    MAX_FRAME_BYTES,
    MAX_ORPHAN_BYTES,
    MAX_ORPHANS,
    MAX_SCORED_PEERS,
    MAX_STATEMENTS_SEEN,
    SEND_TOTAL_BYTES,
    ConnectionLimits,
)

from .ambient import PRESYNC_LIMITS, RELAY_LIMITS, SYNC_LIMITS
from .events import Violation
from .links import WINDOW_BYTES
from .nodes import MAX_INBOUND, SimNode

SEND_QUEUE_BYTES = ConnectionLimits().send_queue_bytes


def bounds(node: SimNode) -> Sequence[tuple[str, int, int]]:
    """Return what a node holds of each bounded thing, and the bound."""
    sync, relay, pool, tree = node.sync, node.relay, node.mempool.pool, node.chain.tree
    limits, links = node.mempool.pool.limits, len(node.links)
    peers, others = list(sync._peers.values()), list(relay._peers.values())
    policy = node.book.policy
    new, tried = node.book.counts
    window = SYNC_LIMITS.in_flight_per_peer
    presyncs = [item.presync.kept for item in peers if item.presync is not None]
    served, backlog, found = list(node.links.values()), node.node.hub.work.backlog, node.node.equivocations
    return (
        ("orphans", len(node.intake.orphans), MAX_ORPHANS),
        ("orphan bytes", node.intake.orphans._bytes, MAX_ORPHAN_BYTES),
        ("pooled statements", len(pool), limits.statements + limits.returned_statements),
        ("headers without a body", len(node.chain.waiting.headers), node.chain.headers_limit),
        ("synchroniser's peers", len(peers), links),
        ("relay's peers", len(others), links),
        ("blocks known of a peer", max((len(item.known) for item in peers), default=0), SYNC_LIMITS.announce_known),
        ("bodies a peer owes", max((len(item.in_flight) for item in peers), default=0), window + SYNC_LIMITS.assemblies),
        ("bodies a peer lacks", max((len(item.lacks) for item in peers), default=0), len(tree.nodes)),
        ("bodies asked for", len(sync._asked), links * window + SYNC_LIMITS.assemblies),
        ("bodies put together", len(sync._assemblies), links * window + SYNC_LIMITS.assemblies),
        ("leaves known of a peer", max((len(item.known) for item in others), default=0), RELAY_LIMITS.known_per_peer),
        ("offers of a peer", max((len(item.offers) for item in others), default=0), _offers_max()),
        ("announcements to a peer", max((len(item.announce) for item in others), default=0), _announce_max(node)),
        ("requests to a peer", max((len(item.groups) for item in others), default=0), RELAY_LIMITS.groups_per_peer),
        ("statements asked for", len(relay._asked), links * RELAY_LIMITS.groups_per_peer * RELAY_LIMITS.request_size),
        ("statements being checked", len(relay._checking), len(backlog._statements) + 1_000),
        ("new addresses", new, policy.new_buckets * policy.slots),
        ("tried addresses", tried, policy.tried_buckets * policy.slots),
        ("bans", len(node.bans), MAX_BANS),
        ("scored peers", len(node.bans._offences), MAX_SCORED_PEERS),
        ("discouraged addresses", len(node.bans._discouraged), MAX_SCORED_PEERS),
        ("headers of a pre-sync", most(kept[0] for kept in presyncs), PRESYNC_LIMITS.held_back + context_headers(node.chain.params)),
        ("bits of a pre-sync", most(kept[1] for kept in presyncs), PRESYNC_LIMITS.bits),
        ("inbound connections of strangers", sum(_is_stranger(node, link) for link in served), MAX_INBOUND),
        ("messages that wait for a peer", most(len(link._outbox) for link in served), OUTBOX_MESSAGES_MAX),
        ("bytes queued for a peer", most(link.connection._queued_bytes for link in served), SEND_QUEUE_BYTES + MAX_FRAME_BYTES),
        ("bytes that wait for all peers", sum(link.waiting_bytes for link in served), SEND_TOTAL_BYTES + links * SMALL_BYTES),
        ("bytes in a peer's sockets", most(side.unread_bytes for side in node.sides if side.open), WINDOW_BYTES + MAX_FRAME_BYTES),
        ("bytes that wait for the chain", backlog._bytes, BACKLOG_BYTES_MAX + links * MAX_FRAME_BYTES),
        ("keys that said two things", len(found), MAX_EQUIVOCATORS),
        ("places of such a key", most(len(places) for _, places in found.all()), MAX_EQUIVOCATIONS_PER_KEY),
        ("statements seen", len(found._seen), MAX_STATEMENTS_SEEN),
        ("kept rows", len(node.mempool._rows), limits.statements + 2 * limits.returned_statements),
    )  # fmt: skip


def most(counts: Iterable[int]) -> int:
    """Return the largest, 0 of none."""
    return max(counts, default=0)


def _is_stranger(node: SimNode, link: PeerLink) -> bool:
    """A peer that the operator named gets a place though all are taken."""
    if link.dialed is not None or link.is_ended:
        return False
    return not node.node.hub._door.is_protected(link.connection.remote[0], link.node_key)


def _offers_max() -> int:
    """What a peer owes may come back to its offers beyond their limit."""
    return RELAY_LIMITS.offers_per_peer + RELAY_LIMITS.groups_per_peer * RELAY_LIMITS.request_size


def _announce_max(node: SimNode) -> int:
    """A new peer is first told of the whole pool."""
    return max(RELAY_LIMITS.announce_per_peer, len(node.mempool.pool))


def check_bounds(node: SimNode) -> None:
    """Everything that a peer can make grow is within its limit."""
    for what, held, limit in bounds(node):
        if held > limit:
            raise Violation(f"{node.name}: expected at most {limit} {what}, got {held}")
    strangers = {peer for peer in node.sync._asked.values() if peer not in node.links}
    if strangers or any(peer not in node.links for peer in node.relay._asked.values()):
        raise Violation(f"{node.name} waits for answers of peers that are gone")
