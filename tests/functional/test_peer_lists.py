"""The operator's lists on a running node: who is let in, who is not, and at which step."""

from __future__ import annotations

from pathlib import Path

import pytest

from facechain.consensus.params import Genesis
from facechain.consensus.signing import NodeKey
from facechain.node.config_kinds import PeerPattern
from facechain.node.service import clock_ms
from facechain.node.wire.faults import ConnectFailed
from facechain.node.wire.messages import Status
from support.chain import make_genesis, seed
from support.live import live_node
from support.peer import gone, hear, peer_of, receive


@pytest.fixture
def genesis() -> Genesis:
    return make_genesis(time_ms=clock_ms() - 3_600_000)


def key_of(name: str) -> PeerPattern:
    return PeerPattern(node_key=NodeKey.from_seed(seed(name)).public)


async def test_a_denied_key_is_sent_away_after_its_proof(tmp_path: Path, genesis: Genesis) -> None:
    async with live_node(tmp_path / "node", genesis, deny=(key_of("unwanted"),)) as node:
        async with peer_of(node, genesis, "unwanted") as peer:
            assert (await gone(peer)).reason == "banned"
        async with peer_of(node, genesis, "anybody") as peer:
            await receive(peer, Status)


async def test_a_denied_network_gets_no_handshake_and_is_not_dialed(tmp_path: Path, genesis: Genesis) -> None:
    deny = (PeerPattern.parse("127.0.0.0/8"),)
    async with (
        live_node(tmp_path / "other", genesis) as other,
        live_node(tmp_path / "node", genesis, deny=deny, peers=[other]) as node,
    ):
        with pytest.raises(ConnectFailed):
            async with peer_of(node, genesis):
                pass
        where = hear(node, other)
        entry = node.node.peering.book.get(where)
        assert entry is not None
        assert entry.manual
        assert not entry.last_try_ms
        assert not other.node.hub.links


async def test_with_an_allow_list_all_others_are_sent_away(tmp_path: Path, genesis: Genesis) -> None:
    async with live_node(tmp_path / "node", genesis, allow=(key_of("friend"),)) as node:
        async with peer_of(node, genesis, "anybody") as peer:
            assert (await gone(peer)).reason == "banned"
        async with peer_of(node, genesis, "friend") as peer:
            await receive(peer, Status)
    allow = (PeerPattern.parse("192.0.2.0/24"),)
    async with live_node(tmp_path / "networks", genesis, allow=allow) as node:
        with pytest.raises(ConnectFailed):
            async with peer_of(node, genesis, "friend"):
                pass
