"""Kill a process that writes a store, again and again, and check what is left each time.

    PYTHONPATH=tests .venv/bin/python tests/fault/check_store.py --kills 200

A child goes through a script (connects, reorganises, acknowledges, prunes, compacts, grows its map from 1 MiB)
and is killed with SIGKILL at a random instant. After each kill: `verify` level 3 finds no damage, the tip has at
least the work that the child reported, and every acknowledged statement is there, unless the chain refuses it and
the child told so. At the end of each life the store has the state hash of a node that was never killed. The last
line of output is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from facechain.consensus.apply import Transition
from facechain.consensus.errors import RuleViolation
from facechain.consensus.params import Genesis
from facechain.consensus.state import StateView
from facechain.consensus.statement import Statement
from facechain.consensus.validation import check_statement
from facechain.node.chain_index import ChainReader
from facechain.node.maintenance.damage import MaintenanceRefused, StoreDamage
from facechain.node.maintenance.offline import ReadOnlyStore
from facechain.node.maintenance.verify import Level, verify_store
from facechain.node.store.errors import StoreError
from facechain.node.store.lmdb_file import DATA_NAME
from facechain.node.store.port import Reader
from facechain.node.store.schema import Table
from fault.chain_script import Script, write_script

ROOT: Final = Path(__file__).resolve().parents[2]
CHILD: Final = Path(__file__).with_name("store_child.py")
LINES_MAX: Final = 40
DELAY_SECONDS_MAX: Final = 0.02
STEPS: Final = 120
RECORDS: Final = 600
"""Most records of a batch: enough for the map to grow between two compactions."""
CHILD_SECONDS_MAX: Final = 120


@dataclass
class Score:
    """What was counted."""

    kills: int = 0
    lives: int = 0
    corrupt: int = 0
    lost: int = 0
    divergent: int = 0
    acknowledged: int = 0
    refused: set[bytes] = field(default_factory=set)
    """Acknowledged, then refused by the chain for so long that the node let go of them; they were told."""
    map_growths: int = 0
    prunings: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not (self.corrupt or self.lost or self.divergent)


@dataclass
class Promises:
    """What a child said is durable."""

    statements: dict[bytes, Statement] = field(default_factory=dict)
    told: dict[bytes, str] = field(default_factory=dict)
    """Leaf -> why the chain had no place for a statement, as its submitter was told last."""
    chainwork: int = 0
    done: str | None = None

    def read(self, lines: list[str], script: Script) -> None:
        for line in lines:
            if not line.endswith("\n"):
                continue
            word, _, rest = line.strip().partition(" ")
            if word == "ack":
                statement = Statement.decode(bytes.fromhex(rest))
                self.statements[statement.leaf] = statement
            elif word == "drop":
                leaf, _, code = rest.partition(" ")
                self.told[bytes.fromhex(leaf)] = code
            elif word == "tip":
                self.chainwork = script.chainwork[bytes.fromhex(rest)]
            elif word == "done":
                self.done = rest
            elif word == "refused":
                raise AssertionError(f"the store refused without a fault: {rest}")


def child_command(folder: Path, script: Path) -> list[str]:
    return [sys.executable, str(CHILD), str(folder), str(script)]


def child_environment() -> dict[str, str]:
    return {"PYTHONPATH": f"{ROOT / '.layout'}:{ROOT / 'tests'}", "PATH": "/usr/bin:/bin"}


def run_to_end(folder: Path, script_file: Path) -> list[str]:
    done = subprocess.run(
        child_command(folder, script_file),
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=CHILD_SECONDS_MAX,
        check=True,
    )
    return done.stdout.splitlines(keepends=True)


def run_and_kill(folder: Path, script_file: Path, choice: random.Random) -> tuple[list[str], bool]:
    """Run the child up to a random moment; return its lines and whether it was killed before its end."""
    wanted = choice.randrange(1, LINES_MAX)
    with subprocess.Popen(
        child_command(folder, script_file), env=child_environment(), stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        lines: list[str] = []
        steps = 0  # what it tells of refused statements comes in bursts, right after the start too
        while steps < wanted and (line := child.stdout.readline()):
            lines.append(line)
            steps += not line.startswith("drop")
        time.sleep(choice.random() * DELAY_SECONDS_MAX)
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
        code = child.wait(CHILD_SECONDS_MAX)
    if code not in (0, -signal.SIGKILL):
        raise AssertionError(f"the child ended with {code}: {lines[-1:]}")
    return lines, code != 0


def check(folder: Path, promises: Promises, script: Script, score: Score) -> None:
    """Check a store after a kill against what was promised."""
    path = folder / DATA_NAME
    if not path.exists() or path.stat().st_size == 0:
        if promises.chainwork or promises.statements:
            score.lost += 1
            score.problems.append("the whole store is gone")
        return
    try:
        report = verify_store(folder, Level.INDEXES)
    except MaintenanceRefused as refused:  # it was killed before there was a chain
        if promises.chainwork or promises.statements:
            score.lost += 1
            score.problems.append(str(refused))
        return
    except (StoreDamage, StoreError) as damage:
        score.corrupt += 1
        score.problems.append(str(damage))
        return
    if script.chainwork[report.tip] < promises.chainwork:
        score.lost += 1
        score.problems.append(f"tip {report.tip.hex()} has less work than was reported")
    with ReadOnlyStore.open(folder) as store, store.read() as reader:
        for statement in promises.statements.values():
            check_kept(reader, statement, promises, Genesis.decode(script.genesis), score)


def check_kept(
    reader: Reader, statement: Statement, promises: Promises, genesis: Genesis, score: Score
) -> None:
    """An acknowledged statement is here, or the chain refuses it and its submitter was told so."""
    if reader.get(Table.MEMPOOL, statement.leaf) or reader.get(Table.STATEMENTS, statement.id):
        return
    if statement.sequence < StateView(reader).next_sequence(statement.author):
        return
    rule = refusal(reader, statement, genesis)
    if rule is None or statement.leaf not in promises.told:
        score.lost += 1
        told = promises.told.get(statement.leaf, "nothing")
        score.problems.append(
            f"acknowledged statement {statement.id.hex()} is gone; the chain says {rule or 'valid'}, told: {told}"
        )
    else:
        score.refused.add(statement.leaf)


def refusal(reader: Reader, statement: Statement, genesis: Genesis) -> str | None:
    """Return the rule that a statement breaks in the block after the tip, None when it may enter."""
    chain = ChainReader(reader)
    parent = chain.tip_hash()
    sealed = chain.sealed_header(parent)
    assert sealed is not None
    transition = Transition(reader, genesis.params, height=sealed.height + 1, parent_hash=parent)
    try:
        transition.add(check_statement(statement, genesis.params, genesis.network_id))
    except RuleViolation as broken:
        return broken.code
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One store from its first block to the end of a script."""

    folder: Path
    script_file: Path
    script: Script
    expected: str
    """State hash of a node that was never killed."""

    def run(self, kills: int, choice: random.Random, score: Score) -> None:
        """Go through the script with kills on the way, to its end or to the first problem."""
        promises = Promises()
        while promises.done is None:
            if score.kills < kills:
                lines, killed = run_and_kill(self.folder, self.script_file, choice)
                score.kills += killed
            else:
                lines = run_to_end(self.folder, self.script_file)
            promises.read(lines, self.script)
            score.map_growths += sum(line.startswith("grown") for line in lines)
            score.prunings += sum(line.startswith("pruned") for line in lines)
            check(self.folder, promises, self.script, score)
            if not score.sound:
                return
        score.acknowledged += len(promises.statements)
        if promises.done != self.expected:
            score.divergent += 1
            score.problems.append(f"state hash {promises.done}, a clean node has {self.expected}")


def check_kills(kills: int, seed: int, *, steps: int = STEPS, records: int = RECORDS) -> Score:
    """Kill `kills` times; return what was found."""
    score, choice = Score(), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="facechain-check-store-") as place:
        root = Path(place)
        while score.kills < kills and score.sound:
            script = write_script(choice.randrange(1 << 32), steps=steps, records=records)
            script_file = root / "script"
            script.save(script_file)
            clean = Promises()
            clean.read(run_to_end(root / "clean", script_file), script)
            assert clean.done is not None
            life = Life(folder=root / "killed", script_file=script_file, script=script, expected=clean.done)
            life.run(kills, choice, score)
            score.lives += 1
            if score.sound:
                shutil.rmtree(root / "clean")
                shutil.rmtree(root / "killed")
            tell(f"{score.kills} kills in {score.lives} lives, {score.acknowledged} acknowledged statements")
    return score


def tell(line: str) -> None:
    sys.stderr.write(f"check-store: {line}\n")


def commit() -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--records", type=int, default=RECORDS, help="most records of a batch")
    options = parser.parse_args()
    started = time.monotonic()
    score = check_kills(options.kills, options.seed, records=options.records)
    for problem in score.problems:
        tell(problem)
    counted = {
        "kills": score.kills,
        "corrupt": score.corrupt,
        "lost": score.lost,
        "divergent": score.divergent,
        "lives": score.lives,
        "acknowledged": score.acknowledged,
        "refused": len(score.refused),
        "map_growths": score.map_growths,
        "prunings": score.prunings,
        "seconds": round(time.monotonic() - started, 1),
        "seed": options.seed,
        "records": options.records,
        "commit": commit(),
    }
    sys.stdout.write(json.dumps(counted) + "\n")
    return 0 if score.sound else 1


if __name__ == "__main__":
    sys.exit(main())
