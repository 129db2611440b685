"""The node and its network as JSON: status, parameters, genesis, peers."""

from __future__ import annotations

import json
from dataclasses import asdict

from ....consensus.params import PROTOCOL_DRAFT, Genesis
from ...genesis_file import GenesisDocument
from ...reorg_watch import ReorgWatch
from ..events import ReorgAlarm
from ..port import NodePort, NodeStatus, PeerInfo, StoreTrouble
from ..snapshot import Snapshot
from .blocks import JsonObject
from .equivocations import counts_view
from .images import checkpoint_view
from .upgrades import live_upgrade


def genesis_view(genesis: Genesis) -> JsonObject:
    """Return the genesis as its file has it."""
    return dict(json.loads(GenesisDocument.of(genesis).encode()))


def peer_view(peer: PeerInfo) -> JsonObject:
    """Return one peer."""
    return {
        "node_key": peer.node_key.hex(),
        "address": peer.address,
        "inbound": peer.inbound,
        "kind": peer.kind,
        "height": peer.height,
        "user_agent": peer.user_agent,
        "connected_seconds": round(peer.connected_seconds, 3),
        "bytes_received": peer.bytes_received,
        "bytes_sent": peer.bytes_sent,
        "ping_ms": peer.ping_ms,
        "announces_with_leaves": peer.announces_with_leaves,
        "pruned_below": peer.pruned_below,
    }


def live_status(node: NodePort) -> JsonObject:
    """Return the parts of the status that are in memory; call on the event loop's thread."""
    status, tree = node.status(), node.chain.tree
    return {
        "network_id": node.chain.network_id.hex(),
        "name": node.chain.genesis.name,
        "version": status.version,
        "protocol_draft": PROTOCOL_DRAFT,
        "node_key": status.node_key.hex(),
        "chainwork": f"{tree.tip.chainwork:x}",
        "best_header_height": tree.best_header.height,
        "best_known_height": status.best_known_height,
        "syncing": status.syncing,
        "progress": status.progress,
        "blocks_per_second": status.blocks_per_second,
        "eta_seconds": status.eta_seconds,
        "sync": sync_view(status),
        "relay": asdict(status.relay),
        "peers": len(node.peers()),
        "mempool": {"statements": len(node.pool), "bytes": node.pool.size_bytes},
        "mining": status.mining,
        "hash_rate": status.hash_rate,
        "uptime_seconds": round(status.uptime_seconds, 3),
        "height": tree.tip.height,
        "tip": tree.tip.hash.hex(),
        "tip_time_ms": tree.tip.time_ms,
        "now_ms": node.now_ms(),
        **live_upgrade(node.chain),
        "store": store_view(node.store_trouble()),
        "reorganisations": reorg_view(node.reorgs),
        "equivocations": counts_view(node.equivocations),
    }


def sync_view(status: NodeStatus) -> JsonObject:
    """Return how far this node is behind the best chain that it can have."""
    return {
        "syncing": status.syncing,
        "headers": status.best_known_height,
        "headers_checked": status.headers_checked,
        "bodies_missing": status.bodies_missing,
        "behind_by": status.behind_by,
        "progress": status.progress,
        "blocks_per_second": status.blocks_per_second,
        "eta_seconds": status.eta_seconds,
    }


def store_view(trouble: StoreTrouble | None) -> JsonObject:
    """Return whether the store takes changes, and since when and why not."""
    if trouble is None:
        return {"state": "ok", "reason": None, "since_ms": None}
    return {"state": "failing", "reason": trouble.reason, "since_ms": trouble.since_ms}


def reorg_view(watch: ReorgWatch) -> JsonObject:
    """Return the counts since the node started, and the last alarm."""
    alarm = watch.alarm
    return {**asdict(watch.counts), "alarm": None if alarm is None else alarm_view(alarm)}


def alarm_view(alarm: ReorgAlarm) -> JsonObject:
    """Return one alarm."""
    return {
        "reason": alarm.reason,
        "at_ms": alarm.at_ms,
        "depth": alarm.depth,
        "fork_height": alarm.fork_height,
        "left": alarm.left.hex(),
        "right": alarm.right.hex(),
    }


def stored_status(snapshot: Snapshot) -> JsonObject:
    """Return the parts of the status that are in the store."""
    return {"checkpoint": checkpoint_view(snapshot)}
