"""Run the simulator: whole nodes on a virtual clock and a simulated network, one run for each seed.

    PYTHONPATH=tests .venv/bin/python tests/simulation/simulate.py --seeds 200
    PYTHONPATH=tests .venv/bin/python tests/simulation/simulate.py --first-seed 17 --seeds 1 --trace run.txt

Everything in a run is a function of its seed. A seed that fails is printed with the command that repeats it exactly;
`--trace` writes what happened, line by line. The last line of output is JSON; the exit code is 1 when an invariant
did not hold.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from simulation.attacks import ATTACKS
from simulation.events import Violation
from simulation.world import Shape, World

REPLAY = (
    "PYTHONPATH=tests .venv/bin/python tests/simulation/simulate.py --seeds 1 --first-seed {} --trace run.txt"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one seed."""

    seed: int
    trace_hash: str
    violation: str = ""
    seconds: float = 0.0
    """Virtual."""
    counts: Counter[str] = field(default_factory=Counter)
    offences: Counter[str] = field(default_factory=Counter)


def simulate(seed: int, trace: Path | None = None, shape: Shape | None = None) -> Outcome:
    """Run one seed; a fault of the node counts as a violation like any other."""
    violation = ""
    with open(trace or os.devnull, "w", encoding="utf-8") as sink:  # noqa: PTH123 - os.devnull is no path of ours
        world = World(seed, sink if trace else None, shape)
        try:
            world.run()
        except Violation as error:
            violation = str(error)
        except Exception:  # noqa: BLE001 - whatever the node raises is what is looked for
            violation = traceback.format_exc()
    return Outcome(
        seed=seed,
        trace_hash=world.events.trace_hash,
        violation=violation,
        seconds=world.events.now,
        counts=world.counts(),
        offences=world.offences,
    )


def outcomes(seeds: range, jobs: int, trace: Path | None) -> Iterator[Outcome]:
    """Run all seeds, in order."""
    if jobs == 1:
        yield from (simulate(seed, trace) for seed in seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(partial(simulate, trace=trace), seeds)


def _commit() -> str:
    """Name the commit that is tested, as far as there is one."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return done.stdout.strip() or "unknown"


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=200, help="number of runs (default: 200)")
    parser.add_argument("--first-seed", type=int, default=1, help="seed of the first run (default: 1)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)"
    )
    parser.add_argument("--trace", type=Path, help="write the events of a single run to this file")
    options = parser.parse_args()
    if options.trace and options.seeds != 1:
        parser.error(f"--trace: expected --seeds 1, got {options.seeds}")
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    total, offences, failed, seconds = Counter[str](), Counter[str](), 0, 0.0
    for outcome in outcomes(seeds, min(options.jobs, options.seeds), options.trace):
        total.update(outcome.counts)
        offences.update(outcome.offences)
        seconds += outcome.seconds
        if outcome.violation:
            failed += 1
            sys.stderr.write(f"seed {outcome.seed}: {outcome.violation}\n  {REPLAY.format(outcome.seed)}\n")
        else:
            sys.stderr.write(
                f"seed {outcome.seed}: {outcome.seconds:.0f} s, trace {outcome.trace_hash[:16]}\n"
            )
    result = {
        "seeds": options.seeds,
        "nodes": total.pop("nodes", 0),
        "virtual_hours": round(seconds / 3_600, 1),
        "violations": failed,
        **total,
        "attacks": len(ATTACKS),
        "offences": sum(offences.values()),
        "first_seed": options.first_seed,
        "commit": _commit(),
    }
    sys.stdout.write(json.dumps(result) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
