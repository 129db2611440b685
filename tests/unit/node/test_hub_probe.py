"""A connection that died silently is found out when its peer comes back by another one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from facechain.consensus.signing import NodeKey
from facechain.node import hub
from facechain.node.service import clock_ms
from facechain.node.wire.connection import Connection
from facechain.node.wire.handshake import LocalNode
from support.chain import make_genesis, seed
from support.live import live_node
from support.peer import gone, peer_of
from support.wire import listening


async def test_a_connection_in_the_way_of_its_peers_other_one_is_probed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node dialed a peer that was cut off at once and comes back by itself: the two connections seem to cross."""
    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.2)
    genesis = make_genesis(time_ms=clock_ms() - 3_600_000)
    cut_off = asyncio.Event()

    async def say_nothing(_connection: Connection) -> None:
        await cut_off.wait()

    async with live_node(tmp_path / "node", genesis) as node:
        own = node.node.status().node_key
        name = next(name for name in map(str, range(99)) if NodeKey.from_seed(seed(name)).public > own)
        local = LocalNode(
            key=NodeKey.from_seed(seed(name)), network_id=genesis.network_id, user_agent="cut off"
        )
        async with listening(tmp_path / "peer", say_nothing, local=local) as listener:
            node.node.peering.book.add_manual("127.0.0.1", listener.port)
            await node.until(lambda: node.node.hub.links)
            (link,) = node.node.hub.links.values()
            async with peer_of(node, genesis, name) as again:
                assert (await gone(again)).reason == "duplicate-connection"
            await node.until(lambda: link.id not in node.node.hub.links)
            failure = link.connection.failure
            assert failure is not None
            assert failure.reason == "ping-timeout"
            cut_off.set()
