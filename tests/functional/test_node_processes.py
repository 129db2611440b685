"""Node processes: they sync, survive SIGKILL, end on SIGTERM, and refuse bad starts in one clear line."""

import signal
import socket
from pathlib import Path

import pytest

from facechain.cli.testnet_founding import PRODUCER, found_testnet
from facechain.cli.testnet_record import NetworkRecord
from facechain.node.store.lmdb_store import LmdbStore
from facechain.node.store.schema import Table, height_key
from support.deadline import wait_until
from support.node_processes import NodeProcess, error_line, run_command

MINE = ("--mine", "--mining-key", PRODUCER)


@pytest.fixture
def network(tmp_path: Path) -> NetworkRecord:
    """Folders and genesis of two nodes, the first of which can mine; nothing runs."""
    return found_testnet(tmp_path / "network", count=2, mines=True)


def make_node(network: NetworkRecord, number: int, *options: str) -> NodeProcess:
    return NodeProcess(network.root / f"node-{number}", network.genesis_file, *options)


def test_a_node_that_comes_later_catches_up(network: NetworkRecord) -> None:
    with make_node(network, 1, *MINE) as miner:
        mined = miner.wait_for(lambda status: status.height >= 3, seconds=20, what="three blocks")
        with make_node(network, 2, "--peers", miner.peer) as follower:
            follower.wait_for(lambda status: status.height >= mined.height, seconds=20, what="the blocks")
            assert follower.block_hash(mined.height) == mined.tip
            assert follower.status().network_id == network.network_id
            assert follower.status().content["peers"] == miner.status().content["peers"] == 1
            # New blocks arrive as well, not only those of the catch-up.
            mark = miner.status().height
            following = follower.wait_for(
                lambda status: status.height > mark, seconds=20, what="a block mined after the catch-up"
            )
            assert miner.block_hash(following.height) == following.tip


def test_a_killed_miner_keeps_its_chain_and_goes_on(network: NetworkRecord) -> None:
    with make_node(network, 1, *MINE) as miner:
        before = miner.wait_for(lambda status: status.height >= 2, seconds=20, what="two blocks")
        workers = children(miner.pid)
        assert workers
        assert miner.end(signal.SIGKILL) == -signal.SIGKILL
        assert miner.run_file.exists()
    wait_until(
        lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in workers),
        seconds=10,
        what="the mining processes end with their node",
    )
    with make_node(network, 1, *MINE) as miner:
        miner.wait_for(lambda status: status.height > before.height, seconds=20, what="a new block")
        assert miner.block_hash(before.height) == before.tip
        assert miner.end() == 0


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def test_sigterm_ends_a_mining_node_cleanly(network: NetworkRecord) -> None:
    with make_node(network, 1, *MINE) as miner, make_node(network, 2, "--peers", miner.peer) as follower:
        follower.wait_for(lambda status: status.height >= 1, seconds=20, what="a block")
        host, _, port = miner.peer.rpartition(":")
        workers = children(miner.pid)
        assert miner.end(signal.SIGTERM) == 0
        assert not miner.run_file.exists()
        assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
        with socket.create_server((host, int(port))):
            pass
        assert follower.end(signal.SIGINT) == 0
        assert "Traceback" not in (follower.data_dir / "output.log").read_text()
    with make_node(network, 1) as again:  # the lock and the store are free
        assert again.status().height >= 1


@pytest.mark.parametrize("option", ["--listen", "--api"])
def test_a_taken_port_is_one_clear_line(network: NetworkRecord, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        ports = {"--listen": "127.0.0.1:0", "--api": "127.0.0.1:0", option: where}
        done = run_command(
            *("node", "start", "--data-dir", str(network.root / "node-1")),
            *("--genesis", str(network.genesis_file)),
            *(word for pair in ports.items() for word in pair),
        )
    assert done.returncode == 5
    assert where in error_line(done)
    assert not (network.root / "node-1" / "node.json").exists()


def test_a_second_node_on_one_folder_names_the_first(network: NetworkRecord) -> None:
    with make_node(network, 1) as first:
        done = run_command(*first.arguments)
        assert done.returncode == 5
        line = error_line(done)
        assert f"process {first.pid}" in line
        assert str(first.data_dir) in line
        assert first.status().height == 0
        assert first.addresses["pid"] == first.pid


def test_a_peer_of_another_network_is_one_clear_line(network: NetworkRecord, tmp_path: Path) -> None:
    other = found_testnet(tmp_path / "other", count=1, mines=False)
    with make_node(other, 1) as stranger:
        node = make_node(network, 1, "--peers", stranger.peer)
        done = run_command(*node.arguments)
        assert done.returncode == 5
        line = error_line(done)
        assert other.network_id.hex() in line
        assert network.network_id.hex() in line
        assert stranger.status().content["peers"] == 0


@pytest.mark.parametrize(
    "text, words",
    [
        ("listen = 7440\n", ("listen", "expected HOST:PORT", "7440")),
        ("listen = \n", ("expected TOML", "line 1")),
        ("minig = true\n", ("'minig'", "did you mean")),
        ("\x00\xff", ("expected",)),
    ],
    ids=["type", "syntax", "unknown", "binary"],
)
def test_a_corrupt_config_is_one_clear_line(
    network: NetworkRecord, text: str, words: tuple[str, ...]
) -> None:
    config = network.root / "node-1" / "config.toml"
    config.write_bytes(text.encode("latin-1"))
    done = run_command("node", "start", "--data-dir", str(config.parent))
    assert done.returncode == 3
    line = error_line(done)
    assert str(config) in line
    assert all(word in line for word in words), line


def test_a_store_of_another_network_is_one_clear_line(network: NetworkRecord, tmp_path: Path) -> None:
    with make_node(network, 1) as node:
        assert node.end() == 0
    other = found_testnet(tmp_path / "other", count=1, mines=False)
    done = run_command(*NodeProcess(node.data_dir, other.genesis_file).arguments)
    assert done.returncode == 5
    line = error_line(done)
    assert other.network_id.hex() in line
    assert network.network_id.hex() in line


def test_a_damaged_store_is_exit_2_and_the_advice_works(network: NetworkRecord) -> None:
    with make_node(network, 1, *MINE) as node:
        node.wait_for(lambda status: status.height >= 2, seconds=20, what="two blocks")
        assert node.end() == 0
    with LmdbStore.open(node.data_dir / "store") as store:
        store.transact(lambda writer: writer.delete(Table.ACTIVE, height_key(1)))
    done = run_command(*NodeProcess(node.data_dir, network.genesis_file).arguments)
    assert done.returncode == 2
    line = error_line(done)
    assert "active chain at height 1: expected the block's hash" in line
    assert "facechain db reindex" in line
    assert run_command("db", "verify", "--data-dir", str(node.data_dir)).returncode == 2
    assert run_command("db", "reindex", "--data-dir", str(node.data_dir)).returncode == 0
    with make_node(network, 1) as node:
        assert node.status().height >= 2


def test_a_node_that_is_down_is_exit_4(network: NetworkRecord) -> None:
    with make_node(network, 1) as node:
        api = node.api
        assert node.end() == 0
    done = run_command("role", "list", "--api", api, "--data-dir", str(network.wallet.root))
    assert done.returncode == 4
    assert api in error_line(done)
