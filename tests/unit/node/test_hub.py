"""The hub of a real node against peers that misbehave, vanish or are slow, and over a store that fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from facechain.consensus.block import SealedHeader
from facechain.consensus.chain import HeaderNode
from facechain.consensus.params import Genesis
from facechain.consensus.payloads import Cancel
from facechain.consensus.signing import NodeKey
from facechain.node import hub_inbox, hub_work, peer_link
from facechain.node.config_kinds import PeerPattern
from facechain.node.peer_link import PeerLink, payload_bytes
from facechain.node.protocol.actions import Punish, Send
from facechain.node.service import clock_ms
from facechain.node.store.errors import StoreFull
from facechain.node.wire.faults import Reason
from facechain.node.wire.messages import (
    AnnounceBlock,
    BodyChunk,
    GetBody,
    GetHeaders,
    GetLeaves,
    GetStatements,
    Headers,
    Inventory,
    Leaves,
    Message,
    Missing,
    NotFound,
    Ping,
    Statements,
    Status,
)
from support.chain import SUBMITTER, ChainBuilder, make_genesis, seed
from support.deadline import eventually
from support.live import LiveNode, live_node
from support.peer import announcement, gone, offer, peer_of, receive


@pytest.fixture
def genesis() -> Genesis:
    return make_genesis(time_ms=clock_ms() - 3_600_000)


@pytest.fixture
def builder(genesis: Genesis) -> ChainBuilder:
    return ChainBuilder(genesis)


@pytest.fixture
async def node(tmp_path: Path, genesis: Genesis) -> AsyncIterator[LiveNode]:
    async with live_node(tmp_path / "node", genesis) as started:
        yield started


async def is_well(node: LiveNode, genesis: Genesis) -> None:
    """A newcomer is served and the hub's tasks run."""
    async with peer_of(node, genesis, "newcomer") as peer:
        request = GetHeaders(locator=(node.node.chain.genesis.network_id,), stop_hash=bytes(32))
        await peer.send(request)
        served = (await receive(peer, Headers)).sealed_headers
        own = [item.hash for item in node.node.chain.tree.active]
        assert [SealedHeader.decode(item).hash for item in served] == own[1:]


@pytest.mark.parametrize("inbound", [True, False])
async def test_a_fault_in_dealing_with_a_peer_ends_that_connection_alone(
    node: LiveNode, genesis: Genesis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, inbound: bool
) -> None:
    def fault(*_details: object, **_more: object) -> None:
        raise KeyError("what no test thought of")

    with monkeypatch.context() as patch:
        patch.setattr(node.node.hub.sync, "sift_headers", fault)
        if inbound:
            async with peer_of(node, genesis) as peer:
                await receive(peer, GetHeaders)
                await peer.send(Headers(sealed_headers=()))
                assert (await gone(peer)).reason == Reason.DONE, "no blame for a fault of this node"
        else:
            async with live_node(tmp_path / "other", genesis) as other:
                node.node.peering.book.add_manual(other.addresses.peer.host, other.addresses.peer.port)
                await node.until(lambda: any(entry.last_try_ms for entry in node.node.peering.book.entries()))
                await node.until(lambda: not node.node.hub.links)
    await is_well(node, genesis)


async def test_a_fault_of_a_machine_at_a_tick_or_in_the_work_does_not_end_the_node(
    node: LiveNode, genesis: Genesis, builder: ChainBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticked = asyncio.Event()

    def fault(*_details: object) -> None:
        ticked.set()
        raise KeyError("what no test thought of")

    with monkeypatch.context() as patch:
        patch.setattr(node.node.hub.relay, "on_tick", fault)
        patch.setattr(node.node.runner, "add_blocks", fault)
        async with asyncio.timeout(10):
            await ticked.wait()
        ticked.clear()
        async with peer_of(node, genesis) as peer:
            await peer.send(announcement(builder.mine()))
            async with asyncio.timeout(10):
                await ticked.wait()
    await is_well(node, genesis)
    assert node.height == 0


async def test_a_peer_that_asks_for_much_and_vanishes_is_forgotten(
    node: LiveNode, genesis: Genesis, builder: ChainBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_link, "OUTBOX_PAUSE_MESSAGES", 2)
    block = builder.mine([builder.statement(SUBMITTER, Cancel(note="x" * 500))])
    await node.node.submit_block(block)
    async with peer_of(node, genesis) as peer:
        await receive(peer, Status)
        for _ in range(200):
            await peer.send(GetBody(block_hash=block.hash, start=0, with_leaves=True))
        (link,) = node.node.hub.links.values()
        peer._cut()
        await node.until(lambda: not node.node.hub.links, 10)
    assert link.waiting_bytes == 0, "nothing is kept for it"
    await is_well(node, genesis)


async def test_an_invalid_block_is_not_blamed_on_a_peer_that_merely_announced_it(
    node: LiveNode, genesis: Genesis, builder: ChainBuilder
) -> None:
    bad = builder.forge(state_root=bytes(32))
    async with peer_of(node, genesis) as peer:
        await peer.send(announcement(bad))
        await node.until(lambda: (found := node.node.chain.tree.get(bad.hash)) and found.invalid)
        await peer.send(Ping(nonce=1))
        await is_well(node, genesis)
        assert not node.node.peering.bans
        assert len(node.node.hub.links) >= 1


@pytest.mark.parametrize("version", [2, 3])
async def test_leaves_are_asked_for_and_served_from_version_3_on(
    node: LiveNode, genesis: Genesis, builder: ChainBuilder, version: int
) -> None:
    block = builder.mine([builder.statement(SUBMITTER, Cancel(note=str(number))) for number in range(3)])
    said = block.body.statements
    leaves = Leaves(block_hash=block.hash, byte_count=block.body.byte_count(), leaves=block.body.leaves())
    async with peer_of(node, genesis, versions=(1, version)) as peer:
        for item in said[:2]:
            await offer(peer, item)
        await node.until(lambda: len(node.node.pool) == 2)
        await peer.send(announcement(block, leaves=False))
        if version == 2:
            question = await receive(peer, GetBody)
            assert question == GetBody(block_hash=block.hash, start=0, with_leaves=True)
            chunk = BodyChunk(
                block_hash=block.hash,
                leaves=leaves.leaves,
                byte_count=leaves.byte_count,
                start=0,
                statements=tuple(item.encode() for item in said),
            )
            await peer.send(chunk)
        else:
            assert await receive(peer, GetLeaves) == GetLeaves(block_hash=block.hash)
            await peer.send(leaves)
            assert await receive(peer, GetStatements) == GetStatements(leaves=(said[2].leaf,))
            await peer.send(Statements(statements=(said[2].encode(),)))
        await node.until(lambda: node.tip == block.hash)
    if version == 3:
        async with peer_of(node, genesis, "asker") as asker:
            await asker.send(GetLeaves(block_hash=block.hash))
            assert await receive(asker, Leaves) == leaves
            await asker.send(GetLeaves(block_hash=bytes(32)))
            answer = await receive(asker, NotFound)
            assert answer == NotFound(missing=Missing.LEAVES, hashes=(bytes(32),))


async def test_an_invalid_block_of_a_peers_own_chain_bans_it(
    node: LiveNode, genesis: Genesis, builder: ChainBuilder
) -> None:
    bad = builder.forge(state_root=bytes(32))
    async with peer_of(node, genesis) as peer:
        await receive(peer, GetHeaders)
        await peer.send(Headers(sealed_headers=(bad.sealed.encode(),)))
        await receive(peer, GetBody)
        chunk = BodyChunk(block_hash=bad.hash, leaves=(), byte_count=0, start=0, statements=())
        await peer.send(chunk)
        await gone(peer)
    (ban,) = node.node.peering.bans.active(clock_ms()).values()
    assert "bad-state-root" in ban.reason
    async with peer_of(node, genesis) as again:
        assert (await gone(again)).reason == "banned"


async def test_a_peer_of_the_operators_is_disconnected_but_never_banned(
    node: LiveNode, genesis: Genesis, tmp_path: Path
) -> None:
    async with live_node(tmp_path / "friend", genesis) as friend:
        node.node.peering.book.add_manual(friend.addresses.peer.host, friend.addresses.peer.port)
        await node.until(lambda: node.node.hub.links)
        (link,) = node.node.hub.links.values()
        node.node.hub.perform([Punish(link.id, "bad-merkle-root", "for the test")])
        await node.until(lambda: link.id not in node.node.hub.links)
        assert not node.node.peering.bans
        pattern = PeerPattern(node_key=link.node_key)
        node.node.peering.bans.ban(pattern, "as an inbound peer", now_ms=clock_ms(), ban_ms=60_000)
        await node.until(lambda: node.node.hub.links)


async def test_a_store_that_fails_keeps_the_node_up_and_blocks_are_taken_when_it_works(
    node: LiveNode, genesis: Genesis, builder: ChainBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_work, "STORE_RETRY_SECONDS", 0.05)
    blocks = builder.mine_many(3)
    full = True
    store = node.node.chain.store
    transact = store.transact

    def limited(change: Callable[..., object]) -> object:
        if full:
            raise StoreFull("no space left on device")
        return transact(change)

    monkeypatch.setattr(store, "transact", limited)
    async with peer_of(node, genesis) as peer:
        for block in blocks:
            await peer.send(announcement(block))
        await node.until(lambda: node.node.runner.trouble is not None)
        await is_well(node, genesis)
        assert node.height == 0
        full = False
        await node.until(lambda: node.height == 3)
        assert not node.node.peering.bans


async def test_many_headers_are_read_for_a_peer_off_the_loop(
    node: LiveNode, genesis: Genesis, builder: ChainBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = [builder.mine() for _ in range(3)]
    for block in blocks:
        await node.node.hub.submit_block(block)
    read, threads = node.node.chain.sealed_headers, list[int]()

    def noted(nodes: Sequence[HeaderNode]) -> tuple[bytes, ...]:
        threads.append(threading.get_ident())
        return read(nodes)

    monkeypatch.setattr(node.node.chain, "sealed_headers", noted)
    async with peer_of(node, genesis) as peer:
        for limit in (3, 2):
            monkeypatch.setattr(hub_inbox, "HEADERS_READ_ON_LOOP", limit)
            await peer.send(GetHeaders(locator=(), stop_hash=bytes(32)))
            answer = await receive(peer, Headers)
            assert answer.sealed_headers == tuple(block.sealed.encode() for block in blocks)
    assert [item == threading.get_ident() for item in threads] == [True, False]


async def test_stopping_says_goodbye_and_takes_no_more(node: LiveNode, genesis: Genesis) -> None:
    async with peer_of(node, genesis) as peer:
        await receive(peer, Status)
        await node.node.hub.close()
        assert (await gone(peer)).reason == "shutdown"
        assert not node.node.hub._closing
    async with peer_of(node, genesis, "late") as late:
        assert (await gone(late)).reason == "shutdown"


async def test_a_link_with_nothing_to_send_hands_small_messages_on_and_keeps_their_order(
    node: LiveNode, genesis: Genesis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with peer_of(node, genesis) as peer:
        await receive(peer, Status)
        (link,) = node.node.hub.links.values()
        await eventually(lambda: link._is_idle, seconds=10.0, what="an outbox that was sent")
        offered: list[Message] = []
        passed_on = link.connection.offer

        def watched(message: Message) -> bool:
            offered.append(message)
            return passed_on(message)

        monkeypatch.setattr(link.connection, "offer", watched)
        large = Inventory(leaves=(bytes(32),) * 4_000)
        assert link.queue(large)
        assert offered == [], "a large one is encoded in a turn of its own"
        assert await receive(peer, Inventory) == large
        await eventually(
            lambda: link._is_idle and not link.connection._queue, seconds=10.0, what="it was sent"
        )
        small = [Inventory(leaves=(bytes(32),) * number) for number in range(5)]
        for message in small:
            assert link.queue(message)
        assert offered == small[:2], "the first one is in the way of the second, and that one of the others"
        assert [await receive(peer, Inventory) for _ in small] == small


async def test_whoever_lets_most_wait_is_given_up_when_all_together_let_too_much_wait(
    node: LiveNode, genesis: Genesis, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = node.node.hub
    async with (
        peer_of(node, genesis, "slow") as slow,
        peer_of(node, genesis, "slower") as slower,
        peer_of(node, genesis, "slowest") as slowest,
    ):
        for peer in (slow, slower, slowest):
            await receive(peer, Status)
        by_key = {link.node_key: link for link in hub.links.values()}
        links = [by_key[NodeKey.from_seed(seed(name)).public] for name in ("slow", "slower", "slowest")]
        await eventually(
            lambda: all(link._is_idle for link in links), seconds=10.0, what="greetings that are sent"
        )
        mebibyte = AnnounceBlock(sealed_header=bytes(224), byte_count=1, leaves=(bytes(32),) * (1 << 15))
        monkeypatch.setattr("facechain.node.hub.SEND_TOTAL_BYTES", 7 << 20)

        def send(link: PeerLink, count: int) -> None:
            hub.perform([Send(link.id, mebibyte)] * count)

        send(links[0], 1)
        send(links[2], 4)
        send(links[1], 2)
        assert [link.waiting_bytes >> 20 for link in links] == [1, 2, 4]
        assert not any(link.is_ended for link in links), "together they are at the limit"
        send(links[0], 1)
        assert [link.is_ended for link in links] == [False, False, True]
        assert [link.waiting_bytes >> 20 for link in links] == [2, 2, 0]
        failure = links[2].connection.failure
        assert failure is not None
        assert failure.reason == Reason.SLOW_READER
        await eventually(lambda: len(hub.links) == 2, seconds=10.0, what="the end of a connection")
        assert len(node.node.peering.bans) == 0, "to be slow is no offence"
        for peer in (slow, slower):
            assert [await receive(peer, AnnounceBlock) for _ in range(2)] == [mebibyte] * 2


async def test_an_outbox_is_bounded_by_messages_and_bytes(node: LiveNode, genesis: Genesis) -> None:
    async with peer_of(node, genesis) as connection:
        link = PeerLink(1, connection, 0.0, None)
        large = Statements(statements=(bytes(1 << 20),))
        assert payload_bytes(large) == 1 << 20
        assert payload_bytes(Headers(sealed_headers=(bytes(224),) * 2_000)) == 448_000
        assert payload_bytes(Inventory(leaves=(bytes(32),) * 5_000)) == 160_000
        for _ in range(5):
            assert link.queue(large)
        assert link.is_full
        assert not link.is_busy
        waiting = asyncio.create_task(link.room())
        link.end()
        await waiting
        assert link.queue(large), "nothing is queued on a link that ended, and nobody is to blame"
        busy = PeerLink(2, connection, 0.0, None)
        taken = [busy.queue(Ping(nonce=0)) for _ in range(peer_link.OUTBOX_MESSAGES_MAX + 1)]
        assert taken == [True] * peer_link.OUTBOX_MESSAGES_MAX + [False]
        assert busy.is_busy
