"""Scenarios: what happens to a test network, step by step, from a TOML file.

Owns the file's form; `TrialNetwork` does the steps. A file is read whole and checked before anything starts:

    [[step]]
    do = "partition"                    # groups that cannot talk; nodes that no group names are one more
    groups = [["node-1", "node-2"]]

    [[step]]
    after = 10                          # seconds that pass before this step
    do = "heal"

    [[step]]
    do = "one-tip"                      # wait until all running nodes have one tip
    within = 20                         # seconds; a failure after them

Other steps: "kill" (SIGKILL), "restart", "freeze" (SIGSTOP) and "thaw" (SIGCONT), each with `nodes`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from .errors import UsageError

MAX_FILE_BYTES: Final = 1 << 20
MAX_STEPS: Final = 1_000
MAX_SECONDS: Final = 86_400.0
DEFAULT_WITHIN_SECONDS: Final = 20.0


class Deed(StrEnum):
    """What a step does."""

    PARTITION = "partition"
    HEAL = "heal"
    KILL = "kill"
    RESTART = "restart"
    FREEZE = "freeze"
    THAW = "thaw"
    ONE_TIP = "one-tip"


_FIELDS: Final[Mapping[Deed, frozenset[str]]] = {
    Deed.PARTITION: frozenset({"groups"}),
    Deed.HEAL: frozenset(),
    Deed.KILL: frozenset({"nodes"}),
    Deed.RESTART: frozenset({"nodes"}),
    Deed.FREEZE: frozenset({"nodes"}),
    Deed.THAW: frozenset({"nodes"}),
    Deed.ONE_TIP: frozenset({"within"}),
}
"""Fields of each kind of step beside `do` and `after`; all but `within` are needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a scenario."""

    deed: Deed
    after_seconds: float = 0.0
    """Time that passes between the end of the step before and this one."""
    nodes: tuple[str, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()
    within_seconds: float = DEFAULT_WITHIN_SECONDS

    def __str__(self) -> str:
        names = " | ".join(map(",".join, self.groups)) or ",".join(self.nodes)
        return f"{self.deed} {names}".rstrip()


def read_scenario(path: Path, known: Sequence[str]) -> tuple[Step, ...]:
    """Read a scenario for a network of the nodes `known`; UsageError when it is none."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(
            str(path), expected="a scenario that can be read", got=str(error.strerror)
        ) from error
    if len(text) > MAX_FILE_BYTES:
        raise UsageError(str(path), expected=f"at most {MAX_FILE_BYTES} bytes", got="more")
    try:
        content = tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise UsageError(str(path), expected="TOML", got=str(error)) from error
    steps = content.get("step")
    if set(content) != {"step"} or not isinstance(steps, list) or not 0 < len(steps) <= MAX_STEPS:
        raise UsageError(
            str(path), expected=f"1 to {MAX_STEPS} [[step]] tables", got=", ".join(content) or "nothing"
        )
    return tuple(_step(f"{path}: step {number}", item, known) for number, item in enumerate(steps, 1))


def _step(where: str, item: object, known: Sequence[str]) -> Step:
    if not isinstance(item, dict):
        raise UsageError(where, expected="a table", got=repr(item)[:80])
    try:
        deed = Deed(item.get("do", ""))
    except ValueError:
        raise UsageError(
            where, expected=f"do = one of {', '.join(Deed)}", got=repr(item.get("do"))[:80]
        ) from None
    given, allowed = set(item) - {"do", "after"}, _FIELDS[deed]
    if given - allowed or allowed - given - {"within"}:
        wanted = ", ".join(sorted(allowed)) or "no fields"
        raise UsageError(
            f"{where} ({deed})", expected=f"{wanted}, and after", got=", ".join(sorted(given)) or "none"
        )
    return Step(
        deed=deed,
        after_seconds=_seconds(where, item, "after", 0.0),
        nodes=_names(where, item.get("nodes", []), known) if "nodes" in allowed else (),
        groups=_groups(where, item["groups"], known) if "groups" in allowed else (),
        within_seconds=_seconds(where, item, "within", DEFAULT_WITHIN_SECONDS),
    )


def _seconds(where: str, item: Mapping[str, Any], name: str, default: float) -> float:
    found = item.get(name, default)
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= MAX_SECONDS:
        raise UsageError(
            f"{where}: {name}", expected=f"seconds from 0 to {MAX_SECONDS:g}", got=repr(found)[:80]
        )
    return float(found)


def _groups(where: str, found: object, known: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    if not isinstance(found, list) or not found:
        raise UsageError(f"{where}: groups", expected="lists of nodes", got=repr(found)[:80])
    return check_groups(f"{where}: groups", [_names(where, item, known) for item in found], known)


def check_groups(
    where: str, groups: Sequence[Sequence[str]], known: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """Return groups of which no two share a node, all others as one more group; UsageError when that leaves one."""
    named = [name for group in groups for name in group]
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise UsageError(where, expected="every node in one group", got=f"{', '.join(twice)} twice")
    rest = tuple(name for name in known if name not in named)
    found = tuple(map(tuple, groups)) + ((rest,) if rest else ())
    if len(found) < 2:
        raise UsageError(where, expected="at least two groups", got="all nodes in one")
    return found


def _names(where: str, found: object, known: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(found, list) or not found:
        raise UsageError(f"{where}: nodes", expected="a list of names", got=repr(found)[:80])
    return check_names(where, found, known)


def check_names(where: str, names: Sequence[object], known: Sequence[str]) -> tuple[str, ...]:
    """Return names of nodes as they are; UsageError when one is not among `known`."""
    for name in names:
        if name not in known:
            raise UsageError(where, expected=f"a node of {', '.join(known)}", got=repr(name)[:80])
    return tuple(map(str, names))
