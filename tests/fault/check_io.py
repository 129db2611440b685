"""Let the system calls of a process that writes a store fail, one at a time, and check what is left.

    PYTHONPATH=tests .venv/bin/python tests/fault/check_io.py

strace makes the n-th call of a kind on the store's files return EIO or ENOSPC. Afterwards: `verify` level 3
finds no damage, nothing acknowledged is gone, and the process said that something failed (else the fault was
silent). Started again without the fault, it ends with the state hash of a node that never had one. Then single
bits of the file are flipped (see `bit_flips.py`). The last line of output is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from facechain.node.maintenance.offline import alone
from facechain.node.maintenance.replace import compact
from fault.bit_flips import Flips, flip_bits
from fault.chain_script import Script, write_script
from fault.check_store import (
    CHILD_SECONDS_MAX,
    Promises,
    Score,
    check,
    child_command,
    child_environment,
    commit,
    run_to_end,
)
from fault.store_child import REFUSED

CALLS: Final = (
    *("openat", "read", "pread64", "write", "pwrite64", "pwritev", "writev"),
    *(
        "fdatasync",
        "fsync",
        "ftruncate",
        "msync",
        "mmap",
        "fcntl",
        "flock",
        "rename",
        "renameat2",
        "unlinkat",
    ),
)
"""System calls on the store's folder that are made to fail."""
ERRORS: Final = ("EIO", "ENOSPC")
STEPS: Final = 20
FLIPS: Final = 300
INJECTED: Final = "(INJECTED)"


@dataclass
class Faults:
    """What was counted."""

    faults: int = 0
    told: int = 0
    harmless: int = 0
    """Faults of calls whose outcome the store does not depend on; named in `HARMLESS`."""
    silent: int = 0
    by_call: Counter[str] = field(default_factory=Counter)
    score: Score = field(default_factory=Score)


HARMLESS: Final = {"fcntl": "", "unlinkat": "", "openat": 'data.mdb", O_RDONLY) = '}
"""Calls whose failure may change nothing, with what the traced line then has: LMDB asks on closing whether it was the
last user, and takes no answer for a no; a file that is no longer needed is removed by the next run; py-lmdb looks which
version of LMDB wrote a file, and leaves it to LMDB when it cannot."""


def strace_path() -> str | None:
    """Return where strace is, None when it is not installed."""
    return shutil.which("strace")


def traced(folder: Path, script_file: Path, log: Path, *inject: str) -> subprocess.CompletedProcess[str]:
    """Run the child under strace, which looks at calls on the store's files alone."""
    inside = (folder / name for name in ("", "data.mdb", "lock.mdb", "instance.lock", "rebuild/data.mdb"))
    paths = [item for path in inside for item in ("-P", str(path))]
    strace = [strace_path() or "strace", "-f", "-qq", "-y", "-o", str(log), *paths]
    calls = f"trace={','.join(CALLS)}"
    return subprocess.run(
        [*strace, "-e", calls, *inject, *child_command(folder, script_file)],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=CHILD_SECONDS_MAX,
        check=False,
    )


def count_calls(folder: Path, script_file: Path, log: Path) -> Counter[str]:
    """Return how often each call is made in a run without faults."""
    done = traced(folder, script_file, log)
    if done.returncode:
        raise AssertionError(f"strace or the child failed: {done.stderr[-500:]}")
    return Counter(match[1] for match in re.finditer(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What every fault is tried on."""

    root: Path
    script: Script
    script_file: Path
    expected: str

    def fail(self, call: str, error: str, when: int, result: Faults) -> None:
        """Run with the `when`-th `call` failing; count what came of it."""
        folder, log = self.root / "faulty", self.root / "trace"
        shutil.rmtree(folder, ignore_errors=True)
        done = traced(folder, self.script_file, log, "-e", f"inject={call}:error={error}:when={when}")
        injected = next((line for line in log.read_text().splitlines() if INJECTED in line), None)
        if injected is None:
            return
        result.faults += 1
        result.by_call[call] += 1
        what = f"{call} number {when} with {error}"
        lines = done.stdout.splitlines(keepends=True)
        told = done.returncode == REFUSED and any(line.startswith("refused") for line in lines)
        if told:
            result.told += 1
        elif done.returncode == 0 and call in HARMLESS and HARMLESS[call] in injected:
            result.harmless += 1
        else:
            result.silent += 1
            result.score.problems.append(f"{what}: ended with {done.returncode}: {done.stderr[-300:]}")
        promises = Promises()
        promises.read([line for line in lines if not line.startswith("refused")], self.script)
        before = len(result.score.problems)
        check(folder, promises, self.script, result.score)
        promises.read(run_to_end(folder, self.script_file), self.script)
        check(folder, promises, self.script, result.score)
        if promises.done != self.expected:
            result.score.divergent += 1
            result.score.problems.append(f"another state hash in the end ({promises.done})")
        for number in range(before, len(result.score.problems)):
            result.score.problems[number] = f"{what}: {result.score.problems[number]}"


def positions(count: int, wanted: int, choice: random.Random) -> list[int]:
    """Return up to `wanted` of the numbers 1 to `count`, seeded."""
    return sorted(choice.sample(range(1, count + 1), min(wanted, count)))


def check_faults(seed: int, *, per_call: int, steps: int = STEPS, calls: tuple[str, ...] = CALLS) -> Faults:
    """Let up to `per_call` calls of each kind fail with each error."""
    result, choice = Faults(), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="facechain-check-io-") as place:
        root = Path(place)
        script = write_script(seed, steps=steps, compact_at=steps - 4)
        script.save(root / "script")
        clean = Promises()
        clean.read(run_to_end(root / "clean", root / "script"), script)
        assert clean.done is not None
        trial = Trial(root=root, script=script, script_file=root / "script", expected=clean.done)
        counted = count_calls(root / "counted", root / "script", root / "trace")
        for call in calls:
            for error in ERRORS:
                for when in positions(counted[call], per_call, choice):
                    trial.fail(call, error, when, result)
            tell(f"{call}: {result.by_call[call]} faults in {counted[call]} calls")
    return result


def check_flips(seed: int, count: int) -> Flips:
    """Flip bits of a store that went through a script."""
    with tempfile.TemporaryDirectory(prefix="facechain-check-io-") as place:
        root = Path(place)
        write_script(seed, steps=STEPS).save(root / "script")
        run_to_end(root / "store", root / "script")
        with alone(root / "store"):
            compact(root / "store")  # otherwise most bits are in pages that are free
        return flip_bits(root / "store", count, seed)


def tell(line: str) -> None:
    sys.stderr.write(f"check-io: {line}\n")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--per-call", type=int, default=6, help="calls of each kind that fail, for each error"
    )
    parser.add_argument("--flips", type=int, default=FLIPS)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if strace_path() is None:
        tell("expected strace, got none; install it: apt-get install strace")
        return 2
    started = time.monotonic()
    result = check_faults(options.seed, per_call=options.per_call)
    flips = check_flips(options.seed, options.flips)
    for problem in (*result.score.problems, *flips.problems):
        tell(problem)
    counted = {
        "faults": result.faults,
        "corrupt": result.score.corrupt,
        "silent": result.silent,
        "lost": result.score.lost,
        "divergent": result.score.divergent,
        "told": result.told,
        "harmless": result.harmless,
        "by_call": dict(result.by_call),
        "flips": flips.flips,
        "flips_found": flips.found,
        "flips_harmless": flips.harmless,
        "flips_served": flips.served,
        "seconds": round(time.monotonic() - started, 1),
        "seed": options.seed,
        "commit": commit(),
    }
    sys.stdout.write(json.dumps(counted) + "\n")
    return 0 if result.score.sound and not result.silent and not flips.served else 1


if __name__ == "__main__":
    sys.exit(main())
