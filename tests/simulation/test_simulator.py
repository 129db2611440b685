"""Whole nodes through faults and attacks, a few seeds of them; more: `make simulate SEEDS=200`.

What must hold is checked inside each run (`simulation.oracle`, `simulation.world`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulation.events import Scheduler, Violation
from simulation.links import Host, Network, Side
from simulation.simulate import simulate
from simulation.world import World

SCRIPT = Path(__file__).with_name("simulate.py")
REPEATED_SEED = 4
"""A short run with attackers, crashes and reorganisations."""


def test_no_invariant_breaks(simulation_seed: int) -> None:
    outcome = simulate(simulation_seed)
    assert not outcome.violation, f"seed {simulation_seed}: {outcome.violation}"
    assert outcome.counts["blocks"]
    assert outcome.counts["acknowledged"]


def test_a_run_is_a_function_of_its_seed(tmp_path: Path) -> None:
    """Another process with another order of sets and dictionaries of bytes has the same trace."""
    here = simulate(REPEATED_SEED)
    trace = tmp_path / "trace.txt"
    command = [
        sys.executable,
        str(SCRIPT),
        "--seeds",
        "1",
        "--first-seed",
        str(REPEATED_SEED),
        "--trace",
        str(trace),
    ]
    environment = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert f"trace {here.trace_hash[:16]}" in done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["violations"] == 0
    assert told["blocks"] == here.counts["blocks"]
    assert len(trace.read_text().splitlines()) > told["messages"]


def test_a_violation_is_told_with_the_command_that_repeats_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from simulation import simulate as script

    def broken(self: World) -> None:
        raise Violation("the sky fell")

    monkeypatch.setattr(World, "run", broken)
    monkeypatch.setattr(sys, "argv", ["simulate.py", "--seeds", "1", "--first-seed", "9", "--jobs", "1"])
    assert script.main() == 1
    printed = capsys.readouterr()
    assert "seed 9: the sky fell" in printed.err
    assert "--seeds 1 --first-seed 9 --trace" in printed.err
    assert json.loads(printed.out.splitlines()[-1])["violations"] == 1


class Ear(Host):
    """A host that writes down what it hears."""

    def __init__(self, events: Scheduler, name: str) -> None:
        super().__init__(events, name, (f"10.{ord(name)}.0.1", 1), name.encode() * 32)
        self.up = True
        self.heard: list[bytes] = []
        self.sides: list[Side] = []
        self.closed = 0

    def on_open(self, side: Side) -> bool:
        self.sides.append(side)
        return True

    def on_frame(self, side: Side, frame: bytes) -> None:
        self.heard.append(frame)

    def on_closed(self, side: Side) -> None:
        self.closed += 1


@pytest.fixture
def pair() -> tuple[Scheduler, Network, Ear, Ear]:
    events = Scheduler(1)
    network = Network(events)
    left, right = Ear(events, "a"), Ear(events, "b")
    for host in (left, right):
        network.add(host)
    network.dial(left, right.endpoint, lambda side: left.sides.append(side) if side else None)
    events.run(10)
    network.path(left, right).loss = 0.3
    return events, network, left, right


FRAMES = tuple(bytes([number]) for number in range(100))


def test_a_stream_keeps_its_order_through_loss_and_a_cut(pair: tuple[Scheduler, Network, Ear, Ear]) -> None:
    events, network, left, right = pair
    for number, frame in enumerate(FRAMES):
        if number == 30:
            network.cut(left, right, reset=False)
        if number == 60:
            network.mend(left, right)
        left.sides[0].send(frame)
        events.run(events.now + 0.01)
    events.run(events.now + 60)
    assert tuple(right.heard) == FRAMES
    assert not left.closed + right.closed


def test_a_reset_loses_what_is_under_way(pair: tuple[Scheduler, Network, Ear, Ear]) -> None:
    events, network, left, right = pair
    for frame in FRAMES:
        left.sides[0].send(frame)
    network.reset(left.sides[0])
    events.run(events.now + 60)
    assert not right.heard
    assert (left.closed, right.closed) == (1, 1)


def test_a_frozen_host_takes_everything_when_it_thaws(pair: tuple[Scheduler, Network, Ear, Ear]) -> None:
    events, _, left, right = pair
    right.freeze()
    for frame in FRAMES:
        left.sides[0].send(frame)
    events.run(events.now + 60)
    assert not right.heard
    right.thaw()
    assert tuple(right.heard) == FRAMES
