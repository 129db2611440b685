"""What /metrics says of peers: addresses, connections, bans, evictions and feelers of live nodes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import aiohttp
import pytest

from facechain.consensus.params import Genesis
from facechain.consensus.payloads import Cancel
from facechain.consensus.statement import Statement
from facechain.node.config_kinds import PeerPattern
from facechain.node.service import clock_ms
from facechain.node.wire.messages import Address
from support.chain import SUBMITTER, ChainBuilder, make_genesis
from support.live import LiveNode, live_node
from support.peer import gone, hear, offer, peer_of


@pytest.fixture
def genesis() -> Genesis:
    return make_genesis(time_ms=clock_ms() - 3_600_000)


async def scrape(node: LiveNode) -> dict[str, float]:
    """Return the samples about peers, by name and labels."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{node.addresses.api}/metrics") as response,
    ):
        lines = (await response.text()).splitlines()
    samples = dict(line.rsplit(" ", 1) for line in lines if line.startswith("facechain_"))
    return {name.removeprefix("facechain_"): float(value) for name, value in samples.items()}


async def test_connections_and_addresses_by_kind(tmp_path: Path, genesis: Genesis) -> None:
    async with (
        live_node(tmp_path / "a", genesis) as first,
        live_node(tmp_path / "b", genesis, peers=[first]) as second,
        peer_of(second, genesis),
    ):
        await second.until(lambda: len(second.node.hub.links) == 2)
        found = await scrape(second)
        kinds = {name: value for name, value in found.items() if name.startswith("connections{")}
        assert sum(kinds.values()) == 2
        assert kinds['connections{kind="inbound"}'] == kinds['connections{kind="manual"}'] == 1
        book = second.node.peering.book
        book.add_manual("192.0.2.1", 1, lasting=False)
        new, tried = book.counts
        found = await scrape(second)
        assert (found['addresses{table="new"}'], found['addresses{table="tried"}']) == (new, tried)
        assert (await scrape(first))['connections{kind="inbound"}'] == 1


async def test_offences_and_bans_by_reason(tmp_path: Path, genesis: Genesis) -> None:
    builder = ChainBuilder(genesis)
    statement = builder.statement(SUBMITTER, Cancel(note="true"))
    forged = Statement(statement.header_bytes, bytes(64), statement.payload)
    async with live_node(tmp_path / "a", genesis) as node:
        async with peer_of(node, genesis) as peer:
            await offer(peer, forged)
            await gone(peer)
        found = await scrape(node)
        assert found['peer_offences_total{reason="bad-signature"}'] == 1
        assert found['bans_total{reason="bad-signature"}'] == 1
        await node.node.peering.admin.ban(PeerPattern.parse("192.0.2.7"), "for the test", 60)
        found = await scrape(node)
        assert found['bans_total{reason="operator"}'] == 1
        assert (found['bans_in_force{by="operator"}'], found['bans_in_force{by="node"}']) == (1, 1)
        await node.node.peering.admin.unban(PeerPattern.parse("192.0.2.7"))
        assert (await scrape(node))['bans_in_force{by="operator"}'] == 0


async def test_feelers_that_worked_and_that_did_not(tmp_path: Path, genesis: Genesis) -> None:
    async with (
        live_node(tmp_path / "a", genesis) as first,
        live_node(tmp_path / "b", genesis, max_outbound=0) as second,
    ):
        peering = second.node.peering
        peering._plan._policy = dataclasses.replace(peering._plan._policy, feeler_ms=2)
        hear(second, first)
        counts = peering.door.counts
        await second.until(lambda: counts.feelers_worked)
        silent = Address(host="127.0.0.1", port=1, last_seen_ms=clock_ms())
        peering.book.add_heard([silent], source_host="127.0.0.1", now_ms=clock_ms())
        await second.until(lambda: counts.feelers_failed)
        found = await scrape(second)
        assert found['feelers_total{outcome="worked"}'] == counts.feelers_worked
        assert found['feelers_total{outcome="failed"}'] == counts.feelers_failed
