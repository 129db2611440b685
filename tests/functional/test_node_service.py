"""Whole nodes connected over TLS on loopback, in one process."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from facechain.consensus.params import Genesis
from facechain.consensus.payloads import Cancel
from facechain.consensus.statement import Statement
from facechain.node.dialer import WrongNetworkPeers
from facechain.node.service import clock_ms
from facechain.node.wire.messages import Address
from support.chain import PRODUCER, SUBMITTER, ChainBuilder, keys, make_genesis
from support.live import LiveNode, live_node
from support.ports import free_ports


@pytest.fixture
def genesis() -> Genesis:
    """A network that began a moment ago, with short intervals."""
    return make_genesis(
        time_ms=clock_ms() - 60_000,
        spacing_ms=200,
        heartbeat_ms=150,
        half_life_ms=60_000,
        future_limit_ms=7_000,
    )


def statements(genesis: Genesis, count: int, *, start: int = 0) -> list[Statement]:
    builder = ChainBuilder(genesis)
    return [
        builder.statement(SUBMITTER, Cancel(note=str(number)), sequence=number)
        for number in range(start, start + count)
    ]


def confirmed(node: LiveNode, wanted: list[Statement]) -> bool:
    with node.node.chain.snapshot() as reader:
        return all(reader.place_of(item.id) is not None for item in wanted)


async def test_statements_handed_to_one_node_are_sealed_and_known_to_all(
    tmp_path: Path, genesis: Genesis
) -> None:
    wanted = statements(genesis, 30)
    async with (
        live_node(tmp_path / "a", genesis, mining=PRODUCER) as miner,
        live_node(tmp_path / "b", genesis, peers=[miner]) as middle,
        live_node(tmp_path / "c", genesis, peers=[middle]) as edge,
    ):
        answers = await edge.node.submit(wanted)
        assert all(answer.queued for answer in answers)
        for node in (edge, middle, miner):
            await node.until(partial(confirmed, node, wanted))
        assert not edge.node.pool.leaves()


async def test_a_late_node_catches_up_and_follows(tmp_path: Path, genesis: Genesis) -> None:
    async with live_node(tmp_path / "a", genesis, mining=PRODUCER) as miner:
        await miner.until(lambda: miner.height >= 10)
        async with live_node(tmp_path / "b", genesis, peers=[miner]) as late:
            await late.until(lambda: late.height >= 12)
            assert late.node.status().best_known_height >= 12
            assert [peer.inbound for peer in late.node.peers()] == [False]


async def test_a_node_comes_back_with_its_chain_and_its_queue(tmp_path: Path, genesis: Genesis) -> None:
    wanted = statements(genesis, 3)
    async with live_node(tmp_path / "a", genesis, mining=PRODUCER) as miner:
        await miner.until(lambda: miner.height >= 3)
    async with live_node(tmp_path / "a", genesis) as quiet:
        height = quiet.height
        assert height >= 3
        assert all(answer.queued for answer in await quiet.node.submit(wanted))
    async with live_node(tmp_path / "a", genesis, mining=PRODUCER) as again:
        assert again.height >= height
        await again.until(lambda: confirmed(again, wanted))


async def test_two_connections_to_one_node_become_one(tmp_path: Path, genesis: Genesis) -> None:
    async with (
        live_node(tmp_path / "a", genesis) as first,
        live_node(tmp_path / "b", genesis, peers=[first]) as second,
    ):
        await second.until(lambda: len(second.node.peers()) == 1)
        first.node.peering.book.add_manual("localhost", second.addresses.peer.port)
        await first.until(lambda: any(entry.last_success_ms for entry in first.node.peering.book.entries()))
        await first.until(lambda: len(first.node.peers()) == 1 and len(second.node.peers()) == 1)
        (there,), (here,) = first.node.peers(), second.node.peers()
        assert (there.node_key, here.node_key) == (
            second.node.status().node_key,
            first.node.status().node_key,
        )
        assert there.inbound != here.inbound, "two ends of one connection"


async def test_nodes_of_two_miners_end_on_one_chain(tmp_path: Path) -> None:
    first, second = keys(2, start=10)
    genesis = make_genesis(
        producers=(first, second),
        time_ms=clock_ms() - 60_000,
        spacing_ms=200,
        heartbeat_ms=150,
        half_life_ms=60_000,
        future_limit_ms=7_000,
    )
    async with live_node(tmp_path / "a", genesis, mining=first) as left:
        await left.until(lambda: left.height >= 5)
        async with live_node(tmp_path / "b", genesis, mining=second) as right:
            await right.until(lambda: right.height >= 3)
            firsts = [node.node.chain.tree.active[1].hash for node in (left, right)]
            assert firsts[0] != firsts[1]
            right.node.peering.book.add_manual(left.addresses.peer.host, left.addresses.peer.port)
            common = left.node.chain.tree
            await left.until(lambda: right.tip in common.nodes and common.is_active(common.nodes[right.tip]))
            await left.until(lambda: left.height >= 12)
            (block,) = {node.node.chain.tree.active[1].hash for node in (left, right)}
            assert block in firsts, "one of the two chains, from its first block on"


async def test_addresses_spread_so_that_strangers_meet(tmp_path: Path, genesis: Genesis) -> None:
    async with (
        live_node(tmp_path / "a", genesis) as seed_node,
        live_node(tmp_path / "b", genesis, peers=[seed_node]) as left,
    ):
        await left.until(lambda: len(left.node.peers()) == 1)
        async with live_node(tmp_path / "c", genesis, peers=[seed_node]) as right:
            await right.until(lambda: len(right.node.peers()) == 2)
            others = {node.node.status().node_key for node in (seed_node, left)}
            assert {peer.node_key for peer in right.node.peers()} == others


async def test_peers_of_another_network_only_is_an_error_that_names_both(
    tmp_path: Path, genesis: Genesis
) -> None:
    async with live_node(tmp_path / "a", make_genesis(name="another")) as stranger:
        with pytest.raises(WrongNetworkPeers) as caught:
            async with live_node(tmp_path / "b", genesis, peers=[stranger]) as node:
                await asyncio.wait((node.running,), timeout=20)
        text = caught.value.diagnostics()
        assert genesis.network_id.hex() in text
        assert make_genesis(name="another").network_id.hex() in text


async def test_a_peer_that_is_connected_is_not_dialed(tmp_path: Path, genesis: Genesis) -> None:
    """The address of an inbound peer is known, but only a stranger's that was heard later is tried."""
    (closed,) = free_ports(1)
    async with (
        live_node(tmp_path / "a", genesis) as listening,
        live_node(tmp_path / "b", genesis, peers=[listening]) as calling,
    ):
        book = listening.node.peering.book
        await calling.until(lambda: len(calling.node.peers()) == 1)
        caller = calling.addresses.peer
        await listening.until(
            lambda: (caller.host, caller.port) in {entry.endpoint for entry in book.entries()}
        )
        stranger = Address(host="127.0.0.1", port=closed, last_seen_ms=clock_ms())
        book.add_heard([stranger], source_host="127.0.0.1", now_ms=clock_ms())
        await listening.until(lambda: any(entry.last_try_ms for entry in book.entries()))
        tried = [entry.endpoint for entry in book.entries() if entry.last_try_ms]
        assert tried == [("127.0.0.1", closed)]
