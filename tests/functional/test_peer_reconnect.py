"""Two connections between the same nodes: which one stays, as both ends say, whoever has the smaller key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from facechain.consensus.params import Genesis
from facechain.consensus.signing import NodeKey
from facechain.node.protocol import peer_duplicates
from facechain.node.protocol.peer_entry import Endpoint
from facechain.node.service import clock_ms
from support.chain import make_genesis, seed
from support.live import LiveNode, live_node

Pair = tuple[LiveNode, LiveNode]


@pytest.fixture(params=["smaller", "greater"])
def names(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The identities of two nodes; the first one's key is the smaller, or the greater, one."""
    one, other = sorted(("one", "other"), key=lambda name: NodeKey.from_seed(seed(name)).public)
    return (one, other) if request.param == "smaller" else (other, one)


@pytest.fixture
def genesis() -> Genesis:
    return make_genesis(time_ms=clock_ms() - 60_000)


@asynccontextmanager
async def connected(tmp_path: Path, genesis: Genesis, names: tuple[str, str]) -> AsyncIterator[Pair]:
    """Two nodes; the first one has opened a connection to the second one, and will open no other by itself."""
    async with (
        live_node(tmp_path / "b", genesis, identity=names[1], max_outbound=0) as second,
        live_node(tmp_path / "a", genesis, identity=names[0], max_outbound=0, peers=[second]) as first,
    ):
        await first.until(lambda: first.node.hub.links)
        await second.until(lambda: second.node.hub.links)
        yield first, second


def dialed(node: LiveNode) -> list[Endpoint | None]:
    return [link.dialed for link in node.node.hub.links.values()]


async def test_a_peer_that_comes_again_is_let_in_although_its_old_connection_is_there(
    tmp_path: Path, genesis: Genesis, names: tuple[str, str]
) -> None:
    async with connected(tmp_path, genesis, names) as (first, second):
        (before,) = second.node.hub.links
        port = second.addresses.peer.port
        await first.node.peer_control.add("localhost", port)  # the same node, by another way
        await first.until(lambda: dialed(first) == [("localhost", port)])
        await second.until(lambda: dialed(second) == [None] and before not in second.node.hub.links)
        (link,) = second.node.hub.links.values()
        assert link.node_key == first.node.status().node_key
        assert dialed(first) == [("localhost", port)], "the new connection stayed"


@pytest.mark.parametrize("is_old", [True, False])
async def test_of_two_that_both_ends_opened_the_smaller_key_s_stays_unless_the_other_is_old(
    tmp_path: Path, genesis: Genesis, names: tuple[str, str], is_old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_duplicates, "CROSSING_SECONDS", 0.0 if is_old else 1e6)
    async with connected(tmp_path, genesis, names) as (first, second):
        host, port = "localhost", first.addresses.peer.port
        await second.node.peer_control.add(host, port)
        book = second.node.peering.book
        await second.until(lambda: (entry := book.get((host, port))) and entry.last_try_ms)
        newer_stays = is_old or second.node.status().node_key < first.node.status().node_key
        if newer_stays:
            await second.until(lambda: dialed(second) == [(host, port)])
            await first.until(lambda: dialed(first) == [None])
        else:
            await second.until(lambda: (entry := book.get((host, port))) and entry.failures)
            assert (len(dialed(first)), dialed(second)) == (1, [None])
