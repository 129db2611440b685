"""Fuzz every decoder: `make fuzz SECONDS=60 [TARGET=name]`. The last line of stdout is JSON.

Owns the time and what is kept. SECONDS of fuzzing are shared equally by the targets, one process each, as many at
once as there are cores; every process starts from the seeds, the corpus and the regressions. An input that breaks
a target goes to `regressions/NAME/`, which the tests replay for ever. With --keep the corpus is replaced by the
smallest set of inputs with the coverage of all that was found.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fuzz.target import Target
from fuzz.targets import FAMILIES, REGRESSIONS, family, kept_inputs, write_corpus

TESTS: Final = Path(__file__).parents[1]
INPUT_SECONDS: Final = 20
"""Longest time of one input; a slower one is a crash."""

START_SECONDS: Final = 300
"""Imports, and reading the corpus."""

MEMORY_MIB: Final = 2048
MAX_KEPT_BYTES: Final = 16_384
_EXECUTED: Final = re.compile(r"stat::number_of_executed_units: (\d+)")
_COVERED: Final = re.compile(r"cov: (\d+) ft: (\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One target's share of a run."""

    family: str
    target: Target
    seconds: int
    seed: int
    keep: bool


def fuzz(job: Job) -> dict[str, Any]:
    """Run one target in a process of its own and return its figures."""
    with tempfile.TemporaryDirectory(prefix="facechain-fuzz-") as folder:
        corpus, broken = Path(folder, "corpus"), Path(folder, "broken")
        corpus.mkdir()
        broken.mkdir()
        for data in (*job.target.seeds(), *kept_inputs(job.target.name)):
            (corpus / hashlib.sha256(data).hexdigest()).write_bytes(data)
        done = _start(
            job,
            str(corpus),
            f"-max_total_time={job.seconds}",
            f"-seed={job.seed}",
            f"-artifact_prefix={broken}/",
            f"-max_len={job.target.max_bytes}",
            f"-timeout={INPUT_SECONDS}",
            f"-rss_limit_mb={MEMORY_MIB}",
            "-print_final_stats=1",
        )
        crashes = [_keep_crash(job.target, path) for path in sorted(broken.iterdir())]
        if crashes or done.returncode:
            _tell(f"{job.target.name}: {', '.join(crashes) or 'no input kept'}\n{done.stdout[-3_000:]}")
        elif job.keep:
            _keep_corpus(job, corpus, Path(folder, "merged"))
        covered = _COVERED.findall(done.stderr) or [("0", "0")]
        executed = _EXECUTED.search(done.stderr)
        figures = {
            "executions": int(executed[1]) if executed else 0,
            "coverage": int(covered[-1][0]),
            "features": int(covered[-1][1]),
            "crashes": max(len(crashes), int(done.returncode != 0)),
        }
    _tell(f"{job.target.name}: {json.dumps(figures)}")
    return figures


def _start(job: Job, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fuzz.process", job.family, job.target.name, *arguments]
    seconds = job.seconds + INPUT_SECONDS + START_SECONDS
    try:
        return _run(command, seconds)
    except subprocess.TimeoutExpired as error:
        said = (error.stdout or b"").decode(errors="replace") + f"\nfuzz: expected an end within {seconds} s"
        return subprocess.CompletedProcess(command, 1, said, (error.stderr or b"").decode(errors="replace"))


def _run(command: list[str], seconds: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(TESTS), os.environ.get("PYTHONPATH", "")))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
    )


def _keep_crash(target: Target, path: Path) -> str:
    data = path.read_bytes()
    folder = REGRESSIONS / target.name
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / hashlib.sha256(data).hexdigest()[:16]
    kept.write_bytes(data)
    return str(kept)


def _keep_corpus(job: Job, found: Path, merged: Path) -> None:
    merged.mkdir()
    done = _start(job, "-merge=1", f"-timeout={INPUT_SECONDS}", str(merged), str(found))
    if done.returncode:
        _tell(f"{job.target.name}: the corpus stays as it was, merging failed: {done.stdout[-1_000:]}")
        return
    seeds = set(job.target.seeds())
    inputs = [path.read_bytes() for path in merged.iterdir() if path.stat().st_size <= MAX_KEPT_BYTES]
    write_corpus(job.target.name, [data for data in inputs if data not in seeds])


def _tell(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=TESTS,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "none"


def _jobs(options: argparse.Namespace) -> list[Job]:
    chosen = [(name, target) for name in FAMILIES for target in family(name).values()]
    known = [target.name for _, target in chosen]
    for name in options.target:
        if name not in known:
            raise SystemExit(f"fuzz: expected a target out of {', '.join(known)}; got {name!r}")
    if options.target:
        chosen = [(name, target) for name, target in chosen if target.name in options.target]
    seconds = max(1, options.seconds // len(chosen))
    return [
        Job(family=name, target=target, seconds=seconds, seed=options.seed, keep=options.keep)
        for name, target in chosen
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the targets; return 1 when one of them broke."""
    parser = argparse.ArgumentParser(description="Fuzz the decoders.")
    parser.add_argument(
        "--seconds", type=int, default=60, help="of fuzzing, shared by the targets (default: 60)"
    )
    parser.add_argument("--target", action="append", default=[], help="only this one; repeatable")
    parser.add_argument("--seed", type=int, default=1, help="of libFuzzer (default: 1)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: cores)")
    parser.add_argument("--keep", action="store_true", help="replace the corpus by what was found")
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("atheris") is None:
        version = ".".join(map(str, sys.version_info[:3]))
        _tell(
            "fuzz: expected atheris, which has wheels for CPython 3.11 to 3.13 on Linux x86-64, got none for "
            f"Python {version} here; the tests in tests/fuzz replay the corpus without it"
        )
        return 1
    jobs = _jobs(options)
    begun = time.monotonic()
    with ThreadPoolExecutor(max(1, options.workers)) as pool:
        figures = dict(zip((job.target.name for job in jobs), pool.map(fuzz, jobs), strict=True))
    summary = {
        "fuzz": len(jobs),
        "executions": sum(each["executions"] for each in figures.values()),
        "crashes": sum(each["crashes"] for each in figures.values()),
        "seconds_per_target": jobs[0].seconds,
        "wall_seconds": round(time.monotonic() - begun),
        "seed": options.seed,
        "commit": _commit(),
        "targets": figures,
    }
    sys.stdout.write(json.dumps(summary) + "\n")
    return int(any(each["crashes"] for each in figures.values()))


if __name__ == "__main__":
    raise SystemExit(main())
