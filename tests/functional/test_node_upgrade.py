"""A network goes over to another protocol version: a node that knows it goes on, one that does not stops before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from facechain.cli.errors import ExitCode
from facechain.cli.testnet_founding import ADMINISTRATOR, found_testnet
from facechain.cli.testnet_founding import PRODUCER as PRODUCER_NAME
from facechain.cli.testnet_record import NetworkRecord
from facechain.consensus.payloads import ProtocolUpgrade
from facechain.consensus.upgrade import UpgradeNeeded
from facechain.node.service import clock_ms
from support.chain import ADMIN, PRODUCER, ChainBuilder, make_genesis
from support.live import LiveNode, live_node
from support.node_processes import NodeProcess, error_line, run_command

MINE = ("--mine", "--mining-key", PRODUCER_NAME)


def network_of_two(tmp_path: Path) -> NetworkRecord:
    return found_testnet(tmp_path / "network", count=2, mines=True)


def schedule(node: NodeProcess, network: NetworkRecord, height: int) -> None:
    done = run_command(
        *("network", "upgrade", "propose", "--version", "2", "--height", str(height)),
        *("--key", ADMINISTRATOR, "--data-dir", str(network.wallet.root), "--api", node.api, "--wait", "1"),
    )
    assert done.returncode == 0, done.stderr


def test_a_node_that_does_not_know_the_version_stops_before_it(tmp_path: Path) -> None:
    network = network_of_two(tmp_path)
    first = NodeProcess(network.root / "node-1", network.genesis_file, *MINE)
    with first, NodeProcess(network.root / "node-2", network.genesis_file, "--peers", first.peer) as second:
        mark = first.wait_for(lambda status: status.height >= 1, seconds=20, what="a block")
        assert mark.content["upgrade"] is None
        height = mark.height + 8
        schedule(first, network, height)
        for node in (first, second):
            seen = node.wait_for(lambda status: status.content["upgrade"], seconds=20, what="the schedule")
            assert seen.content["upgrade"] == {"version": 2, "activation_height": height, "known": False}
        for node in (first, second):
            assert node.process is not None
            assert node.process.wait(30) == ExitCode.OUTDATED
            log = (node.data_dir / "output.log").read_text()
            assert f"protocol version 2 is scheduled for block {height} and not known here" in log
            assert log.splitlines()[-1].startswith(
                f"error: upgrade-needed: block {height}: expected software that"
            )
            assert not node.run_file.exists()
    for node in (first, second):
        again = run_command(*node.arguments)
        assert again.returncode == ExitCode.OUTDATED
        assert f"the chain up to block {height - 1} is complete" in error_line(again)
        verified = run_command("db", "verify", "--level", "4", "--data-dir", str(node.data_dir), "--json")
        assert verified.returncode == 0, verified.stderr
        assert json.loads(verified.stdout)["height"] == height - 1


async def test_nodes_that_know_the_version_go_on_and_others_sync_up_to_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    genesis = make_genesis(
        time_ms=clock_ms() - 60_000,
        spacing_ms=200,
        heartbeat_ms=150,
        half_life_ms=60_000,
        future_limit_ms=7_000,
    )
    asked = ProtocolUpgrade(version=2, activation_height=5)
    request = ChainBuilder(genesis).statement(ADMIN, asked)
    knows = {1, 2}
    async with (
        live_node(tmp_path / "a", genesis, mining=PRODUCER, versions=knows) as miner,
        live_node(tmp_path / "b", genesis, peers=[miner], versions=knows) as follower,
    ):
        assert (await miner.node.submit([request]))[0].queued
        await follower.until(lambda: follower.height >= 8)
        versions = [version_of(follower, height) for height in range(9)]
        assert versions == [1] * 5 + [2] * 4
        with pytest.raises(UpgradeNeeded, match="block 5: expected software that knows protocol version 2"):
            async with live_node(tmp_path / "c", genesis, peers=[miner]) as late:
                await late.running
        assert late.height == 4
        assert late.node.chain.tree.best_header.height == 4
        assert "misbehaved" not in caplog.text
        # What is on disk is whole: software that knows the version goes on from it.
        async with live_node(tmp_path / "c", genesis, peers=[miner], versions=knows) as late:
            await late.until(lambda: late.height >= 8)


def version_of(node: LiveNode, height: int) -> int:
    chain = node.node.chain
    sealed = chain.sealed_header(chain.tree.active[height].hash)
    assert sealed is not None
    return sealed.header.version
