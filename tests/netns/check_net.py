"""Disturb a network of real nodes on hosts of their own, one perturbation after the other, and see it recover each time.

    sudo PYTHONPATH=tests .venv/bin/python tests/netns/check_net.py --nodes 8 --perturbations 30 --seed 1

Each node is a `facechain node start` process in a network namespace, on a disk of its own; every third one mines, and each
has someone who submits to it all the time. What happens, and to whom, is a function of the seed (`--list` prints it). After
each perturbation all nodes must have one tip, at least one block further, within 20 s; in the end one tip, every
acknowledged statement in a block of every node, no ban, no traceback. The last line of stdout is JSON; exit code 0 means
that all of it held, 5 that something is missing here. Needs root, iproute2 and iptables; leaves nothing behind.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from facechain.cli.errors import CommandError, ExitCode
from netns import namespaces, watch
from netns.founding import Network, found
from netns.manifest import Kind, Perturbation, manifest
from netns.perturbations import OLD_VERSION, World, perturb
from netns.releases import old_release

ROOT: Final = Path(__file__).resolve().parents[2]
DISK_MIB: Final = 64
NODES_MIN: Final = 4
RELAY: Final = "relay"
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(kw_only=True)
class Outcome:
    """What was seen."""

    items: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    forks_left: int | None = None
    lost: dict[bytes, str] | None = None
    height: int = 0

    def add(self, item: Perturbation, target: str, seconds: float | None) -> None:
        self.items.append(
            {
                "kind": item.kind,
                "target": target,
                "seconds_to_recover": None if seconds is None else round(seconds, 1),
                "load": round(os.getloadavg()[0], 1),
            }
        )

    @property
    def times(self) -> list[float]:
        return [item["seconds_to_recover"] for item in self.items if item["seconds_to_recover"] is not None]

    @property
    def recovered(self) -> int:
        return sum(seconds <= watch.RECOVERY_SECONDS for seconds in self.times)

    @property
    def held(self) -> bool:
        return (
            self.recovered == len(self.items) > 0
            and self.forks_left == 0
            and self.lost == {}
            and not self.problems
        )


class Check:
    """One run."""

    def __init__(self, world: World, plan: Sequence[Perturbation]) -> None:
        self.world = world
        self.network: Network = world.network
        self.plan = plan
        self.outcome = Outcome()

    async def run(self) -> None:
        """Start, perturb, judge; whatever happens, no node is left running."""
        stop = asyncio.Event()
        writing: list[asyncio.Task[None]] = []
        try:
            await self._start()
            writing = [asyncio.create_task(author.write(stop)) for author in self.network.authors]
            for number, item in enumerate(self.plan, 1):
                if not await self._perturb(number, item):
                    break
            stop.set()
            await asyncio.gather(*writing)
            await self._judge()
        finally:
            for task in writing:
                task.cancel()
            await asyncio.gather(*writing, return_exceptions=True)
            for node in self.network.nodes:
                await node.kill()

    async def _start(self) -> None:
        await asyncio.gather(*(node.start() for node in self.network.nodes))
        seconds = await self.world.recovered()
        say(f"{len(self.network.nodes)} nodes with one tip after {seconds:.1f} s")

    async def _perturb(self, number: int, item: Perturbation) -> bool:
        """Do one perturbation; tell whether the network is fit for the next one."""
        target = self.network.nodes[item.target].name
        seconds: float | None = None
        try:
            seconds = await perturb(self.world, item)
        except CommandError as error:
            self.outcome.problems.append(f"{number} {item.kind} {target}: {error}")
        self.outcome.add(item, target, seconds)
        if seconds is None and not await self._goes_on():
            return False
        found = await watch.bans(self.network.nodes)
        self.outcome.problems += [f"after {number} {item.kind} {target}: {ban}" for ban in found]
        acknowledged = sum(len(author.acknowledged) for author in self.network.authors)
        how = "did not recover" if seconds is None else f"recovered after {seconds:.1f} s"
        say(f"{number}/{len(self.plan)} {item.kind} {target}: {how}; {acknowledged} acknowledged")
        return True

    async def _goes_on(self) -> bool:
        """Tell whether the network recovers after a perturbation that went wrong."""
        try:
            await self.world.recovered()
        except CommandError as error:
            self.outcome.problems.append(f"end of the run: {error}")
            return False
        return True

    async def _judge(self) -> None:
        nodes, outcome = self.network.nodes, self.outcome
        outcome.lost = await watch.lost(nodes, self.network.authors)
        outcome.problems += [f"lost {key.hex()[:16]} at {where}" for key, where in outcome.lost.items()]
        try:
            await self.world.recovered()
            outcome.forks_left = 0
        except CommandError as error:
            outcome.problems.append(f"in the end: {error}")
            outcome.forks_left = len(watch.tips(await watch.look(nodes))) - 1
        outcome.height = watch.height(await watch.look(nodes))
        outcome.problems += watch.log_faults(nodes)

    def answers(self) -> dict[str, int]:
        """Return why statements were not taken at once, by how often."""
        total: Counter[str] = Counter()
        for author in self.network.authors:
            total += author.answers
        return dict(total)


def say(line: str) -> None:
    """Tell the person who waits."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def commit() -> str:
    """Return the commit of the code, with a plus sign when files differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--abbrev=12"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def inside(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run in the namespaces and return what the last line says."""
    began = time.monotonic()
    kinds = list(options.kinds)
    with ExitStack() as stack:
        lan = stack.enter_context(
            namespaces.opened(folder / "disks", outside=options.inside, disk_mib=DISK_MIB)
        )
        old = old_release(ROOT, OLD_VERSION, folder / "old-release")
        if old is None and Kind.OLD_RELEASE in kinds:
            say(
                f"left out: {Kind.OLD_RELEASE}, as no commit with wire version {OLD_VERSION} is in this clone"
            )
            kinds.remove(Kind.OLD_RELEASE)
        network = found(folder, lan, options.nodes, seed=options.seed)
        world = World(network=network, relay_host=lan.add(RELAY), scratch=folder, old_release=old)
        plan = manifest(seed=options.seed, count=options.perturbations, nodes=options.nodes, kinds=kinds)
        check = Check(world, plan)
        asyncio.run(_until_signal(check))
    outcome = check.outcome
    times = outcome.times
    return {
        "perturbations": len(outcome.items),
        "recovered": outcome.recovered,
        "forks_left": outcome.forks_left,
        "lost_statements": None if outcome.lost is None else len(outcome.lost),
        "nodes": options.nodes,
        "seed": options.seed,
        "commit": commit(),
        "max_recovery_s": max(times) if times else None,
        "acknowledged": sum(len(author.acknowledged) for author in network.authors),
        "offered_again": sum(author.again for author in network.authors),
        "not_taken_at_once": check.answers(),
        "height": outcome.height,
        "seconds": round(time.monotonic() - began),
        "problems": outcome.problems[:20],
        "items": outcome.items,
        "ok": outcome.held and len(outcome.items) == len(plan),
    }


async def _until_signal(check: Check) -> None:
    """Run, and stop in order when told to."""
    running = asyncio.create_task(check.run())
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--perturbations", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1, help="of the manifest")
    parser.add_argument("--kinds", type=Kind, nargs="+", default=list(Kind), metavar="KIND")
    parser.add_argument("--list", action="store_true", help="print the manifest and exit")
    parser.add_argument("--dir", type=Path, help="new folder, kept, for the logs; default: a temporary one")
    parser.add_argument("--inside", metavar="NAMESPACE", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not NODES_MIN <= options.nodes <= namespaces.HOSTS_MAX:
        parser.error(f"--nodes: expected {NODES_MIN} to {namespaces.HOSTS_MAX}, got {options.nodes}")
    return options


def main() -> int:
    """Run, print, judge."""
    options = parse(None)
    if options.list:
        plan = manifest(
            seed=options.seed, count=options.perturbations, nodes=options.nodes, kinds=options.kinds
        )
        sys.stdout.write("".join(f"{number} {item}\n" for number, item in enumerate(plan, 1)))
        return ExitCode.OK
    try:
        if options.inside is None:
            namespaces.require()
            namespaces.enter(Path(__file__), [*sys.argv[1:], "--inside"])
        os.umask(0o022)
        with ExitStack() as stack:
            if options.dir is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="facechain-net-")))
            else:
                folder = options.dir.absolute()
                folder.mkdir(parents=True)
            seen = inside(folder, options)
    except CommandError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return ExitCode.INTERRUPTED
    sys.stdout.write(json.dumps(seen) + "\n")
    return ExitCode.OK if seen["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
