"""`facechain peers` against real nodes."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facechain.cli.testnet_founding import found_testnet
from facechain.cli.testnet_record import NetworkRecord
from support.deadline import wait_until
from support.node_processes import NodeProcess, error_line, run_command

SECONDS = 30


@pytest.fixture
def network(tmp_path: Path) -> NetworkRecord:
    return found_testnet(tmp_path / "network", count=2, mines=False)


def make_node(network: NetworkRecord, number: int, *options: str, listen: str) -> NodeProcess:
    return NodeProcess(network.root / f"node-{number}", network.genesis_file, *options, listen=listen)


def peers(node: NodeProcess, *words: str, code: int = 0) -> Any:
    """Run a command of `facechain peers` on a node; return its JSON."""
    done = run_command("peers", *words, "--json", "--api", node.api, "--data-dir", str(node.data_dir))
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if code == 0 else error_line(done)


def until(condition: Callable[[], object], what: str) -> None:
    wait_until(condition, seconds=SECONDS, what=what)


def connected(node: NodeProcess) -> list[str]:
    return [peer["address"].rpartition(":")[0] for peer in peers(node, "list")["peers"]]


def test_a_peer_is_named_banned_pardoned_and_removed_on_a_running_node(network: NetworkRecord) -> None:
    with (
        make_node(network, 1, listen="127.0.0.11:0") as first,
        make_node(network, 2, listen="127.0.0.12:0") as second,
    ):
        assert connected(first) == []
        assert peers(first, "add", second.peer) == {"peer": second.peer, "named": True}
        until(lambda: connected(first), "the named peer is connected")
        (peer,) = peers(first, "list")["peers"]
        assert (peer["inbound"], peer["address"]) == (False, second.peer)
        (named,) = peers(first, "list")["named"]
        assert (named["peer"], named["connected"]) == (second.peer, True)

        ban = peers(first, "ban", peer["node_key"], "--for", "1h", "--reason", "for the test")
        assert (ban["peer"], ban["reason"]) == (peer["node_key"], "for the test")
        until(lambda: not connected(first) and not connected(second), "the banned peer is gone")
        assert [item["peer"] for item in peers(first, "bans")["bans"]] == [peer["node_key"]]

        assert first.end(signal.SIGKILL) == -signal.SIGKILL
        with make_node(network, 1, listen="127.0.0.11:0") as again:
            assert peers(again, "bans")["bans"] == [ban], "a ban is on disk before it is acknowledged"
            assert [item["peer"] for item in peers(again, "list")["named"]] == [second.peer]
            assert connected(again) == []
            peers(again, "unban", peer["node_key"])
            until(lambda: connected(again), "the pardoned peer is connected again")
            peers(again, "remove", second.peer)
            until(lambda: not connected(again), "the removed peer is gone")
            assert peers(again, "list")["named"] == []


def test_commands_say_what_is_wrong(network: NetworkRecord) -> None:
    with make_node(network, 1, listen="127.0.0.11:0") as node:
        assert "HOST:PORT" in peers(node, "add", "nonsense", code=5)
        assert "peer-not-found" in peers(node, "remove", "192.0.2.1:1", code=1)
        assert "ban-not-found" in peers(node, "unban", "192.0.2.1", code=1)
        assert "a number and s, m, h or d" in peers(node, "ban", "192.0.2.1", "--for", "soon", code=3)
        assert "node key" in peers(node, "ban", "192.0.2.1/8", code=5)
        (node.data_dir / "admin-token").rename(node.data_dir / "moved")
        error = peers(node, "ban", "192.0.2.1", code=5)
        assert "admin-token-required" in error
        assert "FACECHAIN_ADMIN_TOKEN" in error
        listing = run_command("peers", "list", "--api", node.api, "--data-dir", str(node.data_dir))
        assert (listing.returncode, "addresses known" in listing.stdout) == (0, True)
        assert peers(node, "bans") == {"bans": []}
        assert node.end() == 0
    done = run_command("peers", "list", "--api", "http://127.0.0.1:1", "--data-dir", str(node.data_dir))
    assert done.returncode == 4
    error_line(done)
