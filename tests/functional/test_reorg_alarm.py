"""Deep reorganisations and refused forks are counted, logged, published and shown by the API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from facechain.consensus.block import Block
from facechain.node.api.event_stream import event_view
from facechain.node.api.events import Event, ReorgAlarm, Subscription
from facechain.node.chainstate import ChainPolicy
from support.api import Served, serve
from support.chain import make_genesis
from support.live import live_node
from support.long_chain import LongChain


def nobody(_block: Block) -> None:
    """Relay to nobody."""


def branches(start: LongChain, *lengths: int) -> list[list[Block]]:
    """Mine branches of different blocks from one block."""
    return [
        list(start.fork().mine_many(length, delay_ms=10_000 + number))
        for number, length in enumerate(lengths)
    ]


async def add(api: Served, blocks: list[Block]) -> None:
    api.node.clock.now_ms = max(api.node.clock.now_ms, blocks[-1].header.time_ms)
    _, refused = await api.node.runner.add_blocks(blocks, nobody)
    assert not refused


def alarms(subscription: Subscription) -> list[Event]:
    """Return the alarms that were published so far."""
    queued: list[Event | None] = []
    while not subscription._queue.empty():
        queued.append(subscription._queue.get_nowait())
    return [event for event in queued if isinstance(event, ReorgAlarm)]


async def status(api: Served) -> Any:
    return (await api.get("/v1/status"))["reorganisations"]


NOTHING = {"reorganisations": 0, "blocks": 0, "deepest": 0, "deep": 0, "refused_forks": 0, "alarm": None}


async def test_shallow_ones_are_counted_and_deep_ones_raise_the_alarm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serve() as api:
        with api.node.events.subscribe() as listener:
            trunk = LongChain(api.node.genesis)
            trunk.mine()
            first = trunk.tip
            one, two, four = branches(trunk, 1, 2, 4)
            assert await status(api) == NOTHING
            await add(api, [first, *one])
            assert await status(api) == NOTHING
            await add(api, two)
            shallow = {**NOTHING, "reorganisations": 1, "blocks": 1, "deepest": 1}
            assert await status(api) == shallow
            assert not alarms(listener)
            assert not [record for record in caplog.records if record.levelname == "CRITICAL"]
            await add(api, four)
            (alarm,) = alarms(listener)
            view = {
                "reason": "deep-reorganisation",
                "at_ms": api.node.clock.now_ms,
                "depth": 2,
                "fork_height": 1,
                "left": two[-1].hash.hex(),
                "right": four[-1].hash.hex(),
            }
            assert event_view(alarm) == ("alarm", view)
            counts = {**NOTHING, "reorganisations": 2, "blocks": 3, "deepest": 2, "deep": 1}
            assert await status(api) == {**counts, "alarm": view}
            metrics = await api.page("/metrics")
            for name, number in (
                ("reorganisations_total", 2),
                ("reorganisation_blocks_total", 3),
                ("deep_reorganisations_total", 1),
                ("refused_forks_total", 0),
                ("reorganisation_deepest_blocks", 2),
            ):
                assert f"\nfacechain_{name} {number}.0\n" in metrics
        (record,) = [record for record in caplog.records if record.levelname == "CRITICAL"]
        assert "2 blocks above height 1 went off the chain" in record.getMessage()
        assert two[-1].hash.hex() in record.getMessage()


async def test_a_heavier_chain_that_is_refused_raises_the_alarm_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serve() as api:
        api.node.chain.policy = ChainPolicy(max_reorg=1)
        with api.node.events.subscribe() as listener:
            kept, heavier, another = branches(LongChain(api.node.genesis), 2, 6, 8)
            await add(api, kept)
            for block in heavier[:2]:
                await add(api, [block])
            assert (await status(api))["refused_forks"] == 0, "it has no more work"
            for block in heavier[2:]:
                await add(api, [block])
            (alarm,) = alarms(listener)
            name, view = event_view(alarm)
            assert (name, view["reason"], view["depth"], view["fork_height"]) == (
                "alarm",
                "refused-fork",
                2,
                0,
            )
            assert (view["left"], view["right"]) == (kept[-1].hash.hex(), heavier[2].hash.hex())
            assert (await status(api))["refused_forks"] == 1
            await add(api, another)
            (alarm,) = alarms(listener)
            found = await status(api)
            assert found == {**NOTHING, "refused_forks": 2, "alarm": event_view(alarm)[1]}
            assert "\nfacechain_refused_forks_total 2.0\n" in await api.page("/metrics")
            assert api.node.chain.tree.tip.hash == kept[-1].hash
        critical = [record.getMessage() for record in caplog.records if record.levelname == "CRITICAL"]
        assert len(critical) == 2
        assert "leaves this chain at height 0, 2 blocks below the tip" in critical[0]


async def test_a_whole_node_watches_from_its_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    genesis = make_genesis(time_ms=1_700_000_000_000)
    short, long, longest = branches(LongChain(genesis), 6, 7, 12)
    async with live_node(tmp_path, genesis) as live:
        for blocks in (short, long):
            _, refused = await live.node.runner.add_blocks(blocks, nobody)
            assert not refused
        assert live.tip == long[-1].hash
        assert (live.node.reorgs.counts.deep, live.node.reorgs.counts.deepest) == (1, 6)
        live.node.chain.policy = ChainPolicy(max_reorg=3)
        await live.node.runner.add_blocks(longest, nobody)
        assert live.node.reorgs.counts.refused_forks == 1
        await live.node.runner.call(lambda: live.node.chain.store.transact(live.node.chain.flush_pending))
    assert len([record for record in caplog.records if record.levelname == "CRITICAL"]) == 2
    async with live_node(tmp_path, genesis) as live:
        assert live.tip == longest[-1].hash, "the new start allows it: max_reorg is 1,000 again"
