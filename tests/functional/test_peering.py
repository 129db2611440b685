"""What a node remembers of its peers from run to run, and how it tries addresses, with real nodes."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path
from random import Random

import aiohttp
import pytest

from facechain.consensus.params import Genesis
from facechain.consensus.payloads import Cancel
from facechain.consensus.signing import NodeKey
from facechain.node.config_kinds import Endpoint, PeerPattern
from facechain.node.peer_link import PeerLink
from facechain.node.peer_store import PeerMemory, load_memory
from facechain.node.protocol.peer_bans import Ban
from facechain.node.protocol.peer_outbound import DialKind
from facechain.node.service import clock_ms
from facechain.node.store.lmdb_store import LmdbStore
from facechain.node.store.schema import Table
from facechain.node.wire.messages import Address, GetLeaves
from facechain.node.wire.tls import client_context
from support.chain import SUBMITTER, ChainBuilder, make_genesis, seed
from support.live import LiveNode, live_node
from support.node_processes import run_command
from support.peer import hear


@pytest.fixture
def genesis() -> Genesis:
    return make_genesis(time_ms=clock_ms() - 60_000)


def seek_blocks_alone(node: LiveNode) -> None:
    """Let a node dial for blocks alone, as if its places for everything were filled."""
    plan = node.node.peering._plan
    plan._policy = dataclasses.replace(plan._policy, connections=0, block_relay=2)


def has_answers(link: PeerLink) -> bool:
    """Tell whether a peer answered that it does not have what was asked for."""
    return bool(link.connection.session.received_bytes["NotFound"])


def kinds_shown(node: LiveNode) -> list[str]:
    """Return the kinds of connections that `facechain peers list` shows."""
    done = run_command("peers", "list", "--json", "--api", f"http://{node.addresses.api}")
    return [peer["kind"] for peer in json.loads(done.stdout)["peers"]]


def stored(folder: Path) -> PeerMemory:
    with LmdbStore.open(folder / "store") as store:
        return load_memory(store, random=Random(1), new_secret=lambda: bytes(32))


async def test_the_peers_of_a_stop_in_order_are_the_anchors_of_the_next_start(
    tmp_path: Path, genesis: Genesis
) -> None:
    async with live_node(tmp_path / "a", genesis) as first:
        async with live_node(tmp_path / "b", genesis) as second:
            seek_blocks_alone(second)
            where = hear(second, first)
            await second.until(lambda: second.node.hub.links)
            (link,) = second.node.hub.links.values()
            assert link.kind is DialKind.BLOCK_RELAY
            secret = second.node.peering.book.secret
        assert stored(tmp_path / "b").anchors == (where,)
        memory = stored(tmp_path / "b")
        assert memory.anchors == (), "whoever starts takes them away"
        assert memory.book.secret == secret
        entry = memory.book.get(where)
        assert entry is not None
        assert entry.tried


async def test_an_anchor_is_dialed_before_what_the_book_says(tmp_path: Path, genesis: Genesis) -> None:
    async with live_node(tmp_path / "a", genesis) as first:
        async with live_node(tmp_path / "b", genesis) as second:
            seek_blocks_alone(second)
            hear(second, first)
            await second.until(lambda: second.node.hub.links)
        async with live_node(tmp_path / "b", genesis, identity="again") as again:
            await again.until(lambda: again.node.hub.links)
            (link,) = again.node.hub.links.values()
            assert link.kind is DialKind.ANCHOR
            assert link.blocks_only


async def test_blocks_pass_over_a_connection_for_blocks_alone_and_nothing_else(
    tmp_path: Path, genesis: Genesis
) -> None:
    builder = ChainBuilder(genesis)
    waiting, sealed = (builder.statement(SUBMITTER, Cancel(note=note)) for note in ("waits", "sealed"))
    async with (
        live_node(tmp_path / "a", genesis, mining=None) as first,
        live_node(tmp_path / "b", genesis) as second,
    ):
        stranger = Address(host="127.0.0.9", port=9, last_seen_ms=clock_ms())
        first.node.peering.book.add_heard([stranger], source_host="127.0.0.9", now_ms=clock_ms())
        await first.node.submit([waiting])
        seek_blocks_alone(second)
        hear(second, first)
        await second.until(lambda: second.node.hub.links)
        await first.until(lambda: first.node.hub.links)
        (there,), (here,) = first.node.hub.links.values(), second.node.hub.links.values()
        assert there.blocks_only
        assert here.blocks_only
        await first.node.submit([sealed])
        await first.node.hub.submit_block(builder.mine([waiting]))
        await second.until(lambda: second.height == 1)
        assert len(first.node.pool) == 1
        assert not len(second.node.pool)
        assert "Inventory" not in here.connection.session.received_bytes
        assert "Addresses" not in here.connection.session.received_bytes
        assert second.node.peering.book.get((stranger.host, stranger.port)) is None
        assert not [
            entry for entry in first.node.peering.book.entries() if entry.endpoint != ("127.0.0.9", 9)
        ]
        assert (await asyncio.to_thread(kinds_shown, second)) == ["block-relay"]
        await second.node.submit([sealed])
        await second.node.hub.submit_block(builder.mine([sealed]))
        await first.until(lambda: first.height == 2)


async def test_a_feeler_leaves_a_connection_of_its_node_alone(tmp_path: Path, genesis: Genesis) -> None:
    """The node with the smaller key dials: of two connections that cross, its own would stay."""
    smaller, larger = sorted(("one", "other"), key=lambda name: NodeKey.from_seed(seed(name)).public)
    elsewhere = Endpoint(host="127.0.0.1", port=1)
    async with (
        live_node(tmp_path / "a", genesis, max_outbound=0, identity=smaller) as first,
        live_node(tmp_path / "b", genesis, peers=[first], advertise=elsewhere, identity=larger) as second,
    ):
        await first.until(lambda: first.node.hub.links)
        (link,), (there,) = first.node.hub.links.values(), second.node.hub.links.values()
        plan = first.node.peering._plan
        plan._policy, plan._feeler_at_ms = dataclasses.replace(plan._policy, feeler_ms=2), None
        where = hear(first, second)
        book = first.node.peering.book
        await first.until(lambda: (entry := book.get(where)) and entry.tried)
        assert first.node.peering.door.counts.feelers_worked
        request = GetLeaves(block_hash=genesis.network_id)
        link.queue(request)
        there.queue(request)
        await first.until(lambda: has_answers(link) and has_answers(there))
        assert list(first.node.hub.links.values()) == [link]
        assert list(second.node.hub.links.values()) == [there]


async def test_a_feeler_finds_out_that_an_address_works_and_leaves(tmp_path: Path, genesis: Genesis) -> None:
    async with (
        live_node(tmp_path / "a", genesis) as first,
        live_node(tmp_path / "b", genesis, max_outbound=0) as second,
    ):
        plan = second.node.peering._plan
        plan._policy = dataclasses.replace(plan._policy, feeler_ms=2)
        where = hear(second, first)
        book = second.node.peering.book
        await second.until(lambda: (entry := book.get(where)) and entry.tried)
        await first.until(lambda: not first.node.hub.links)
        assert not second.node.hub.links


async def test_a_ban_by_the_node_is_on_disk_at_once(tmp_path: Path, genesis: Genesis) -> None:
    async with (
        live_node(tmp_path / "a", genesis) as first,
        live_node(tmp_path / "b", genesis, peers=[first]) as second,
    ):
        await first.until(lambda: first.node.hub.links)
        (link,) = first.node.hub.links.values()
        first.node.peering.door.on_offence(link, "bad-seal", "for the test")
        pattern = PeerPattern(node_key=second.node.status().node_key)

        def stored() -> bytes | None:
            with first.node.chain.store.read() as reader:
                return reader.get(Table.BANS, str(pattern).encode())

        await first.until(stored)
        assert Ban.decode(stored() or b"").reason == "bad-seal: for the test"


async def test_a_broken_handshake_discourages_its_address(tmp_path: Path, genesis: Genesis) -> None:
    async with (
        live_node(tmp_path / "a", genesis) as node,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client_context())) as session,
        session.ws_connect(f"wss://127.0.0.1:{node.addresses.peer.port}/p2p") as websocket,
    ):
        await websocket.send_bytes(b"\xff")
        bans = node.node.peering.bans
        await node.until(lambda: bans.is_discouraged("127.0.0.1", clock_ms()))
        assert not bans


async def test_a_peer_that_the_operator_bans_is_not_dialed(tmp_path: Path, genesis: Genesis) -> None:
    async with (
        live_node(tmp_path / "a", genesis) as first,
        live_node(tmp_path / "b", genesis, peers=[first]) as second,
    ):
        await second.until(lambda: second.node.hub.links)
        key = first.node.status().node_key
        await second.node.peering.admin.ban(PeerPattern(node_key=key), "for the test", 3_600)
        await second.until(lambda: not second.node.hub.links)
        (entry,) = second.node.peering.book.manual()
        before = entry.last_try_ms
        ticks = asyncio.get_running_loop().time() + 3
        await second.until(lambda: asyncio.get_running_loop().time() > ticks)
        (entry,) = second.node.peering.book.manual()
        assert entry.last_try_ms == before
        await second.node.peering.admin.unban(PeerPattern(node_key=key))
        await second.until(lambda: second.node.hub.links)
