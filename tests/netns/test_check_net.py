"""Short runs of the check on real hosts; `make check-net` is the long one."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from netns.manifest import HOLD_SECONDS, MINER_EVERY, Kind, manifest
from netns.perturbations import ACTIONS, OLD_VERSION
from netns.releases import NEWEST
from netns.shifted_clock import ShiftedClock, write_offset
from support.deadline import wait_until

SCRIPT = Path(__file__).with_name("check_net.py")
RUN_SECONDS = 110
FAST = (Kind.KILL, Kind.EMPTY_STORE, Kind.PARTITION)


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    paths = os.pathsep.join(
        str(Path(__file__).parents[level] / name) for level, name in ((1, ""), (2, ".layout"))
    )
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def processes_of(folder: Path) -> list[int]:
    """Return the ids of all processes that name the folder on their command line."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in words and b"node\0start" in words:
            found.append(int(file.parent.name))
    return found


@pytest.mark.netns
def test_four_hosts_recover_from_a_kill_an_empty_store_and_a_partition(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    shape = ("--nodes", "4", "--perturbations", str(len(FAST)), "--seed", "7", "--kinds", *FAST)
    with start(*shape, "--dir", str(folder)) as process:
        out, err = process.communicate(timeout=RUN_SECONDS)
    assert process.returncode == 0, err + out
    seen: dict[str, Any] = json.loads(out.splitlines()[-1])
    assert {item["kind"] for item in seen["items"]} == set(FAST)
    assert (seen["perturbations"], seen["recovered"]) == (len(FAST), len(FAST))
    assert (seen["forks_left"], seen["lost_statements"], seen["problems"]) == (0, 0, [])
    assert seen["acknowledged"] > 0
    assert processes_of(folder) == []
    assert list((folder / "disks").glob("*/*")) == []  # the disks are gone with what was on them


@pytest.mark.netns
def test_interrupted_it_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    interfaces = sorted(Path("/sys/class/net").iterdir())
    with start("--nodes", "4", "--kinds", Kind.FREEZE, "--dir", str(folder)) as process:
        wait_until(lambda: len(processes_of(folder)) >= 2, seconds=60, what="nodes that run")
        assert (
            sorted(Path("/sys/class/net").iterdir()) == interfaces
        )  # nothing is made in the machine's network
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=RUN_SECONDS)
    assert (process.returncode, out) == (130, "")
    assert err.endswith("interrupted\n")
    assert processes_of(folder) == []
    assert list((folder / "disks").glob("*/*")) == []


@pytest.mark.netns
def test_killed_it_leaves_no_process(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    with start("--nodes", "4", "--kinds", Kind.FREEZE, "--dir", str(folder)) as process:
        assert process.stderr is not None
        assert "nodes with one tip" in process.stderr.readline()
        assert len(processes_of(folder)) == 4
        process.kill()
        process.communicate(timeout=RUN_SECONDS)
    wait_until(lambda: not processes_of(folder), seconds=10, what="no node runs")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with start(PATH=str(tmp_path)) as process:
        out, err = process.communicate(timeout=RUN_SECONDS)
    assert (process.returncode, out) == (5, "")
    assert (
        "got none called ip, iptables, iptables-restore, nsenter, unshare, mount, setpriv; on Debian" in err
    )
    assert "apt-get install iproute2 iptables mount util-linux" in err


def test_a_manifest_is_a_function_of_its_seed() -> None:
    def make(seed: int, kinds: Sequence[Kind] = tuple(Kind)) -> Any:
        return manifest(seed=seed, count=3 * len(kinds), nodes=8, kinds=kinds)

    assert make(1) == make(1) != make(2)
    for item in make(3):
        assert item.target in item.side
        assert 1 <= len(item.side) <= 4
        assert item.helper != item.target
        assert item.kind is not Kind.MINER_AHEAD or item.target % MINER_EVERY == 0
        shortest, longest = HOLD_SECONDS[item.kind]
        assert shortest <= item.hold_seconds <= longest
    assert [item.kind for item in make(5, FAST)[:3]] != [item.kind for item in make(6, FAST)[:3]]
    assert set(ACTIONS) == set(HOLD_SECONDS) == {item.kind for item in make(4)[: len(Kind)]} == set(Kind)


def test_every_version_before_the_present_one_has_a_release_to_upgrade_from() -> None:
    assert set(range(1, OLD_VERSION + 1)) <= set(NEWEST)
    assert all(re.fullmatch("[0-9a-f]{40}", commit) for commit in NEWEST.values())


def test_a_shifted_clock_follows_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, now = tmp_path / "clock", [0.0]
    monkeypatch.setattr("time.time_ns", lambda: 1_000_000_000)
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    write_offset(file, -400)
    clock = ShiftedClock(file)
    assert (clock.time_ns(), clock.time()) == (600_000_000, 0.6)
    write_offset(file, 0)
    now[0] += 1.0
    assert clock.time_ns() == 1_000_000_000
