"""Running nodes tell how far behind they are, and what relaying costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from facechain.consensus.params import Genesis
from facechain.consensus.payloads import Cancel
from facechain.node.api.metrics import Metrics
from facechain.node.api.views.network import live_status, peer_view
from facechain.node.service import clock_ms
from support.chain import SUBMITTER, ChainBuilder, make_genesis
from support.live import live_node

BLOCKS = 60


@pytest.fixture
def genesis() -> Genesis:
    return make_genesis(time_ms=clock_ms() - (BLOCKS + 100) * 10_000)


@pytest.mark.parametrize("minimum", [0, 50])
async def test_status_metrics_and_peers_tell_of_sync_and_relay(
    tmp_path: Path, genesis: Genesis, minimum: int
) -> None:
    builder = ChainBuilder(genesis)
    blocks = builder.mine_many(BLOCKS - 1)
    statement = builder.statement(SUBMITTER, Cancel(note="a body"))
    blocks.append(builder.mine([statement], parent=blocks[-1]))
    work = builder.node(blocks[minimum - 1]).chainwork if minimum else 0
    async with live_node(tmp_path / "full", genesis) as full:
        await full.node.runner.add_blocks(blocks, lambda _block: None)
        async with live_node(tmp_path / "new", genesis, peers=[full], minimum_chainwork=work) as new:
            await new.until(lambda: new.tip == blocks[-1].hash)
            status = live_status(new.node)
            sync = status["sync"]
            assert (sync["headers"], sync["behind_by"], sync["bodies_missing"]) == (BLOCKS, 0, 0)
            assert (sync["syncing"], sync["progress"], sync["eta_seconds"]) == (False, 1.0, None)
            assert sync["blocks_per_second"] > 0
            assert status["relay"]["blocks"] == BLOCKS
            assert status["relay"]["block_bytes"] >= len(statement.encode())
            (peer,) = (peer_view(item) for item in new.node.peers())
            assert (peer["announces_with_leaves"], peer["pruned_below"]) == (True, 0)
            text = Metrics(new.node, None).render().decode()
            assert f"facechain_relay_blocks_total {BLOCKS}.0" in text
            assert "facechain_sync_behind_by 0.0" in text
