"""The dialer: peers that refuse are left alone for longer, and no address ends the dialing."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from facechain.consensus.params import Genesis
from facechain.consensus.signing import NodeKey
from facechain.node import dialer
from facechain.node.config_kinds import Endpoint
from facechain.node.dialer import Dialer
from facechain.node.hub import PeerHub
from facechain.node.peer_door import PeerDoor
from facechain.node.protocol.peer_bans import BanList
from facechain.node.protocol.peer_outbound import OutboundPlan, OutboundPolicy
from facechain.node.service import clock_ms
from facechain.node.wire import transport
from facechain.node.wire.connection import Connection
from facechain.node.wire.faults import Reason
from facechain.node.wire.handshake import LocalNode
from facechain.node.wire.limits import ConnectionLimits
from facechain.node.wire.tls import open_identity
from facechain.node.wire.transport import Listener
from support.chain import make_genesis, seed
from support.live import live_node
from support.peer_books import make_book


@pytest.fixture
def genesis() -> Genesis:
    return make_genesis(time_ms=clock_ms() - 60_000)


def listener(folder: Path, genesis: Genesis, serve: object) -> Listener:
    folder.mkdir(mode=0o700)
    local = LocalNode(
        key=NodeKey.from_seed(seed(str(folder))), network_id=genesis.network_id, user_agent="test"
    )
    return Listener(
        host="127.0.0.1",
        port=0,
        identity=open_identity(folder),
        local=local,
        on_connection=serve,  # type: ignore[arg-type]
    )


async def test_a_peer_that_closes_at_once_is_not_dialed_in_a_loop(tmp_path: Path, genesis: Genesis) -> None:
    came: list[float] = []

    async def refuse(connection: Connection) -> None:
        came.append(asyncio.get_running_loop().time())
        await connection.close(Reason.TOO_MANY_CONNECTIONS, "full")

    async with listener(tmp_path / "full", genesis, refuse) as full:
        peer = Endpoint(host="127.0.0.1", port=full.port)
        async with live_node(tmp_path / "node", genesis, peers=[peer]) as node:
            await node.until(lambda: len(came) >= 3, 20)
            assert came[1] - came[0] >= 1.5
            assert came[2] - came[1] >= 3.0


async def test_a_node_that_is_reached_by_another_name_is_not_dialed_again(
    tmp_path: Path, genesis: Genesis
) -> None:
    async with (
        live_node(tmp_path / "a", genesis) as first,
        live_node(tmp_path / "b", genesis, peers=[first]) as second,
    ):
        await second.until(lambda: second.node.hub.links)
        other_name = ("localhost", first.addresses.peer.port)
        second.node.peering.book.add_manual(*other_name)

        def tries() -> int:
            return next(
                item.last_try_ms for item in second.node.peering.book.entries() if item.endpoint == other_name
            )

        await second.until(tries)
        await second.until(lambda: len(second.node.hub.links) == 1 and len(first.node.hub.links) == 1)
        once = tries()
        await asyncio.wait_for(second.node.runner.call(lambda: None), 5)
        ticks = asyncio.get_running_loop().time() + 3
        await second.until(lambda: asyncio.get_running_loop().time() > ticks)
        assert tries() == once


async def test_an_address_that_breaks_the_connecting_code_does_not_end_the_dialing(
    tmp_path: Path, genesis: Genesis, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    async def connect(host: str, port: int, **more: object) -> Connection:
        tried.append(host)
        if host == "broken.example":
            raise AttributeError("what no test thought of")
        return await transport.connect(host, port, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("facechain.node.dialer.connect", connect)
    async with live_node(tmp_path / "a", genesis) as good:
        bad = Endpoint(host="broken.example", port=1)
        async with live_node(tmp_path / "b", genesis, peers=[bad]) as node:
            await node.until(lambda: "broken.example" in tried)
            node.node.peering.book.add_manual(good.addresses.peer.host, good.addresses.peer.port)
            await node.until(lambda: node.node.hub.links)
            assert [peer.node_key for peer in node.node.peers()] == [good.node.status().node_key]


async def test_a_fault_in_choosing_does_not_end_the_dialing(
    tmp_path: Path, genesis: Genesis, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = asyncio.Event()

    def fault(*_details: object) -> None:
        failed.set()
        raise KeyError("what no test thought of")

    async with live_node(tmp_path / "a", genesis) as other, live_node(tmp_path / "b", genesis) as node:
        with monkeypatch.context() as patch:
            patch.setattr(node.node.peering._plan, "next", fault)
            async with asyncio.timeout(10):
                await failed.wait()
        assert not node.node.peers()
        node.node.peering.book.add_manual(other.addresses.peer.host, other.addresses.peer.port)
        await node.until(lambda: node.node.hub.links)
        assert [peer.node_key for peer in node.node.peers()] == [other.node.status().node_key]


def test_the_address_book_is_looked_through_less_often_while_nothing_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr("facechain.node.dialer.time.monotonic", lambda: now[0])
    links: dict[int, object] = {}
    book = make_book()
    door = PeerDoor(book=book, bans=BanList(), clock_ms=clock_ms, max_inbound=8)
    dialing = Dialer(
        plan=OutboundPlan(book, random.Random(1), OutboundPolicy()),
        door=door,
        hub=cast("PeerHub", SimpleNamespace(links=links)),
        local=LocalNode(key=NodeKey.from_seed(seed("own")), network_id=seed("network"), user_agent="test"),
        limits=ConnectionLimits(),
        manual=(),
        clock_ms=clock_ms,
    )

    def looks(polls: int) -> list[bool]:
        found = []
        for _ in range(polls):
            found.append(dialing._is_worth_a_look())
            now[0] += dialer.POLL_SECONDS
        return found

    pause = round(dialer.QUIET_SECONDS / dialer.POLL_SECONDS) - 1
    assert looks(20) == [True] * 4 + ([False] * pause + [True]) * 2
    links[1] = object()
    assert looks(5) == [True] * 4 + [False], "a connection that comes or goes makes a difference"
    book.add_manual("node.example", 1)
    assert looks(5) == [True] * 4 + [False], "and so does an address"
