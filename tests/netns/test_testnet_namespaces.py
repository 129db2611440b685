"""`facechain testnet` on hosts of their own: a real partition, and nothing left however it ends."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from facechain.cli.errors import RefusedError
from facechain.cli.testnet_hosts import Lan, numbers_in_use, only_one_at_work, require
from facechain.cli.testnet_namespaces import made_hosts
from facechain.cli.testnet_network import NodeView, TrialNetwork, have_one_tip
from facechain.cli.testnet_process import clean_environment, own_command
from facechain.cli.testnet_record import NetworkRecord
from support.node_processes import error_line, run_command

UP_SECONDS = 60.0
REACH = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1).close()"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "net"
    yield folder
    if (folder / "testnet.json").exists():
        TrialNetwork.open(folder).take_down()


def run_testnet(*arguments: str, root: Path) -> subprocess.CompletedProcess[str]:
    return run_command("testnet", *arguments, "--dir", str(root), seconds=UP_SECONDS)


def number_of(root: Path) -> int:
    number = NetworkRecord.load(root).lan
    assert number is not None
    return number


def are_apart(views: tuple[NodeView, ...]) -> bool:
    """Tell whether the first node is on a branch of its own, and both branches grew."""
    tips = [view.tip for view in views]
    return None not in tips and tips[1] == tips[2] != tips[0]


@pytest.mark.netns
def test_hosts_are_divided_by_packets_and_come_together_again(root: Path, tmp_path: Path) -> None:
    scenario = tmp_path / "scenario.toml"
    scenario.write_text("[[step]]\ndo = 'partition'\ngroups = [['node-1']]\n")
    shape = ("--nodes", "3", "--miners", "2", "--namespaces", "--scenario", str(scenario))
    up = run_testnet("up", *shape, "--keep", "--json", root=root)
    assert up.returncode == 0, up.stderr
    made: dict[str, Any] = json.loads(up.stdout)
    assert made["namespaces"]
    assert [node["mines"] for node in made["nodes"]] == [True, True, False]
    number, lan = number_of(root), Lan(number=number_of(root))
    assert [node["api"] for node in made["nodes"]] == [
        f"http://10.117.{number}.{host}:7441" for host in (11, 12, 13)
    ]
    for node in made["nodes"]:  # from the user's shell
        with urllib.request.urlopen(f"{node['api']}/v1/status", timeout=10) as answer:
            assert json.load(answer)["network_id"] == made["network_id"]
    user = ("--api", made["nodes"][2]["api"], "--data-dir", made["wallet"])
    for order in ("ban", "unban"):
        done = run_command("peers", order, "00" * 32, *user)
        assert done.returncode == 0, done.stderr

    network = TrialNetwork.open(root)
    network.wait(are_apart, seconds=30, what="two branches")
    for node in network.nodes:
        assert node.process is not None
        assert "eth0" in Path(f"/proc/{node.process.pid}/net/dev").read_text()
        bans = json.load(urllib.request.urlopen(f"{node.url}/v1/bans", timeout=10))
        assert bans["bans"] == []  # it is the packets that do not pass
    status = run_testnet("status", "--json", root=root)
    seen: dict[str, Any] = json.loads(status.stdout)
    assert seen["groups"] == [["node-1"], ["node-2", "node-3"]]
    main, fork = seen["branches"]
    assert {frozenset(main["nodes"]), frozenset(fork["nodes"])} == {
        frozenset({"node-1"}),
        frozenset({"node-2", "node-3"}),
    }
    assert fork["depth"] == fork["height"] - fork["fork_height"] > 0

    # It holds for a node that is killed and started again.
    assert run_testnet("kill", "node-1", root=root).returncode == 0
    assert run_testnet("restart", "node-1", root=root).returncode == 0
    TrialNetwork.open(root).wait(are_apart, seconds=30, what="two branches still")
    assert run_testnet("heal", root=root).returncode == 0
    TrialNetwork.open(root).wait(have_one_tip, seconds=30, what="one tip")
    assert run_testnet("down", root=root).returncode == 0
    assert (lan.namespaces(), number in numbers_in_use()) == ([], False)
    assert not root.exists()


@pytest.mark.netns
def test_killed_it_leaves_no_host(root: Path) -> None:
    with subprocess.Popen(
        own_command("testnet", "up", "--nodes", "2", "--namespaces", "--dir", str(root)),
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("end it with Ctrl-C"):
                break
        lan = Lan(number=number_of(root))
        assert len(lan.processes()) == 2
        process.kill()
        process.communicate(timeout=30)
    assert (lan.namespaces(), lan.owner) == ([], None)
    assert not root.exists()


@pytest.mark.netns
def test_the_next_network_clears_what_is_nobodys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with only_one_at_work():
        left, busy = Lan.claim(str(tmp_path / "gone")), Lan.claim(str(tmp_path / "gone, too"))
        host = busy.add("node-1", 0)
    try:
        assert (left.owner, busy.owner) == (str(tmp_path / "gone"), str(tmp_path / "gone, too"))
        with subprocess.Popen(host.inside("sleep", "600")) as process:
            with made_hosts(NetworkRecord(root=tmp_path, network_id=bytes(32), nodes={})) as record:
                assert record.lan not in {None, busy.number}
            assert len(busy.namespaces()) == 2
            said = capsys.readouterr().err
            assert f"removed: namespaces facechain-{left.number}-*" in said
            assert f"left alone: namespaces facechain-{busy.number}-*" in said
            assert f"in them: {process.pid}" in said
            process.kill()
        with only_one_at_work():
            Lan(number=record.lan or 0).remove()
    finally:
        left.remove()
        busy.remove()


@pytest.mark.netns
def test_a_host_reaches_those_that_are_not_shut_out() -> None:
    with only_one_at_work():
        lan = Lan.claim()
    try:
        near, far = lan.add("a", 0), lan.add("b", 1)
        listening = [
            "import socket; server = socket.create_server(('', 7)); print(flush=True); server.accept()"
        ]

        def reaches() -> bool:
            with subprocess.Popen(
                far.inside(sys.executable, "-c", *listening), stdout=subprocess.PIPE, text=True
            ) as server:
                assert server.stdout is not None
                server.stdout.readline()
                reaching = near.inside(sys.executable, "-c", REACH, far.address, "7")
                done = subprocess.run(reaching, capture_output=True, text=True, check=False, timeout=30)
                server.kill()
            assert done.returncode == 0 or "timed out" in done.stderr, done.stderr
            return done.returncode == 0

        assert reaches()
        far.shut_out([near.address])
        assert not reaches()
        far.shut_out(["10.117.255.254"])  # instead of the other one
        assert reaches()
        far.let_in()
        assert reaches()
    finally:
        lan.remove()
    assert lan.number not in numbers_in_use()


def test_who_is_not_root_is_told_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/sbin/{name}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(RefusedError, match="expected root, got user 1000; run it with sudo"):
        require()
    with pytest.raises(RefusedError):
        TrialNetwork.found(root, count=1, mines=False, namespaces=True)
    assert not root.exists()


def test_without_the_programs_it_says_which(root: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        own_command("testnet", "up", "--namespaces", "--dir", str(root)),
        env={**clean_environment(), "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=UP_SECONDS,
    )
    assert done.returncode == 5
    assert "got none called ip, iptables, iptables-restore, nsenter, unshare" in error_line(done)
    assert not root.exists()
