"""What is done to whom: a list of perturbations that is a function of a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What can happen."""

    KILL = "kill"
    """SIGKILL, and started again."""
    FREEZE = "freeze"
    """SIGSTOP for ten seconds."""
    PARTITION = "partition"
    """Two sides that do not reach each other, by iptables."""
    EMPTY_STORE = "empty-store"
    """Started again without its store; identity and keys are kept."""
    OLD_WIRE = "old-wire"
    """Speaks the previous wire version for a while, then the present one."""
    OLD_RELEASE = "old-release"
    """Is the last release with the previous wire version for a while, on a store of its own, then the present one."""
    DISK_FULL = "disk-full"
    """No room on its disk."""
    CLOCK_OFF = "clock-off"
    """Its clock is off by less than the network allows: it keeps up all the time."""
    CLOCK_WRONG = "clock-wrong"
    """Its clock is off by more: it keeps up once it is set right."""
    MINER_AHEAD = "miner-ahead"
    """A miner's clock is ahead by more: it makes blocks that the others cannot take before their time."""
    SLOW_LINK = "slow-link"
    """It reaches the others through a slow relay only that breaks its connections."""


HOLD_SECONDS: Final = {
    Kind.KILL: (0.5, 8.0),
    Kind.FREEZE: (10.0, 10.0),
    Kind.PARTITION: (6.0, 14.0),
    Kind.EMPTY_STORE: (0.0, 2.0),
    Kind.OLD_WIRE: (1.0, 3.0),
    Kind.OLD_RELEASE: (1.0, 3.0),
    Kind.DISK_FULL: (4.0, 10.0),
    Kind.CLOCK_OFF: (2.0, 6.0),
    Kind.CLOCK_WRONG: (6.0, 12.0),
    Kind.MINER_AHEAD: (6.0, 12.0),
    Kind.SLOW_LINK: (12.0, 16.0),
}
"""How long it lasts, from and to."""
SMALL_SHIFT_SECONDS: Final = 5
LARGE_SHIFT_SECONDS: Final = 30
MINER_EVERY: Final = 3
"""Of so many nodes one mines, so that both sides of a partition often have a miner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Perturbation:
    """One thing that is done."""

    kind: Kind
    target: int
    """Number of a node, from 0 on."""
    hold_seconds: float
    side: tuple[int, ...]
    """Nodes on one side of a partition, the target among them."""
    silently: bool
    """Whether a partition swallows packets, or answers with resets."""
    ahead: bool
    """Which way a clock is off."""
    helper: int
    """The node that a relay leads to, another one than the target."""


def manifest(
    *, seed: int, count: int, nodes: int, kinds: Sequence[Kind] = tuple(Kind)
) -> tuple[Perturbation, ...]:
    """Return `count` perturbations: all `kinds` in turn, in an order by chance each time."""
    source = random.Random(f"check-net {seed} {nodes}")
    order: list[Kind] = []
    while len(order) < count:
        order += source.sample(list(kinds), len(kinds))
    return tuple(
        _perturbation(kind, nodes, random.Random(f"check-net {seed} {nodes} {number}"))
        for number, kind in enumerate(order[:count])
    )


def _perturbation(kind: Kind, nodes: int, source: random.Random) -> Perturbation:
    target = source.randrange(0, nodes, MINER_EVERY if kind is Kind.MINER_AHEAD else 1)
    others = [number for number in range(nodes) if number != target]
    return Perturbation(
        kind=kind,
        target=target,
        hold_seconds=round(source.uniform(*HOLD_SECONDS[kind]), 1),
        side=tuple(sorted([target, *source.sample(others, source.randrange(nodes // 2))])),
        silently=source.random() < 0.5,
        ahead=source.random() < 0.5,
        helper=source.choice(others),
    )
