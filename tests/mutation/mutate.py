"""Change one module of consensus/ in every way that mutmut knows, and see whether its tests notice.

    .venv/bin/python tests/mutation/mutate.py consensus/work.py

Works on a copy of the last commit in a temporary folder (`--working-tree`: of the files as they are), so nothing
that is being edited is touched. Each mutant meets only the tests that reach its function, the first failure ends
it. Results go to `tests/mutation/results.json`, one entry a module, each with the commit that it belongs to.
A survivor that `docs/testing.md` does not explain is printed and makes the exit code 1. The last line is JSON.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
RESULTS: Final = Path(__file__).with_name("results.json")
EXPLANATIONS: Final = ROOT / "docs" / "testing.md"
PACKAGES: Final = ("cli", "consensus", "gan", "node")
ROW: Final = re.compile(
    r"^\| `(?P<module>consensus/\w+\.py)` `(?P<function>[\w.]+)` \| `(?P<was>.*?)` \| `(?P<becomes>.*?)` \|"
)
DETECTED: Final = frozenset({"killed", "timeout"})

UNIT: Final = "tests/unit/consensus"
EXTRA_TESTS: Final[dict[str, tuple[str, ...]]] = {
    "consensus/work.py": (f"{UNIT}/test_retarget.py",),
    "consensus/apply.py": (f"{UNIT}/test_validation.py",),
    "consensus/state.py": (f"{UNIT}/test_apply.py",),
}
"""Tests of a module beside `tests/unit/consensus/test_MODULE*.py`."""

SLOW: Final = ("large_tree", "any_bit_of_any_byte", "(logarithmic and 10000)", "upper_nodes")
"""Which tests, in the words of `pytest -k`, take seconds and find nothing that faster ones do not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A change that no test noticed. Lines are stripped; lines of a longer change are joined by a space."""

    function: str
    was: str
    becomes: str
    status: str


def suite_of(module: str) -> list[str]:
    """Return the test files that a module's mutants meet."""
    own = sorted(path.relative_to(ROOT) for path in (ROOT / UNIT).glob(f"test_{Path(module).stem}*.py"))
    return [*map(str, own), *EXTRA_TESTS.get(module, ())]


def copy_sources(folder: Path, commit: str, *, working_tree: bool) -> None:
    """Lay the project out in `folder` as mutmut wants it: one real package in `src`."""
    if working_tree:
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout.split(b"\0")
        for name in filter(None, map(bytes.decode, names)):
            if (ROOT / name).is_file() and not (ROOT / name).is_symlink():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
    else:
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x"], cwd=folder, check=True, input=archive)
    package = folder / "src" / "facechain"
    package.mkdir(parents=True)
    for name in PACKAGES:
        (folder / name).rename(package / name)
    for name in ("__init__.py", "py.typed"):
        (folder / ".layout" / "facechain" / name).rename(package / name)


def configure(folder: Path, module: str) -> None:
    """Tell mutmut what to change and which tests to run: mutmut reads setup.cfg."""
    settings = {
        "source_paths": ["src"],
        "only_mutate": [f"src/facechain/{module}"],
        "pytest_add_cli_args_test_selection": suite_of(module),
        "pytest_add_cli_args": [
            "-p",
            "no:cacheprovider",
            "--hypothesis-seed=0",
            "-k",
            f"not ({' or '.join(SLOW)})",
        ],
        # Seconds of the clock: fifteen times (2 + the tests' own), so that a busy machine is no infinite loop.
        "timeout_multiplier": ["15"],
        "timeout_constant": ["2"],
    }
    lines = [
        f"{name} =\n" + "".join(f"    {value}\n" for value in values) for name, values in settings.items()
    ]
    (folder / "setup.cfg").write_text("[mutmut]\n" + "".join(lines))


def mutmut(folder: Path, *arguments: str) -> str:
    """Run mutmut in the copy; SystemExit with the end of what it said when it fails."""
    command = [str(Path(sys.executable).with_name("mutmut")), *arguments]
    done = subprocess.run(command, cwd=folder, check=False, text=True, capture_output=True)
    if done.returncode:
        raise SystemExit(
            f"mutmut {arguments[0]}: exit code {done.returncode}\n{done.stdout[-6000:]}{done.stderr[-2000:]}"
        )
    return done.stdout


def read_mutants(folder: Path) -> tuple[Counter[str], list[Mutant]]:
    """Return how many mutants met which end, and those that no test noticed."""
    rows = [line.strip().rpartition(": ") for line in mutmut(folder, "results", "--all", "true").splitlines()]
    ends = Counter(status for _, _, status in rows)
    survivors = [read_mutant(folder, name, status) for name, _, status in rows if status not in DETECTED]
    return ends, sorted(survivors, key=lambda mutant: (mutant.function, mutant.was, mutant.becomes))


def read_mutant(folder: Path, name: str, status: str) -> Mutant:
    """Return what mutmut changed in one mutant."""
    changed: dict[str, list[str]] = {"-": [], "+": []}
    for line in mutmut(folder, "show", name).splitlines():
        if line[:1] in changed and line[:3] not in ("---", "+++"):
            changed[line[0]].append(line[1:].strip())
    mangled = name.rpartition(".")[2].partition("__mutmut_")[0]
    return Mutant(
        function=mangled.removeprefix("x").strip("ǁ").replace("ǁ", ".") if "ǁ" in mangled else mangled[2:],
        was=" ".join(changed["-"]),
        becomes=" ".join(changed["+"]),
        status=status,
    )


def explained(module: str) -> Counter[tuple[str, str, str]]:
    """Return the changes of a module that `docs/testing.md` explains, as often as it does."""
    found: Counter[tuple[str, str, str]] = Counter()
    for line in EXPLANATIONS.read_text().splitlines():
        row = ROW.match(line.replace("\\|", "\0"))
        if row and row["module"] == module:
            found[row["function"], row["was"].replace("\0", "|"), row["becomes"].replace("\0", "|")] += 1
    return found


def examine(module: str, *, workers: int, working_tree: bool) -> dict[str, Any]:
    """Mutate one module and return its entry of the results."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True)
    commit = head.stdout.strip()
    with tempfile.TemporaryDirectory(prefix="facechain-mutate-") as name:
        folder = Path(name)
        copy_sources(folder, commit, working_tree=working_tree)
        configure(folder, module)
        mutmut(folder, "run", "--max-children", str(workers))
        ends, survivors = read_mutants(folder)
    return {
        "commit": commit + (" with changes" if working_tree else ""),
        "mutants": ends.total(),
        "killed": ends["killed"],
        "timeout": ends["timeout"],
        "survivors": [asdict(mutant) for mutant in survivors],
    }


def unexplained(module: str, survivors: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return the survivors that `docs/testing.md` does not explain."""
    known = explained(module)
    found = []
    for mutant in survivors:
        key = (mutant["function"], mutant["was"], mutant["becomes"])
        known[key] -= 1
        if known[key] < 0 or mutant["status"] != "survived":
            found.append(mutant)
    return found


def main() -> None:
    """Examine the modules named; exit code 1 when a survivor is not explained."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="+", metavar="MODULE", help="as in consensus/work.py")
    parser.add_argument("--workers", type=int, default=2, help="mutants at a time (default: 2)")
    parser.add_argument(
        "--working-tree", action="store_true", help="mutate the files as they are; keeps no results"
    )
    options = parser.parse_args()
    summary: dict[str, Any] = {}
    for module in options.modules:
        if not (ROOT / module).is_file() or not suite_of(module):
            parser.error(f"module: expected one with tests, as consensus/work.py, got {module}")
        entry = examine(module, workers=options.workers, working_tree=options.working_tree)
        left = unexplained(module, entry["survivors"])
        for mutant in left:
            change = f"  - {mutant['was']}\n  + {mutant['becomes']}\n"
            sys.stderr.write(f"{module} {mutant['function']} ({mutant['status']})\n{change}")
        summary[module] = {name: value for name, value in entry.items() if isinstance(value, int)}
        summary[module] |= {"explained": len(entry["survivors"]) - len(left), "unexplained": len(left)}
        if not options.working_tree:
            keep(module, entry)
    sys.stdout.write(json.dumps(summary) + "\n")
    sys.exit(any(entry["unexplained"] for entry in summary.values()))


def keep(module: str, entry: dict[str, Any]) -> None:
    """Put a module's entry into the file of results."""
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    tool = {"mutmut": importlib.metadata.version("mutmut"), "python": sys.version.split()[0]}
    modules = dict(sorted({**results.get("modules", {}), module: {**entry, **tool}}.items()))
    RESULTS.write_text(json.dumps({"modules": modules}, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
