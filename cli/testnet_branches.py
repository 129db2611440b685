"""Branches: which different tips the nodes of a test network have, and where they part.

Owns the comparison. What it asks the nodes for grows with the logarithm of a fork's depth, so that it can be done
every second.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from .errors import CommandError, NotFoundError

if TYPE_CHECKING:
    from .client import NodeClient
    from .testnet_network import NodeView

ASK_SECONDS: Final = 5.0

Differs = Callable[[int], Awaitable[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A tip that no other node's chain goes on from, and the nodes on the way to it."""

    height: int
    tip: bytes
    nodes: Mapping[str, int]
    """Nodes whose tip is on this branch, and by how many blocks each is behind: 0 is at the tip."""
    fork_height: int | None = None
    """Height of the last block that it shares with the main branch; None on the main branch, and while not known."""
    fork_hash: bytes | None = None

    @property
    def depth(self) -> int | None:
        """Blocks above the fork point: what its nodes take off when they change to the main branch."""
        return None if self.fork_height is None else self.height - self.fork_height

    def joined_by(self, tip: Tip) -> Branch:
        """Return the branch with the nodes of a tip that is one of its blocks."""
        behind = self.height - tip.height
        return replace(self, nodes={**self.nodes, **dict.fromkeys(tip.nodes, behind)})

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` says of it."""
        return {
            "height": self.height,
            "tip": self.tip.hex(),
            "nodes": dict(self.nodes),
            "fork_height": self.fork_height,
            "fork_hash": None if self.fork_hash is None else self.fork_hash.hex(),
            "depth": self.depth,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Tip:
    """A tip as nodes have it."""

    height: int
    hash: bytes
    nodes: tuple[str, ...]

    def as_branch(self) -> Branch:
        """Return a branch that ends here."""
        return Branch(height=self.height, tip=self.hash, nodes=dict.fromkeys(self.nodes, 0))


def branches_of(views: Sequence[NodeView]) -> tuple[Branch, ...]:
    """Return the branches of all nodes that answer; the first one is the main one, with the most work."""
    tips = _tips(views)
    if len(tips) < 2:
        return tuple(tip.as_branch() for tip in tips)
    return asyncio.run(_branches(tips, {view.node.name: view.node.url or "" for view in views}))


def _tips(views: Sequence[NodeView]) -> tuple[Tip, ...]:
    """Return all different tips, that of the most work first and one of more nodes before another of the same work."""
    nodes: defaultdict[tuple[int, int, bytes], list[str]] = defaultdict(list)
    for view in views:
        if view.status is not None:
            work = int(str(view.status.content.get("chainwork", "0")), 16)
            nodes[work, view.status.height, view.status.tip].append(view.node.name)
    order = sorted(nodes.items(), key=lambda item: (item[0][0], len(item[1]), item[0][1:]), reverse=True)
    return tuple(Tip(height=height, hash=tip, nodes=tuple(names)) for (_, height, tip), names in order)


async def _branches(tips: Sequence[Tip], urls: Mapping[str, str]) -> tuple[Branch, ...]:
    """Put each tip on a branch of more work where it is one of its blocks, else let it begin one."""
    from .client import NodeClient

    found: list[Branch] = []
    async with AsyncExitStack() as stack:
        clients: list[NodeClient] = []
        for tip in tips:
            place = await _place_of(tip, clients)
            if place is not None:
                found[place] = found[place].joined_by(tip)
                continue
            client = NodeClient(urls[tip.nodes[0]], request_seconds=ASK_SECONDS)
            clients.append(await stack.enter_async_context(client))
            branch = tip.as_branch()
            found.append(await _with_fork_point(branch, found[0], clients) if found else branch)
    return tuple(found)


async def _place_of(tip: Tip, clients: Sequence[NodeClient]) -> int | None:
    """Return the place of the first of these nodes that has the tip in its chain."""
    for place, client in enumerate(clients):
        with suppress(CommandError):
            if await _hash_at(client, tip.height) == tip.hash:
                return place
    return None


async def _with_fork_point(branch: Branch, main: Branch, clients: Sequence[NodeClient]) -> Branch:
    """Return the branch with its fork point; without one when a node does not answer, or reorganises meanwhile."""
    trunk, side = clients[0], clients[-1]

    async def differs(height: int) -> bool:
        own = branch.tip if height == branch.height else await _hash_at(side, height)
        return own != await _hash_at(trunk, height)

    try:
        height = await fork_height(min(branch.height, main.height), differs)
        shared = await _hash_at(trunk, height)
    except CommandError:
        return branch
    return replace(branch, fork_height=height, fork_hash=shared)


class Agreement:
    """Nodes come to agree: all hold the block that was the best tip at the first look.

    Where blocks come faster than they spread, as on a ring of twenty, there may never be an instant with one tip only.
    """

    def __init__(self) -> None:
        """Nothing was looked at."""
        self._goal: Tip | None = None

    async def reached(self, views: Sequence[NodeView]) -> bool:
        """Tell whether all of these nodes answer and agree; the best tip is chosen anew when no node holds it any more."""
        found = _tips(views)
        if not found or any(view.status is None for view in views):
            return False
        goal = self._goal = self._goal or found[0]
        if len(found) == 1:
            return True
        if any(tip.height < goal.height for tip in found):
            return False
        holds = [await _holds(view.node.url or "", goal) for view in views]
        if not any(holds):
            self._goal = None
        return all(holds)


async def _holds(url: str, goal: Tip) -> bool:
    from .client import NodeClient

    async with NodeClient(url, request_seconds=ASK_SECONDS) as client:
        try:
            return await _hash_at(client, goal.height) == goal.hash
        except CommandError:
            return False


async def fork_height(top: int, differs: Differs) -> int:
    """Return the greatest height up to `top` at which two chains do not differ; block 0 they share.

    The steps down double, and the last one is then halved again and again.
    """
    same, step = top, 1
    different = top + 1
    while same > 0 and await differs(same):
        different, same, step = same, max(0, same - step), 2 * step
    while different - same > 1:
        middle = (same + different) // 2
        if await differs(middle):
            different = middle
        else:
            same = middle
    return same


async def _hash_at(client: NodeClient, height: int) -> bytes | None:
    """Return the hash at a height of a node's chain; None above its tip."""
    try:
        return (await client.block(height)).hash
    except NotFoundError:
        return None
