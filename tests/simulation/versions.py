"""Protocol versions in a run: who knows which, who has to stop before one, and what is checked of that.

A release knows every version up to its newest. A node of an old release warns when the administrators schedule a
version that it does not know, ends by itself before the first block of it, and ends again whenever it is started: until
its operator installs a release that knows that version.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from facechain.consensus.upgrade import FIRST_VERSION, UpgradeNeeded

from .events import Violation

if TYPE_CHECKING:
    from .nodes import SimNode

NEWEST: Final = 8
"""The administrators ask for no later one; a run of the length of a storm hardly gets there."""
AHEAD_BLOCKS: Final = (2, 10)
"""From the tip to the height that the administrators ask for: some heights come before both have asked."""
SCHEDULE_SHARE: Final = 0.35
"""Of what the administrators do."""
STOP_SECONDS: Final = 30.0
"""An old release ends by then, however slow the disk is."""
OUTDATED_SECONDS: Final = 30.0
"""Mean time until an operator does something about a node that stopped."""


def release(newest: int) -> frozenset[int]:
    """Return the versions that a release knows."""
    return frozenset(range(FIRST_VERSION, newest + 1))


KNOWN: Final = release(NEWEST)
"""What a node knows that is up to date."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A version that a node does not know and that the block after its tip has to have."""

    version: int
    height: int
    since: float


class VersionCheck:
    """Holds each node against the schedule as the second implementation reads it."""

    def __init__(self, in_force: Callable[[bytes, int], int]) -> None:
        """`in_force` tells the version of a height on top of a tip."""
        self._in_force = in_force
        self._waiting: dict[str, Unknown] = {}
        """Of nodes that have to stop where they are."""
        self._last: dict[str, Unknown] = {}
        """Of the same, the last of each: while a node ends it may still move to another branch."""
        self.stops = 0

    def on_tip(self, node: SimNode) -> None:
        """A node follows another tip, or has just been started."""
        tip = node.chain.tree.tip
        version = self._in_force(tip.hash, tip.height)
        if tip.height and version not in node.versions:
            raise Violation(f"{node.name} follows a block of version {version}, which it does not know")
        following = self._in_force(tip.hash, tip.height + 1)
        if following in node.versions:
            self._waiting.pop(node.name, None)
            return
        unknown = Unknown(version=following, height=tip.height + 1, since=node.events.now)
        self._waiting[node.name] = self._last[node.name] = unknown

    def on_stop(self, node: SimNode, needed: UpgradeNeeded) -> None:
        """A node ended for want of a newer release: it had to, and says what the page promises."""
        due = self._last.get(node.name)
        if due is None or (needed.version, needed.height) != (due.version, due.height):
            raise Violation(f"{node.name} stopped before a version that it knows: {needed}")
        words = f"block {due.height}: expected software that knows protocol version {due.version}, got one"
        if not needed.message.startswith(words):
            raise Violation(f"{node.name} stopped and said {needed}, expected {words!r}")
        self.stops += 1
        self._waiting.pop(node.name, None)

    def check(self, node: SimNode) -> None:
        """Check a running node: it has no header of an unknown version, and ends in time when it has to."""
        tree = node.chain.tree
        with node.aside():
            for item in tree.chain_tips():
                sealed = node.chain.sealed_header(item.hash)
                if sealed is not None and sealed.header.version not in node.versions:
                    raise Violation(f"{node.name} holds a header of version {sealed.header.version}")
        unknown = self._waiting.get(node.name)
        if unknown is None or node.events.now - unknown.since <= STOP_SECONDS:
            return
        if node.disturbed < unknown.since:
            raise Violation(
                f"{node.name} goes on {STOP_SECONDS:g} s after its last block before version {unknown.version}"
            )
