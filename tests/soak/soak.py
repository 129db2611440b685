"""Run a network while its nodes are killed, stopped and started again, and look for what got lost.

Not a test: it runs for minutes and ends by itself. Small batches go to random nodes, each signed by a submitter of
its own; a random node but the miner is killed, frozen or ended, and comes back. After that all nodes must have one
tip in time, hold every acknowledged statement, have logs without tracebacks and bounded memory and open files.
Progress goes to stderr; the last line of stdout is one JSON object, and exit code 0 means that all of it held.

    .venv/bin/python tests/soak/soak.py --minutes 15
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from PIL import Image

from facechain.cli.client import NodeClient
from facechain.cli.errors import CommandError
from facechain.cli.testnet_founding import ADMINISTRATOR
from facechain.cli.testnet_network import TrialNetwork, have_one_tip
from facechain.cli.testnet_process import clean_environment, own_command

NODES: Final = 5
DOWN_AT_ONCE_MAX: Final = 2
SUBMIT_EVERY_SECONDS: Final = 3.0
CHAOS_EVERY_SECONDS: Final = 6.0
SAMPLE_EVERY_SECONDS: Final = 5.0
AWAY_SECONDS: Final = (0.5, 20.0)
ONE_TIP_SECONDS: Final = 20.0
RESUME_SECONDS: Final = 120.0
SUBMIT_TIMEOUT_SECONDS: Final = 15.0
WARM_UP_SECONDS: Final = 60.0
GROWTH_MAX: Final = 1.5
"""The most that the miner's memory may grow after its first minute: it runs from the first second to the last."""
OPEN_FILES_MAX: Final = 100
DISTURBANCES: Final = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP, "end": signal.SIGTERM}


@dataclass(kw_only=True)
class Use:
    """Memory and open files of one node, over time."""

    anonymous_kib: list[tuple[float, int]] = field(default_factory=list)
    files_max: int = 0

    def sample(self, pid: int, at: float) -> None:
        """Look at a process; one that has just ended is left out."""
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        except OSError:
            return
        for line in status.splitlines():
            if line.startswith("RssAnon:"):
                self.anonymous_kib.append((at, int(line.split()[1])))
        self.files_max = max(self.files_max, files)


@dataclass(kw_only=True)
class Submitter:
    """A person with a key, an outbox and a node."""

    node: str
    wallet: Path
    made: int = 0
    running: subprocess.Popen[str] | None = None


class Soak:
    """One run."""

    def __init__(self, root: Path, *, seed: int) -> None:
        self.root = root
        self.random = random.Random(seed)
        self.network = TrialNetwork.found(root / "network", count=NODES, mines=True)
        self.token = self.network.record.wallet.api_token_file.read_text().strip()
        self.submitters: list[Submitter] = []
        self.acknowledged: set[bytes] = set()
        self.counts: Counter[str] = Counter()
        self.away: dict[str, tuple[str, float]] = {}
        self.use = {node.name: Use() for node in self.network.nodes}
        self.strange: list[str] = []

    def start(self) -> None:
        """Start the nodes and give every submitter its right."""
        self.network.start_all()
        self.network.wait_connected()
        for node in self.network.nodes:
            wallet = self.root / f"wallet-{node.name}"
            key = json.loads(self.command("key", "new", "me", "--no-passphrase", "--json", wallet=wallet))
            self.submitters.append(Submitter(node=node.name, wallet=wallet))
            self.command(
                *("role", "propose", "submitter", str(key["public_key"]), "--grant", "--wait", "1"),
                *("--key", ADMINISTRATOR, "--api", str(self.network.nodes[0].url)),
                wallet=self.network.record.wallet.root,
            )

    def command(self, *arguments: str, wallet: Path, seconds: float = 60) -> str:
        """Run a command of facechain to its end and return what it printed."""
        with self.spawn(*arguments, wallet=wallet) as process:
            output, errors = process.communicate(timeout=seconds)
        if process.returncode:
            raise RuntimeError(f"facechain {' '.join(arguments)}: exit code {process.returncode}: {errors}")
        return output

    def spawn(self, *arguments: str, wallet: Path) -> subprocess.Popen[str]:
        """Start a command of facechain."""
        own = {"FACECHAIN_DATA_DIR": str(wallet), "FACECHAIN_API_TOKEN": self.token}
        return subprocess.Popen(
            own_command(*arguments),
            env=clean_environment(own),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, seconds: float) -> None:
        """Submit and disturb until time is up, then bring everybody back."""
        begin = time.monotonic()
        due = dict.fromkeys(("submit", "chaos", "sample", "say"), begin)
        while (now := time.monotonic()) < begin + seconds:
            self.collect()
            self.bring_back(now)
            if now >= due["submit"]:
                due["submit"] = now + SUBMIT_EVERY_SECONDS
                self.submit()
            if now >= due["chaos"]:
                due["chaos"] = now + CHAOS_EVERY_SECONDS
                self.disturb(now)
            if now >= due["sample"]:
                due["sample"] = now + SAMPLE_EVERY_SECONDS
                self.sample(now - begin)
            if now >= due["say"]:
                due["say"] = now + 30
                left = begin + seconds - now
                say(f"{left:.0f} s left, {len(self.acknowledged)} acknowledged, {dict(self.counts)}")
            time.sleep(0.1)
        self.bring_back(float("inf"))

    def sample(self, at: float) -> None:
        """Note memory and open files of those that run."""
        for node in self.network.nodes:
            if node.process is not None and node.name not in self.away:
                self.use[node.name].sample(node.process.pid, at)

    def submit(self) -> None:
        """Let one idle submitter register a few new pictures, or go on with what it has kept."""
        idle = [person for person in self.submitters if person.running is None]
        if not idle:
            self.counts["all submitters busy"] += 1
            return
        person = self.random.choice(idle)
        what: tuple[str, ...] = ("--resume",)
        if self.random.random() < 0.9:
            person.made += 1
            folder = self.root / f"batch-{person.node}-{person.made}"
            folder.mkdir()
            for number in range(self.random.randint(1, 8)):
                pixels = self.random.randbytes(192)
                Image.frombytes("RGB", (8, 8), pixels).save(folder / f"{number}.png")
            what = ("--batch", str(folder), "--key", "me")
        api = str(self.network.node(person.node).url)
        limits = ("--api", api, "--timeout", str(SUBMIT_TIMEOUT_SECONDS), "--json")
        person.running = self.spawn("submit", *what, *limits, wallet=person.wallet)

    def collect(self) -> None:
        """Take the receipts of submissions that ended."""
        for person in self.submitters:
            if person.running is not None and person.running.poll() is not None:
                output, errors = person.running.communicate()
                self.take(person.running.returncode, output, errors)
                person.running = None

    def take(self, code: int, output: str, errors: str) -> None:
        """Remember what was acknowledged."""
        self.counts[f"submit exit {code}"] += 1
        if "Traceback" in errors or code not in {0, 4}:
            self.strange.append(f"submit: exit {code}: {errors[-500:]}")
        if not output:
            return
        answer = json.loads(output)
        for receipt in answer.get("receipts", [answer]):
            for part in receipt["parts"]:
                if part["level"] in {"queued", "relayed", "sealed", "confirmed"}:
                    self.acknowledged.add(bytes.fromhex(part["id"]))

    def disturb(self, now: float) -> None:
        """Kill, freeze or end a node that is not the miner."""
        there = [node for node in self.network.nodes if not node.mines and node.name not in self.away]
        if len(self.away) >= DOWN_AT_ONCE_MAX:
            return
        node, how = self.random.choice(there), self.random.choice(sorted(DISTURBANCES))
        if node.process is None:
            return
        os.kill(node.process.pid, DISTURBANCES[how])
        self.away[node.name] = (how, now + self.random.uniform(*AWAY_SECONDS))
        self.counts[how] += 1

    def bring_back(self, now: float) -> None:
        """Continue or start again the nodes whose time has come."""
        for name in [name for name, (_, until) in self.away.items() if until <= now]:
            how, _ = self.away.pop(name)
            process = self.network.node(name).process
            if how == "freeze" and process is not None:
                os.kill(process.pid, signal.SIGCONT)
                continue
            self.network.kill(name)
            self.network.start([name])

    def settle(self) -> float:
        """Return the seconds until all nodes had one tip; CheckFailedError when it took too long."""
        begin = time.monotonic()
        self.network.wait(have_one_tip, seconds=ONE_TIP_SECONDS, what="one tip")
        return time.monotonic() - begin

    def resume(self) -> None:
        """Deliver what is still in an outbox, and wait until it is confirmed."""
        for person in self.submitters:
            if person.running is not None:
                person.running.wait(RESUME_SECONDS)
        self.collect()
        for person in self.submitters:
            api = str(self.network.node(person.node).url)
            limits = ("--api", api, "--wait", "2", "--timeout", str(RESUME_SECONDS), "--json")
            self.take(0, self.command("submit", "--resume", *limits, wallet=person.wallet, seconds=300), "")

    def lost(self) -> list[str]:
        """Return what a node does not have of all that was acknowledged."""
        found = []
        for node in self.network.nodes:
            found += [f"{node.name}: {name}" for name in asyncio.run(self.unknown_to(str(node.url)))]
        return found

    async def unknown_to(self, url: str) -> list[str]:
        """Return the acknowledged statements that are in none of the node's blocks."""
        missing = []
        async with NodeClient(url) as client:
            for statement_id in sorted(self.acknowledged):
                try:
                    status = await client.statement(statement_id)
                except CommandError as error:
                    missing.append(f"{statement_id.hex()} {error.diagnostics()}")
                    continue
                if not status.confirmations:
                    missing.append(f"{statement_id.hex()} {status.receipt} {status.refusal or ''}")
        return missing

    def log_faults(self) -> list[str]:
        """Return the log files that hold a traceback or an error."""
        return [
            f"{node.name}: {line}"
            for node in self.network.nodes
            for line in self.network.record.output_file(node.name).read_text().splitlines()
            if "Traceback" in line or " ERROR " in line or " CRITICAL " in line
        ]

    def figures(self) -> dict[str, Any]:
        """Return memory and open files of every node."""
        return {
            name: {
                "anonymous_mib_max": round(max(size for _, size in use.anonymous_kib) / 1024, 1),
                "open_files_max": use.files_max,
            }
            for name, use in self.use.items()
            if use.anonymous_kib
        }

    def miner_growth(self) -> float:
        """Return the miner's last memory over that after its first minute."""
        miner = next(node.name for node in self.network.nodes if node.mines)
        sizes = self.use[miner].anonymous_kib
        warm = next((size for at, size in sizes if at >= WARM_UP_SECONDS), sizes[0][1])
        return sizes[-1][1] / warm


def judge(soak: Soak, *, one_tip_seconds: float, minutes: float) -> dict[str, Any]:
    """Return what was seen; `ok` when all of it is as it should be."""
    lost, faults, figures = soak.lost(), soak.log_faults(), soak.figures()
    growth = soak.miner_growth()
    files = max(item["open_files_max"] for item in figures.values())
    return {
        "ok": not (lost or faults or soak.strange) and growth <= GROWTH_MAX and files <= OPEN_FILES_MAX,
        "minutes": minutes,
        "nodes": NODES,
        "height": soak.network.look()[0].tip,
        "acknowledged": len(soak.acknowledged),
        "lost": lost,
        "one_tip_seconds": round(one_tip_seconds, 1),
        "counts": dict(soak.counts),
        "log_faults": faults[:20],
        "strange": soak.strange[:20],
        "miner_memory_growth": round(growth, 2),
        "use": figures,
    }


def say(line: str) -> None:
    """Tell the person who waits."""
    sys.stderr.write(f"{line}\n")


def run(root: Path, *, minutes: float, seed: int) -> dict[str, Any]:
    """Run a soak in a folder and return what was seen."""
    soak = Soak(root, seed=seed)
    try:
        soak.start()
        soak.run(60 * minutes)
        one_tip_seconds = soak.settle()
        soak.resume()
        soak.settle()
        return judge(soak, one_tip_seconds=one_tip_seconds, minutes=minutes)
    finally:
        for person in soak.submitters:
            if person.running is not None:
                person.running.kill()
                person.running.communicate()
        for name, (how, _) in soak.away.items():
            process = soak.network.node(name).process
            if how == "freeze" and process is not None:
                os.kill(process.pid, signal.SIGCONT)
        soak.network.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=15.0, help="how long nodes are disturbed")
    parser.add_argument("--seed", type=int, default=1, help="of the disturbances")
    parser.add_argument(
        "--dir", type=Path, help="new folder that is kept; default: a temporary one that is removed"
    )
    options = parser.parse_args(arguments)
    if options.dir is not None:
        options.dir.mkdir(parents=True)
        seen = run(options.dir, minutes=options.minutes, seed=options.seed)
    else:
        with tempfile.TemporaryDirectory(prefix="facechain-soak-") as folder:
            seen = run(Path(folder), minutes=options.minutes, seed=options.seed)
    seen["height"] = None if seen["height"] is None else seen["height"][0]
    sys.stdout.write(json.dumps(seen) + "\n")
    return 0 if seen["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
