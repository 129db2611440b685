"""Attack a real node, one attack after the other, while honest peers are connected to it.

    PYTHONPATH=tests .venv/bin/python tests/hostile/check_hostile.py
    PYTHONPATH=tests .venv/bin/python tests/hostile/check_hostile.py --only identity-theft
    PYTHONPATH=tests .venv/bin/python tests/hostile/check_hostile.py --without-defence

The node is `facechain node start`; some attacks run against one with shorter times and smaller memories (`defences.py`,
"scaled"). During each attack a process of its own asks the node for its status. The node stands an attack when the
offender is sent away with the expected reason (or passed over, where that is the rule), nothing is damaged, the honest
peers stay connected, an honest statement is sealed, memory stays bounded, and 99% of the answers come within 250 ms
or three times what they take without an attack, whichever is more. With `--without-defence` each attack runs against
a node whose defence is taken out, and has to succeed.

The last line of output is JSON; the exit code is 0 when all attacks were stood (or all of them succeeded).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import math
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from hostile.arena import Arena
from hostile.attacker import Ended
from hostile.defences import SCALED
from hostile.health import BASELINE_FACTOR, P99_MS_MAX, Health, Probe, percentile
from hostile.registry import Attack, Seen, load

BASELINE_SECONDS: Final = 10.0
PAUSE_SECONDS: Final = 1.0
"""Without an attack, before each of them: more of the baseline."""
BASELINE_KEPT: Final = 2_000
STRIKE_SECONDS: Final = 120.0
REPEATS: Final = 2
AT_ONCE: Final = 3
BANNED_SECONDS: Final = 3.0
"""For a ban that follows the end of a connection."""
PATIENCE_SECONDS: Final = 3.0
"""For a reason from a node without its defence, unless its times are scaled: with it, the reason comes at once."""
RECORD: Final = Path(__file__).with_name("without_defence.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """The result of one attack."""

    name: str
    covers: Sequence[str]
    scaled: bool
    expects: str
    without: str
    """The defence that was taken out, or would be."""
    reason_seen: str
    damage: str
    p99_ms: float
    baseline_p99_ms: float
    rss_mb: float
    survived: bool
    defence_removed: str | None
    faults: Sequence[str]
    seconds: float = 0.0
    runs: int = 1

    load: float = 0.0
    """Processes that wanted to run, on average over the last minute."""

    @property
    def is_slow_only(self) -> bool:
        """Whether slow answers are all that is wrong."""
        return bool(self.faults) and all(fault.startswith("p99 of ") for fault in self.faults)


def defences_of(attack: Attack, *, without_defence: bool) -> tuple[str, ...]:
    """Return what is changed in the node that an attack runs against; what makes it smaller comes first."""
    removed = (attack.without,) if without_defence else ()
    return (*((SCALED,) if attack.scaled else ()), *removed)


class Range:
    """Runs attacks one after the other in one arena."""

    def __init__(self, arena: Arena, *, without_defence: bool) -> None:
        self.arena = arena
        self.without_defence = without_defence
        self.baseline: deque[float] = deque(maxlen=BASELINE_KEPT)
        self._probe: Probe | None = None
        self._stack = ExitStack()
        self._struck = False

    async def prepare(self, defences: Sequence[str]) -> None:
        """Have a victim with these changes, and its probe; without a defence, one that nobody attacked yet."""
        is_there = tuple(defences) == tuple(self.arena.victim.defences)
        if not is_there or (self.without_defence and self._struck):
            await self.arena.restart(defences)
            self._probe = None
        if self._probe is None:
            self._stack.close()
            file = self.arena.root / f"probe-{self.arena.lives}.txt"
            self._probe = self._stack.enter_context(Probe(self.arena.api_address, file))

    async def rest(self, seconds: float) -> None:
        """Take answer times while nothing attacks."""
        begin = time.monotonic()
        await asyncio.sleep(seconds)
        self.baseline.extend(self._answers(begin, time.monotonic()))

    def _answers(self, begin: float, end: float) -> list[float]:
        return [] if self._probe is None else self._probe.between(begin, end)

    def close(self) -> None:
        """End the probe."""
        self._stack.close()

    async def run(self, attack: Attack, *, judges_time: bool = True) -> Item:
        """Run one attack; `judges_time`: whether slow answers count as a fault.

        Where slow answers are the only fault it is run twice more, and the run in the middle counts: other work on the
        machine looks the same.
        """
        items = [await self._run_once(attack, judges_time=judges_time)]
        if items[0].is_slow_only and not self.without_defence:
            items += [await self._run_once(attack, judges_time=judges_time) for _ in range(REPEATS)]
        middle = sorted(items, key=lambda item: (item.survived, -item.p99_ms))[len(items) // 2]
        return replace(middle, runs=len(items))

    async def _run_once(self, attack: Attack, *, judges_time: bool) -> Item:
        await self.prepare(defences_of(attack, without_defence=self.without_defence))
        is_quick = self.without_defence and not attack.scaled
        self.arena.patience_seconds = PATIENCE_SECONDS if is_quick else math.inf
        if attack.slows or not self.without_defence:
            await self.rest(PAUSE_SECONDS)
        started = time.monotonic()
        health = Health(arena=self.arena)
        self._struck = True
        async with health:
            seen = await self._strike(attack)
            if attack.bans and not await self.arena.within(self._is_banned, BANNED_SECONDS):
                seen = replace(seen, damage=seen.damage or "the offender is not banned")
            health.is_cut = self.without_defence and (seen.reason != attack.expects or bool(seen.damage))
        await self.arena.leave()
        item = self._judge(attack, seen, health, judges_time=judges_time)
        return replace(item, seconds=round(time.monotonic() - started, 1), load=round(os.getloadavg()[0], 1))

    async def _strike(self, attack: Attack) -> Seen:
        try:
            async with asyncio.timeout(STRIKE_SECONDS):
                return await attack.strike(self.arena)
        except Ended as error:
            return Seen(reason=str(error), damage="the attacker was turned away before it could strike")
        except Exception as error:  # noqa: BLE001 - one attack that breaks is one result
            traceback.print_exc()
            return Seen(reason="", damage=f"the attack itself broke: {error!r}", is_broken=True)

    async def _is_banned(self) -> bool:
        """Tell whether the last offender is on the list: its connection's log line and its ban share the reason."""
        bans = await self.arena.bans()
        ours = {peer.identity.key.public.hex() for peer in self.arena.peers}
        return bool(ours & bans.keys())

    def _judge(self, attack: Attack, seen: Seen, health: Health, *, judges_time: bool) -> Item:
        answers = self._answers(health.began, health.ended)
        p99, base = percentile(answers), percentile(list(self.baseline))
        faults = [] if self.without_defence else list(health.faults)
        judges_time &= attack.slows or not self.without_defence
        if judges_time and p99 > max(P99_MS_MAX, BASELINE_FACTOR * base):
            faults.append(f"p99 of {p99:.0f} ms, baseline {base:.0f} ms")
        if seen.reason != attack.expects:
            faults.append(f"expected {attack.expects!r}, got {seen.reason!r}")
        if seen.damage:
            faults.append(seen.damage)
        survived = not faults or (self.without_defence and seen.is_broken)
        return Item(
            name=attack.name,
            covers=attack.covers,
            scaled=attack.scaled,
            expects=attack.expects,
            without=attack.without,
            reason_seen=seen.reason,
            damage=seen.damage,
            p99_ms=round(p99, 1),
            baseline_p99_ms=round(base, 1),
            rss_mb=round(health.rss_mib, 1),
            survived=survived,
            defence_removed=("; ".join(faults) or "it did not succeed") if self.without_defence else None,
            faults=faults,
        )


def chosen(names: Sequence[str]) -> list[Attack]:
    """Return the attacks to run, those against one kind of node together."""
    attacks = load()
    unknown = [name for name in names if name not in attacks]
    if unknown:
        raise SystemExit(f"--only: expected one of {', '.join(sorted(attacks))}, got {', '.join(unknown)}")
    picked = [item for item in attacks.values() if not names or item.name in names]
    return sorted(picked, key=lambda item: (item.is_long, item.scaled))


def recorded() -> dict[str, str]:
    """Return what the last recorded run with `--without-defence` saw of the attacks that succeeded."""
    found = json.loads(RECORD.read_text(encoding="utf-8"))
    return {item["name"]: item["defence_removed"] for item in found["items"] if not item["survived"]}


def summary(items: Sequence[Item], *, seed: int, without_defence: bool, seconds: float) -> dict[str, Any]:
    """Return the results of a run, for its last line."""
    rows = [asdict(item) for item in items]
    before = {} if without_defence or not RECORD.exists() else recorded()
    for row in rows:
        row["defence_removed"] = row["defence_removed"] or before.get(row["name"])
    return {
        "attacks": len(items),
        "survived": sum(item.survived for item in items),
        "verdict": f"p99 <= max({P99_MS_MAX:.0f} ms, {BASELINE_FACTOR:g} x baseline)",
        "p99_ms_highest": max((item.p99_ms for item in items), default=0.0),
        "rss_mb_highest": max((item.rss_mb for item in items), default=0.0),
        "load_highest": max((item.load for item in items), default=0.0),
        "seconds": round(seconds),
        "items": rows,
        "seed": seed,
        "commit": _commit(),
    }


def record_of(result: dict[str, Any], before: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """Return what is kept of a run without defences, each item with its commit; `before`: items of earlier runs."""
    kept = ("name", "without", "survived", "reason_seen", "defence_removed", "seconds", "load")
    fresh = {
        row["name"]: {
            **{name: row[name] for name in kept},
            "seed": result["seed"],
            "commit": result["commit"],
        }
        for row in result["items"]
    }
    items = [fresh.pop(item["name"], item) for item in before]
    return {"command": "make check-hostile WITHOUT_DEFENCE=1 RECORD=1", "items": [*items, *fresh.values()]}


def _commit() -> str:
    """Name the commit that is tested, as far as there is one."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return done.stdout.strip() or "unknown"


async def run_all(
    attacks: Sequence[Attack], *, seed: int, without_defence: bool, root: Path, at_once: int
) -> list[Item]:
    """Run attacks in new arenas: those that need a long chain, or are after slow answers, in one of their own."""
    groups = [
        [item for item in attacks if item.is_long],
        [item for item in attacks if not item.is_long and (item.slows or not without_defence)],
    ]
    others = [item for item in attacks if not item.is_long and item.slows < without_defence]
    lanes = [others[start::at_once] for start in range(at_once)]
    items: list[Item] = []
    for number, group in enumerate([*filter(None, groups)]):
        place = root / f"arena-{number}"
        items += await run_group(group, seed=seed, without_defence=without_defence, root=place)
    found = await asyncio.gather(
        *(
            run_group(lane, seed=seed, without_defence=without_defence, root=root / f"lane-{number}")
            for number, lane in enumerate(filter(None, lanes))
        )
    )
    order = {item.name: index for index, item in enumerate(attacks)}
    return sorted((*items, *(item for lane in found for item in lane)), key=lambda item: order[item.name])


async def run_group(attacks: Sequence[Attack], *, seed: int, without_defence: bool, root: Path) -> list[Item]:
    """Run attacks in one arena."""
    items = []
    first = defences_of(attacks[0], without_defence=without_defence)
    async with Arena(root, seed_number=seed, defences=first, is_long=attacks[0].is_long) as arena:
        place = Range(arena, without_defence=without_defence)
        try:
            if not without_defence:
                await place.prepare(first)
                await place.rest(BASELINE_SECONDS)
            for attack in attacks:
                try:
                    item = await place.run(attack)
                except (RuntimeError, AssertionError) as error:
                    sys.stderr.write(f"{attack.name}: could not be run: {error}\n")
                    continue
                items.append(item)
                sys.stderr.write(line_of(item) + "\n")
        finally:
            place.close()
    return items


def line_of(item: Item) -> str:
    """Return what is said of an attack while others follow."""
    word = "stood" if item.survived else "FELL"
    said = (
        f"{word:5} {item.name}: {item.reason_seen or 'no reason'}, p99 {item.p99_ms} ms "
        f"(baseline {item.baseline_p99_ms}), {item.rss_mb} MiB, {item.seconds} s"
    )
    return "".join((said, *(f"\n      {fault}" for fault in item.faults)))


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="only this attack (repeatable)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the attacker's keys and hashes (default: 1)")
    parser.add_argument(
        "--without-defence", action="store_true", help="take each attack's defence out; it has to succeed"
    )
    parser.add_argument(
        "--record", action="store_true", help=f"keep what was seen without defences in {RECORD.name}"
    )
    parser.add_argument(
        "--at-once",
        type=int,
        default=AT_ONCE,
        metavar="N",
        help=f"victims without defences at a time, each with honest peers of its own (default: {AT_ONCE})",
    )
    parser.add_argument("--folder", type=Path, help="keep the nodes' folders here (default: removed)")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    started = time.monotonic()
    attacks = chosen(options.only)
    with tempfile.TemporaryDirectory(prefix="facechain-hostile-") as scratch:
        items = asyncio.run(
            run_all(
                attacks,
                seed=options.seed,
                without_defence=options.without_defence,
                root=options.folder or Path(scratch),
                at_once=options.at_once if options.without_defence else 1,
            )
        )
    seconds = time.monotonic() - started
    result = summary(items, seed=options.seed, without_defence=options.without_defence, seconds=seconds)
    if options.record and options.without_defence:
        before = json.loads(RECORD.read_text(encoding="utf-8"))["items"] if options.only else ()
        RECORD.write_text(json.dumps(record_of(result, before), indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(result) + "\n")
    survived = result["survived"]
    good = len(items) == len(attacks) and survived == (0 if options.without_defence else len(items))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
