"""`facechain testnet` with real processes: up, status, down; and the ways in which that can go wrong."""

import json
import os
import pty
import select
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from facechain.cli.errors import RefusedError
from facechain.cli.testnet_network import TrialNetwork, have_one_tip
from facechain.cli.testnet_process import clean_environment, own_command
from support.deadline import wait_until
from support.node_processes import error_line, run_command

UP_SECONDS = 60.0


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A folder for a network; whatever still runs in the end is ended."""
    folder = tmp_path / "net"
    yield folder
    if (folder / "testnet.json").exists():
        network = TrialNetwork.open(folder)
        network.stop()


def run_testnet(*arguments: str, root: Path) -> subprocess.CompletedProcess[str]:
    return run_command("testnet", *arguments, "--dir", str(root), seconds=UP_SECONDS)


def processes_of(root: Path) -> list[int]:
    """Return the ids of all processes that name the folder on their command line."""
    return [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if int(path.parent.name) != os.getpid() and os.fsencode(root) in _read(path)
    ]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_up_status_down(root: Path) -> None:
    up = run_testnet("up", "--nodes", "3", "--mine", "--keep", "--json", root=root)
    assert up.returncode == 0, up.stderr
    made: dict[str, Any] = json.loads(up.stdout)
    assert [node["mines"] for node in made["nodes"]] == [True, False, False]
    assert len({node["tip"] for node in made["nodes"]}) == 1
    assert all(node["running"] and node["peers"] >= 1 for node in made["nodes"])
    assert len({node["pid"] for node in made["nodes"]} & set(processes_of(root))) == 3
    for node in made["nodes"]:
        assert made["network_id"] in Path(node["log"]).read_text()

    # It can be used with the wallet alone, and a table names every node.
    api = made["nodes"][2]["api"]
    roles = run_command("role", "list", "--api", api, "--data-dir", made["wallet"], "--json")
    assert roles.returncode == 0, roles.stderr
    table = run_testnet("status", root=root)
    assert table.returncode == 0, table.stderr
    for node, line in zip(made["nodes"], table.stdout.splitlines()[1:], strict=True):
        assert line.startswith(node["name"])
        assert str(node["pid"]) in line
        assert node["api"] in line

    again = run_testnet("up", "--nodes", "2", root=root)
    assert again.returncode == 5
    assert "facechain testnet down" in error_line(again)

    victim = made["nodes"][1]
    os.kill(victim["pid"], signal.SIGKILL)
    wait_until(lambda: victim["pid"] not in processes_of(root), seconds=10, what="the node is gone")
    status = run_testnet("status", "--json", root=root)
    assert status.returncode == 2
    assert "node-2" in error_line(status)
    seen = {node["name"]: node["running"] for node in json.loads(status.stdout)["nodes"]}
    assert seen == {"node-1": True, "node-2": False, "node-3": True}

    down = run_testnet("down", root=root)
    assert down.returncode == 0, down.stderr
    assert not root.exists()
    assert processes_of(root) == []
    for command in ("down", "status"):
        gone = run_testnet(command, root=root)
        assert gone.returncode == 1
        assert "facechain testnet up" in error_line(gone)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_the_foreground_ends_with_everything_it_made(root: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        own_command("testnet", "up", "--nodes", "2", "--dir", str(root)),
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith("end it with Ctrl-C"):
                break
        assert len(processes_of(root)) == 4, lines  # two nodes, this command, and what waits for its end
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out.count("http://127.0.0.1:") == 2
    assert "Traceback" not in err
    assert not root.exists()
    assert processes_of(root) == []


def start_up(root: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start `testnet up` in the foreground and wait until it says how to end it."""
    process = subprocess.Popen(
        own_command("testnet", "up", *arguments, "--dir", str(root)),
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("end it with Ctrl-C"):
            break
    return process


def test_killed_it_leaves_nothing(root: Path) -> None:
    with start_up(root, "--nodes", "2") as process:
        process.kill()
        _, err = process.communicate(timeout=30)  # ends when nobody is left that could print
    assert err == f"ended 2 nodes and removed {root}\n"
    assert not root.exists()
    assert processes_of(root) == []


def test_what_nobody_could_clear_is_cleared_by_the_next_one(root: Path) -> None:
    with start_up(root, "--nodes", "2") as process:
        network = TrialNetwork.open(root)
        first = set(processes_of(root))
        second = run_testnet("up", "--nodes", "1", root=root)
        assert second.returncode == 5
        assert f"a test network that process {process.pid} runs in the foreground" in error_line(second)
        for pid in first - {node.process.pid for node in network.nodes if node.process is not None}:
            os.kill(pid, signal.SIGKILL)
    again = run_testnet("up", "--nodes", "1", "--keep", root=root)
    assert again.returncode == 0, again.stderr
    assert f"clearing what a 'testnet up' that was killed (process {process.pid}) left" in again.stderr
    assert TrialNetwork.open(root).record.network_id != network.record.network_id
    assert not first & set(processes_of(root))


def test_what_another_command_restarted_ends_with_the_foreground(root: Path) -> None:
    with start_up(root, "--nodes", "2", "--mine") as process:
        assert process.stderr is not None
        assert run_testnet("kill", "node-2", root=root).returncode == 0
        assert process.stderr.readline().startswith("node-2 ended: ")
        assert run_testnet("restart", "node-2", root=root).returncode == 0
        assert process.stderr.readline() == "node-2 runs again\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, f"ended 2 nodes and removed {root}\n")
    assert processes_of(root) == []


def test_the_foreground_ends_when_another_command_takes_the_network_down(root: Path) -> None:
    with start_up(root, "--nodes", "1") as process:
        assert run_testnet("down", root=root).returncode == 0
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert err.endswith("the network was taken down by another command\n")
    assert processes_of(root) == []


def test_interrupted_while_it_starts_it_leaves_nothing(root: Path) -> None:
    with subprocess.Popen(
        own_command("testnet", "up", "--nodes", "3", "--keep", "--dir", str(root)),
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_until(lambda: len(processes_of(root)) > 1, seconds=20, what="a node process")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.endswith("interrupted\n")
    assert not root.exists()
    assert processes_of(root) == []


def test_on_a_terminal_the_table_is_redrawn(root: Path) -> None:
    controller, terminal = pty.openpty()
    try:
        with subprocess.Popen(
            own_command("testnet", "up", "--nodes", "1", "--mine", "--dir", str(root)),
            env={**clean_environment(), "TERM": "xterm", "COLUMNS": "80"},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        ) as process:
            os.close(terminal)
            shown = _read_until(controller, process, lambda text: text.count("node-1*") >= 3)
            process.send_signal(signal.SIGINT)
            shown += _read_until(controller, process, lambda text: "removed" in text)
            assert process.wait(30) == 0
    finally:
        os.close(controller)
    assert all(heading in shown for heading in ("FORK POINT", "HEIGHT", "MEMPOOL", "API AND EXPLORER"))
    assert not root.exists()


def _read_until(controller: int, process: subprocess.Popen[bytes], done: Any) -> str:
    text, deadline = "", time.monotonic() + UP_SECONDS
    while not done(text):
        assert time.monotonic() < deadline, text
        assert process.poll() is None or text, text
        if select.select([controller], [], [], 1.0)[0]:
            try:
                text += os.read(controller, 65_536).decode("utf-8", "replace")
            except OSError:  # the other side is closed
                break
    return text


def test_a_node_that_dies_at_its_start_says_why(root: Path) -> None:
    network = TrialNetwork.found(root, count=2, mines=False)
    (root / "node-2" / "config.toml").write_text("color = 1\n")
    with pytest.raises(
        RefusedError, match=r"node-2: expected a node that starts, got exit code 3: .*'color'"
    ):
        network.start_all()
    network.stop()
    assert network.remove()
    assert processes_of(root) == []


def test_a_killed_node_comes_back_at_the_same_address(root: Path) -> None:
    network = TrialNetwork.found(root, count=2, mines=True)
    try:
        network.start_all()
        before = network.wait_connected()[1]
        network.kill("node-2")
        assert not network.runs("node-2")
        assert network.node("node-2").process is None
        network.start(["node-2"])
        after = network.wait(
            lambda views: have_one_tip(views) and bool(views[1].peers), seconds=30, what="one tip"
        )[1]
        assert after.node.process != before.node.process
        assert (after.node.api, after.node.peer) == (before.node.api, before.node.peer)
    finally:
        network.stop()


def test_what_does_not_listen_to_sigterm_is_killed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facechain.cli.testnet_network.STOP_SECONDS", 1.0)
    network = TrialNetwork.found(root, count=2, mines=True)
    network.start_all()
    stuck = network.node("node-1").process
    assert stuck is not None
    os.kill(stuck.pid, signal.SIGSTOP)
    assert network.stop() == ("node-1",)
    assert processes_of(root) == []


def test_down_does_not_touch_a_process_that_is_not_its_own(root: Path) -> None:
    network = TrialNetwork.found(root, count=1, mines=False)
    with subprocess.Popen(["sleep", "600"]) as stranger:
        record = root / "testnet.json"
        content = json.loads(record.read_text())
        content["nodes"][0] |= {"pid": stranger.pid, "started_ticks": 1}
        record.write_text(json.dumps(content))
        assert run_testnet("down", root=network.record.root).returncode == 0
        assert stranger.poll() is None
        stranger.kill()
    assert not root.exists()


def test_partition_kill_restart_heal(root: Path, tmp_path: Path) -> None:
    """What a scenario does in a ring is seen at the nodes; commands do the same afterwards."""
    scenario = tmp_path / "scenario.toml"
    scenario.write_text("""
        [[step]]
        do = "partition"
        groups = [["node-1"]]
        [[step]]
        do = "kill"
        nodes = ["node-3"]
    """)
    shape = ("--nodes", "3", "--mine", "--topology", "ring", "--scenario", str(scenario))
    up = run_testnet("up", *shape, "--keep", "--json", root=root)
    assert up.returncode == 0, up.stderr
    assert [node["dials"] for node in json.loads(up.stdout)["nodes"]] == [
        [],
        ["node-1"],
        ["node-1", "node-2"],
    ]
    network = TrialNetwork.open(root)
    assert network.record.groups == (("node-1",), ("node-2", "node-3"))
    assert not network.runs("node-3")

    # The miner is alone, also for a node that starts again.
    assert run_testnet("restart", "node-3", root=root).returncode == 0
    network = TrialNetwork.open(root)
    apart = network.wait(
        lambda views: [view.peers for view in views] == [0, 1, 1] and len({view.tip for view in views}) == 2,
        seconds=30,
        what="the miner alone and ahead, the others connected",
    )
    assert run_testnet("kill", "node-2", root=root).returncode == 0
    assert run_testnet("heal", root=root).returncode == 0
    assert run_testnet("restart", "node-2", root=root).returncode == 0
    network = TrialNetwork.open(root)
    views = network.wait(
        lambda views: all(view.peers == 2 for view in views) and have_one_tip(views),
        seconds=30,
        what="a ring with one tip",
    )
    assert views[0].tip is not None
    assert apart[0].tip is not None
    assert views[0].tip[0] > apart[0].tip[0]

    for arguments, problem in (
        (("partition", "node-1,node-2,node-3"), "at least two groups"),
        (("partition", "node-1", "node-1"), "node-1 twice"),
        (("kill", "node-7"), "expected a node of node-1, node-2, node-3"),
    ):
        wrong = run_testnet(*arguments, root=root)
        assert wrong.returncode == 3, wrong.stderr
        assert problem in error_line(wrong)
    assert run_testnet("down", root=root).returncode == 0


def test_a_partition_and_its_end_reach_a_node_that_was_frozen(root: Path) -> None:
    network = TrialNetwork.found(root, count=2, mines=True)

    def bans_of_the_sleeper() -> int:
        with urllib.request.urlopen(f"{network.node('node-2').url}/v1/bans", timeout=10) as answer:
            return len(json.load(answer)["bans"])

    try:
        network.start_all()
        network.wait_connected()
        network.freeze("node-2")
        network.partition([["node-1"], ["node-2"]])
        network.thaw("node-2")
        assert bans_of_the_sleeper() == 1
        network.wait(lambda views: views[1].peers == 0, seconds=30, what="no peer")
        network.freeze("node-2")
        network.heal()
        network.thaw("node-2")
        assert bans_of_the_sleeper() == 0
        network.wait(lambda views: views[1].peers == 1, seconds=30, what="a peer")
    finally:
        network.take_down()


def test_a_scenario_that_is_wrong_starts_nothing(root: Path, tmp_path: Path) -> None:
    scenario = tmp_path / "scenario.toml"
    scenario.write_text("[[step]]\ndo = 'kill'\nnodes = ['node-3']\n")
    up = run_testnet("up", "--nodes", "2", "--scenario", str(scenario), root=root)
    assert up.returncode == 3
    assert "expected a node of node-1, node-2, got 'node-3'" in error_line(up)
    assert not root.exists()
