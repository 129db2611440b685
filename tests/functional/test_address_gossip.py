"""Addresses and clocks between real nodes, and with a peer of the previous wire version."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from facechain.consensus.params import Genesis
from facechain.consensus.signing import NodeKey
from facechain.node.config_kinds import Endpoint
from facechain.node.service import clock_ms
from facechain.node.wire.connection import Connection
from facechain.node.wire.faults import WireError
from facechain.node.wire.handshake import LocalNode
from facechain.node.wire.messages import (
    Address,
    Addresses,
    Clock,
    GetAddresses,
    Headers,
    Message,
    ShareAddresses,
    Status,
)
from facechain.node.wire.transport import connect
from support.chain import make_genesis, seed
from support.live import LiveNode, live_node

SECONDS = 10.0


@pytest.fixture
def genesis() -> Genesis:
    return make_genesis(time_ms=clock_ms() - 3_600_000)


@contextlib.asynccontextmanager
async def visit(
    node: LiveNode, genesis: Genesis, name: str, *, versions: tuple[int, int] = (1, 2), port: int = 0
) -> AsyncIterator[Connection]:
    """Connect as a peer whose every message the test writes."""
    local = LocalNode(
        key=NodeKey.from_seed(seed(name)),
        network_id=genesis.network_id,
        user_agent=name,
        versions=versions,
        listen_port=port,
    )
    address = node.addresses.peer
    async with await connect(address.host, address.port, local=local) as connection:
        yield connection


async def collect(connection: Connection, last: type[Message]) -> list[Message]:
    """Read until a message of a type came."""
    got: list[Message] = []
    async with asyncio.timeout(SECONDS):
        while not got or not isinstance(got[-1], last):
            got.append(await connection.receive())
    return got


async def test_a_peer_of_the_previous_version_is_served_and_hears_no_word_of_the_new_one(
    tmp_path: Path, genesis: Genesis
) -> None:
    async with (
        live_node(tmp_path / "a", genesis) as node,
        visit(node, genesis, "old", versions=(1, 1)) as old,
        visit(node, genesis, "new", port=4_001) as new,
    ):
        assert (old.peer.version, new.peer.version) == (1, 2)
        assert isinstance((await collect(new, Status))[0], Clock)
        await old.send(GetAddresses())
        heard = await collect(old, Addresses)
        assert not [item for item in heard if isinstance(item, Clock | ShareAddresses)]
        await new.send(ShareAddresses(addresses=(told(5_001),)))
        await node.until(lambda: node.node.peering.book.get(("127.0.0.1", 5_001)))
        await old.send(GetAddresses())
        assert not [item for item in await collect(old, Addresses) if isinstance(item, ShareAddresses)]


def told(port: int) -> Address:
    return Address(host="127.0.0.1", port=port, last_seen_ms=clock_ms())


async def test_a_new_message_on_an_old_connection_is_a_fault(tmp_path: Path, genesis: Genesis) -> None:
    async with (
        live_node(tmp_path / "a", genesis) as node,
        visit(node, genesis, "old", versions=(1, 1)) as old,
    ):
        await collect(old, Status)
        old.session.version = 2
        await old.send(Clock(time_ms=1))
        with pytest.raises(WireError, match="unknown-message"):
            await collect(old, Headers)


async def test_a_new_address_is_passed_on_and_a_known_one_is_not(tmp_path: Path, genesis: Genesis) -> None:
    async with (
        live_node(tmp_path / "a", genesis) as node,
        visit(node, genesis, "listener") as listener,
        visit(node, genesis, "teller") as teller,
    ):
        await collect(listener, Status)
        await teller.send(ShareAddresses(addresses=(told(5_001),)))
        shared = (await collect(listener, ShareAddresses))[-1]
        assert isinstance(shared, ShareAddresses)
        assert [item.port for item in shared.addresses] == [5_001]
        await teller.send(ShareAddresses(addresses=(told(5_001),)))
        async with visit(node, genesis, "newcomer", port=6_001):
            again = (await collect(listener, ShareAddresses))[-1]
        assert isinstance(again, ShareAddresses)
        assert [item.port for item in again.addresses] == [6_001], "the newcomer's own address comes next"


async def test_unasked_addresses_beyond_the_trickle_are_passed_over(tmp_path: Path, genesis: Genesis) -> None:
    async with (
        live_node(tmp_path / "a", genesis) as node,
        visit(node, genesis, "flooder") as flooder,
    ):
        for start in range(1, 101, 10):
            addresses = tuple(told(5_000 + start + number) for number in range(10))
            await flooder.send(ShareAddresses(addresses=addresses))
        await flooder.send(GetAddresses())
        await collect(flooder, Addresses)
        heard = [entry for entry in node.node.peering.book.entries() if entry.port > 5_000]
        assert 1 <= len(heard) <= 3


async def test_a_question_is_answered_once(tmp_path: Path, genesis: Genesis) -> None:
    async with (
        live_node(tmp_path / "a", genesis) as node,
        visit(node, genesis, "asker", port=4_001) as asker,
    ):
        sizes = []
        for _ in range(2):
            await asker.send(GetAddresses())
            answer = (await collect(asker, Addresses))[-1]
            assert isinstance(answer, Addresses)
            sizes.append(len(answer.addresses))
        assert sizes == [1, 0]


async def test_a_node_tells_its_own_address_to_whom_it_may(tmp_path: Path, genesis: Genesis) -> None:
    own = Endpoint(host="20.1.2.3", port=7_440)
    async with (
        live_node(tmp_path / "a", genesis, advertise=own) as node,
        visit(node, genesis, "asker") as asker,
    ):
        shared = (await collect(asker, ShareAddresses))[-1]
        assert isinstance(shared, ShareAddresses)
        (address,) = shared.addresses
        assert (address.host, address.port) == (own.host, own.port)


async def test_a_node_whose_clock_differs_from_its_peers_says_so(
    tmp_path: Path, genesis: Genesis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        peers = [
            await stack.enter_async_context(live_node(tmp_path / f"peer-{number}", genesis))
            for number in range(3)
        ]
        limit = genesis.params.future_limit_ms
        monkeypatch.setattr("facechain.node.service.clock_ms", lambda: clock_ms() + limit)
        ahead = await stack.enter_async_context(live_node(tmp_path / "ahead", genesis, peers=peers))
        await ahead.until(lambda: ahead.node.hub.clocks.median_ms() is not None)
        offset = ahead.node.hub.clocks.median_ms()
        assert offset is not None
        assert -2 * limit < offset < -limit / 2
    assert "ahead of the median of 3" in caplog.text


async def test_a_node_that_is_held_at_the_previous_version_speaks_it(
    tmp_path: Path, genesis: Genesis
) -> None:
    async with (
        live_node(tmp_path / "a", genesis) as new,
        live_node(tmp_path / "b", genesis, wire_version=1, peers=[new]) as old,
    ):
        await old.until(lambda: old.node.hub.links)
        (link,) = old.node.hub.links.values()
        assert link.connection.peer.version == 1
        await new.until(lambda: new.node.hub.sync.best_known_height() == 0 and new.node.hub.links)
