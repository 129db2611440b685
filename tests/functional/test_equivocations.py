"""Keys that said two things in one place are counted, logged, published and shown, and nobody is punished for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from facechain.consensus.block import Block
from facechain.consensus.statement import Statement
from facechain.node.api.event_stream import event_view
from facechain.node.api.events import Event
from facechain.node.protocol.equivocation import Equivocation
from facechain.node.service import clock_ms
from support.api import serve
from support.chain import PRODUCER, SUBMITTER, ChainBuilder, make_genesis, make_stage
from support.live import LiveNode, live_node
from support.node_processes import run_command
from support.peer import announcement, gone, hand_over, offer, peer_of


def twins(builder: ChainBuilder, *bodies: Sequence[Statement]) -> list[Block]:
    """Seal blocks on the tip, a millisecond apart."""
    time_ms = builder.tip.header.time_ms + builder.params.spacing_ms
    return [builder.forge(body, time_ms=time_ms + number) for number, body in enumerate(bodies)]


def said_twice(builder: ChainBuilder) -> list[Statement]:
    return [builder.statement(SUBMITTER, make_stage(name=name), sequence=0) for name in ("one", "two")]


def told_by_command(node: LiveNode) -> list[str]:
    """Return what `facechain peers equivocations` prints below its heading."""
    done = run_command("peers", "equivocations", "--api", f"http://{node.addresses.api}")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[1:]


async def test_the_api_shows_who_sealed_two_blocks_on_one_parent(caplog: pytest.LogCaptureFixture) -> None:
    async with serve() as api:
        assert (await api.get("/v1/status"))["equivocations"] == {"blocks": 0, "statements": 0, "keys": 0}
        assert "Equivocations" not in await api.page("/network")
        builder = ChainBuilder(api.node.genesis)
        one, two = twins(builder, (), ())
        with api.node.events.subscribe() as listener:
            for block in (one, two):
                api.node.clock.now_ms = block.header.time_ms
                await api.node.runner.add_blocks([block], lambda _: None)
                api.node.watch.on_block(block.hash)
            events: list[Event | None] = []
            while not listener._queue.empty():
                events.append(listener._queue.get_nowait())
        (event,) = [item for item in events if isinstance(item, Equivocation)]
        evidence = {
            "kind": "block",
            "height": 1,
            "parent": builder.genesis_block.hash.hex(),
            "first": one.hash.hex(),
            "second": two.hash.hex(),
            "at_ms": api.node.clock.now_ms,
        }
        key = PRODUCER.public.hex()
        assert event_view(event) == ("equivocation", {"key": key, **evidence})
        assert (await api.get("/v1/status"))["equivocations"] == {"blocks": 1, "statements": 0, "keys": 1}
        assert await api.get("/v1/equivocations") == {
            "blocks": 1,
            "statements": 0,
            "keys": [{"key": key, "found": [evidence]}],
        }
        metrics = await api.page("/metrics")
        assert '\nfacechain_equivocations_total{kind="block"} 1.0\n' in metrics
        assert '\nfacechain_equivocations_total{kind="statement"} 0.0\n' in metrics
        assert "\nfacechain_equivocating_keys 1.0\n" in metrics
        for page in ("/", f"/account/{key}"):
            assert 'href="/network#equivocations"' in await api.page(page)
        shown = await api.page("/network")
        assert 'id="equivocations"' in shown
        assert one.hash.hex() in shown
        assert two.hash.hex() in shown
    (record,) = [item for item in caplog.records if "said two things" in item.getMessage()]
    assert record.levelname == "WARNING"


async def test_a_submitter_that_signs_two_statements_with_one_sequence_is_counted() -> None:
    async with serve() as api:
        first, second = (
            api.node.sign(SUBMITTER, make_stage(name=name), sequence=0) for name in ("one", "two")
        )
        forged = Statement(
            api.node.sign(SUBMITTER, make_stage(name="three"), sequence=0).header_bytes,
            second.signature,
            make_stage(name="three").encode(),
        )
        for statement, queued in ((first, True), (forged, False), (second, False)):
            (answer,) = await api.node.submit([statement])
            assert answer.queued == queued
        shown = await api.get("/v1/equivocations")
        assert (shown["blocks"], shown["statements"]) == (0, 1)
        (found,) = shown["keys"][0]["found"]
        assert (found["sequence"], found["first"], found["second"]) == (0, first.id.hex(), second.id.hex())
        await api.node.seal()
        (answer,) = await api.node.submit([second])
        assert not answer.queued
        assert (await api.get("/v1/status"))["equivocations"]["statements"] == 1


@pytest.mark.parametrize("late", [False, True], ids=["waits", "is sealed"])
async def test_statements_of_peers_count_and_their_senders_stay(tmp_path: Path, *, late: bool) -> None:
    genesis = make_genesis(time_ms=clock_ms() - 3_600_000)
    builder = ChainBuilder(genesis)
    one, two = said_twice(builder)
    async with live_node(tmp_path / "node", genesis) as node, peer_of(node, genesis) as peer:
        await offer(peer, one)
        await node.until(lambda: len(node.node.pool) == 1)
        if late:
            await node.node.hub.submit_block(twins(builder, [one])[0])
            assert not len(node.node.pool)
        await offer(peer, two)
        await node.until(lambda: node.node.equivocations.counts.statements == 1)
        assert len(node.node.hub.links) == 1
        assert not node.node.peering.bans.active(clock_ms())


async def test_a_statement_that_nobody_signed_is_its_senders_fault(tmp_path: Path) -> None:
    genesis = make_genesis(time_ms=clock_ms() - 3_600_000)
    builder = ChainBuilder(genesis)
    one, two = said_twice(builder)
    forged = Statement(two.header_bytes, one.signature, two.payload)
    async with live_node(tmp_path / "node", genesis) as node, peer_of(node, genesis) as peer:
        await offer(peer, one)
        await node.until(lambda: len(node.node.pool) == 1)
        await offer(peer, forged)
        error = await gone(peer)
        assert "bad-signature" in error.message
        assert node.node.equivocations.counts.statements == 0


async def test_rival_blocks_count_their_sealer_and_the_author_of_two_statements(tmp_path: Path) -> None:
    genesis = make_genesis(time_ms=clock_ms() - 3_600_000)
    builder = ChainBuilder(genesis)
    one, two = said_twice(builder)
    first, second = twins(builder, [one], [two])
    async with live_node(tmp_path / "node", genesis) as node, peer_of(node, genesis) as peer:
        for block in (first, second):
            await peer.send(announcement(block))
            await hand_over(peer, *block.body.statements)
        await node.until(lambda: node.node.equivocations.counts.statements == 1)
        counts = node.node.equivocations.counts
        assert (counts.blocks, node.tip) == (1, first.hash), "the second one is not on the chain"
        listed = await asyncio.to_thread(told_by_command, node)
        assert sorted(line.split()[1] for line in listed) == ["block", "statement"]
        assert {key for key, _ in node.node.equivocations.all()} == {PRODUCER.public, SUBMITTER.public}
        assert len(node.node.hub.links) == 1
