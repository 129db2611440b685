"""`facechain db` beside a running node, and on a store that it left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from facechain.cli.testnet_founding import PRODUCER, found_testnet
from facechain.cli.testnet_record import NetworkRecord
from facechain.node.maintenance.verify import Level, verify_store
from support.node_processes import NodeProcess, error_line, run_command

MINE = ("--mine", "--mining-key", PRODUCER)
BLOCKS = 3


@pytest.fixture
def network(tmp_path: Path) -> NetworkRecord:
    return found_testnet(tmp_path / "network", count=1, mines=True)


def db(data_dir: Path, *words: str) -> dict[str, Any]:
    """Run a `db` command and return its JSON."""
    done = run_command("db", *words, "--data-dir", str(data_dir), "--json")
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def test_tools_beside_a_running_node_and_after_it(network: NetworkRecord, tmp_path: Path) -> None:
    data_dir = network.root / "node-1"
    copy, file, other = tmp_path / "copy", tmp_path / "chain.snapshot", tmp_path / "other"
    with NodeProcess(data_dir, network.genesis_file, *MINE) as node:
        node.wait_for(lambda status: status.height >= BLOCKS, seconds=30, what="some blocks")
        stats = db(data_dir, "stats")
        assert stats["height"] >= BLOCKS
        assert {table["name"]: table["rows"] for table in stats["tables"]}["bodies"] > BLOCKS
        backup = db(data_dir, "backup", "--out", str(copy))
        exported = db(data_dir, "snapshot", "export", "--out", str(file))
        assert exported["height"] >= backup["height"] >= stats["height"]
        for words in (("verify",), ("rollback", "--to", "1"), ("prune", "--keep", "1"), ("reindex",)):
            refused = run_command("db", *words, "--data-dir", str(data_dir))
            assert refused.returncode == 5
            assert f"process {node.pid}" in error_line(refused)
        mark = node.status().height
        node.wait_for(lambda status: status.height > mark, seconds=20, what="a block after all that")
        assert node.end() == 0
    assert verify_store(copy / "store", Level.STATE).tip.hex() == backup["tip"]
    checked = db(data_dir, "verify", "--level", "4")
    assert checked["damage"] is None
    assert checked["height"] > mark
    levels = [check["level"] for check in checked["checks"]]
    assert levels == sorted(levels)
    assert {*levels} == {0, 1, 2, 3, 4}
    imported = db(other, "snapshot", "import", str(file), "--expect", exported["hash"])
    assert imported["state_root"] == exported["state_root"]
    with NodeProcess(other, network.genesis_file) as again:
        assert again.status().tip.hex() == exported["hash"]
        assert again.end() == 0


def test_a_rolled_back_and_a_pruned_node_go_on_and_damage_is_exit_code_2(network: NetworkRecord) -> None:
    data_dir = network.root / "node-1"
    with NodeProcess(data_dir, network.genesis_file, *MINE) as node:
        node.wait_for(lambda status: status.height >= BLOCKS, seconds=30, what="some blocks")
        assert node.end() == 0
    assert db(data_dir, "rollback", "--to", "2")["height"] == 2
    assert db(data_dir, "prune", "--keep", "1", "--compact")["pruned_below"] == 2
    assert db(data_dir, "verify")["pruned_below"] == 2
    with NodeProcess(data_dir, network.genesis_file, *MINE) as node:
        node.wait_for(lambda status: status.height > BLOCKS, seconds=30, what="new blocks")
        assert node.end() == 0
    assert db(data_dir, "verify")["height"] > BLOCKS
    path = data_dir / "store" / "data.mdb"
    flipped = bytes([network.network_id[0] ^ 1]) + network.network_id[1:]
    path.write_bytes(path.read_bytes().replace(network.network_id, flipped))
    done = run_command("db", "verify", "--data-dir", str(data_dir), "--json")
    assert done.returncode == 2
    assert error_line(done)
    assert json.loads(done.stdout)["damage"]


def test_no_store_is_one_clear_line(tmp_path: Path) -> None:
    done = run_command("db", "verify", "--data-dir", str(tmp_path / "nothing"))
    assert done.returncode == 5
    assert "expected a node's store" in error_line(done)
    assert not (tmp_path / "nothing").exists()
