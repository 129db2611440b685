"""Attacks on connections and addresses of a real node, from other addresses of loopback."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from aiohttp import WSMsgType

from facechain.consensus.params import Genesis
from facechain.consensus.signing import NodeKey
from facechain.node.service import clock_ms
from facechain.node.wire.codec import decode, encode
from facechain.node.wire.connection import Connection
from facechain.node.wire.faults import PeerTimeout, Reason, WireError
from facechain.node.wire.handshake import LocalNode
from facechain.node.wire.limits import ConnectionLimits
from facechain.node.wire.messages import (
    Address,
    Addresses,
    AnnounceBlock,
    GetAddresses,
    Ping,
    SendAnnouncements,
)
from facechain.node.wire.tls import client_context
from facechain.node.wire.transport import connect
from support.chain import ChainBuilder, make_genesis, seed
from support.deadline import eventually
from support.live import LiveNode, live_node
from support.wire import QUICK, Failures, listening, local_node, raw_peer

SECONDS = 10.0
INBOUND = 12


@pytest.fixture
def genesis() -> Genesis:
    return make_genesis(time_ms=clock_ms() - 3_600_000)


@pytest.fixture
async def node(tmp_path: Path, genesis: Genesis) -> AsyncIterator[LiveNode]:
    async with live_node(tmp_path / "node", genesis, max_inbound=INBOUND) as started:
        yield started


async def join(node: LiveNode, genesis: Genesis, name: str, *, listen_port: int = 0) -> Connection:
    """Connect as a peer of that name and key."""
    local = LocalNode(
        key=NodeKey.from_seed(seed(name)),
        network_id=genesis.network_id,
        user_agent=name,
        listen_port=listen_port,
    )
    address = node.addresses.peer
    return await connect(address.host, address.port, local=local)


async def keep(connection: Connection) -> WireError:
    """Read like an honest peer, which answers pings, until the connection ends."""
    while True:
        try:
            await connection.receive()
        except WireError as error:
            return error


def names(node: LiveNode) -> set[str]:
    return {link.connection.peer.user_agent for link in node.node.hub.links.values() if not link.is_ended}


def is_connected(node: LiveNode, name: str) -> bool:
    return name in names(node)


async def test_taking_all_inbound_places_disconnects_no_useful_peer(node: LiveNode, genesis: Genesis) -> None:
    """An honest peer that brought a block stays while strangers come and go; every newcomer finds a place."""
    block = ChainBuilder(genesis).mine()
    async with contextlib.AsyncExitStack() as stack:
        tasks = []

        async def come(name: str) -> Connection:
            connection = await stack.enter_async_context(await join(node, genesis, name))
            tasks.append(asyncio.create_task(keep(connection)))
            return connection

        for number in range(INBOUND):
            await come(f"early {number}")
        await node.until(lambda: len(names(node)) == INBOUND)
        useful = await come("useful")  # the youngest of the largest group, which would be the first to go
        announcement = AnnounceBlock(
            sealed_header=block.sealed.encode(),
            byte_count=block.body.byte_count(),
            leaves=block.body.leaves(),
        )
        await useful.send(announcement)
        await node.until(lambda: node.height == 1)
        for number in range(2 * INBOUND):
            await come(f"stranger {number}")
            await node.until(partial(is_connected, node, f"stranger {number}"))
            assert len(names(node)) <= INBOUND
        assert "useful" in names(node)
        ended = [task.result().reason for task in tasks if task.done()]
        assert len(ended) >= 2 * INBOUND
        assert set(ended) == {Reason.TOO_MANY_CONNECTIONS}
        assert node.node.peering.door.counts.evictions >= len(ended)
    for task in tasks:
        await task


async def test_when_everybody_is_protected_newcomers_are_told_so(tmp_path: Path, genesis: Genesis) -> None:
    async with (
        live_node(tmp_path / "full", genesis, max_inbound=1) as full,
        live_node(tmp_path / "friend", genesis, peers=[full]) as friend,
    ):
        await full.until(lambda: full.node.hub.links)
        full.node.peering.door.note_key(("friend.example", 1), friend.node.status().node_key)
        full.node.peering.book.add_manual("friend.example", 1)
        stranger = await join(full, genesis, "stranger")
        assert (await keep(stranger)).reason == Reason.TOO_MANY_CONNECTIONS
        await stranger.close()
        assert len(full.node.hub.links) == 1


async def test_an_address_flood_over_the_wire_fills_a_share_of_the_book(
    node: LiveNode, genesis: Genesis
) -> None:
    """A peer that answers every question with 1,000 lies, and tells the truth about nobody."""
    book = node.node.peering.book
    book.add_heard(
        [Address(host="127.0.9.9", port=1, last_seen_ms=clock_ms())],
        source_host="127.0.9.9",
        now_ms=clock_ms(),
    )
    book.on_success("127.0.9.9", 1, clock_ms())
    asked = asyncio.Event()

    async def lie(connection: Connection) -> None:
        while True:
            if isinstance(await connection.receive(), GetAddresses):
                lies = tuple(
                    Address(host=f"127.{number // 250}.{number % 250}.77", port=9, last_seen_ms=clock_ms())
                    for number in range(1_000)
                )
                await connection.send(Addresses(addresses=lies))
                asked.set()

    liar = dataclasses.replace(local_node(9), network_id=genesis.network_id)
    node.node.peering._plan._policy = dataclasses.replace(node.node.peering._plan._policy, connections=0)
    async with listening(Path(node.node.config.data_dir).parent, lie, local=liar) as listener:
        book.add_manual("127.0.0.1", listener.port)
        async with asyncio.timeout(SECONDS):
            await asked.wait()
        await node.until(lambda: book.counts[0] > 100)
        share = book.policy.source_buckets * book.policy.slots
        assert book.counts[0] <= share
        assert book.get(("127.0.9.9", 1)) is not None
        assert book.counts[1] >= 1


async def test_silent_sockets_of_one_source_leave_places_for_others(tmp_path: Path) -> None:
    failures = Failures()
    limits = ConnectionLimits(max_pending_inbound=8, max_pending_per_source=4)
    async with listening(tmp_path, failures.serve, limits=limits) as listener:
        with contextlib.ExitStack() as sockets:
            for number in range(12):
                silent = sockets.enter_context(socket.socket())
                silent.bind((f"127.0.0.{100 + number % 3}", 0))
                silent.connect(("127.0.0.1", listener.port))
            await eventually(lambda: len(listener._admissions) == 8, seconds=SECONDS, what="all places taken")
            async with await connect("127.0.0.1", listener.port, local=local_node(2), timeouts=QUICK):
                assert len(listener._admissions) <= 8


async def test_an_address_that_is_not_admitted_gets_no_handshake(tmp_path: Path) -> None:
    failures = Failures()
    asked: list[str] = []

    def admits(host: str) -> bool:
        asked.append(host)
        return False

    async with listening(tmp_path, failures.serve, admits_host=admits) as listener:
        with pytest.raises(WireError, match="unreachable"):
            await connect("127.0.0.1", listener.port, local=local_node(2), timeouts=QUICK)
        assert asked == ["127.0.0.1"]
        assert failures.seen.empty()


async def test_closing_does_not_wait_for_strangers_in_their_handshake(tmp_path: Path) -> None:
    patient = dataclasses.replace(QUICK, close_seconds=20.0, handshake_seconds=60.0)
    failures = Failures()
    async with contextlib.AsyncExitStack() as stack:
        listener = await stack.enter_async_context(listening(tmp_path, failures.serve, timeouts=patient))
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        await eventually(lambda: listener._admissions, seconds=SECONDS, what="a silent stranger")
        async with asyncio.timeout(patient.close_seconds / 2):
            await stack.aclose()
        assert await reader.read() == b""
        writer.close()
    assert not listener._admissions


async def test_closing_does_not_wait_for_strangers_that_upgraded_and_say_nothing(tmp_path: Path) -> None:
    patient = dataclasses.replace(QUICK, close_seconds=20.0, handshake_seconds=60.0)
    failures = Failures()
    async with contextlib.AsyncExitStack() as stack:
        listener = await stack.enter_async_context(listening(tmp_path, failures.serve, timeouts=patient))
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client_context())) as session,
            session.ws_connect(f"wss://127.0.0.1:{listener.port}/p2p") as websocket,
        ):
            async with asyncio.timeout(patient.close_seconds / 2):
                await stack.aclose()
                ended = await websocket.receive()
            assert ended.type in {WSMsgType.CLOSED, WSMsgType.CLOSE, WSMsgType.ERROR}
    assert not listener._admissions


async def test_a_peer_that_talks_and_never_answers_pings_is_dropped(tmp_path: Path) -> None:
    failures = Failures()
    hasty = dataclasses.replace(QUICK, ping_interval_seconds=0.05, pong_seconds=0.3)
    async with (
        listening(tmp_path, failures.serve, timeouts=hasty) as listener,
        raw_peer(listener.port) as websocket,
    ):
        assert isinstance(decode(await websocket.receive_bytes(timeout=SECONDS)), Ping)
        ending = asyncio.create_task(failures.seen.get())
        for _ in range(55):  # below the rate, longer than the limit
            if ending.done():
                break
            with contextlib.suppress(ConnectionError):
                await websocket.send_bytes(encode(SendAnnouncements(high_bandwidth=True)))
            await asyncio.wait((ending,), timeout=0.03)
        async with asyncio.timeout(SECONDS):
            ended = await ending
        assert isinstance(ended, PeerTimeout)
        assert ended.reason == Reason.PING_TIMEOUT
