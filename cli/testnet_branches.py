"""Branches: which different tips the nodes of a test network have, and where they part.

Owns the comparison. What it asks the nodes for grows with the logarithm of a fork's depth, so that it can be done
every second.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
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
    """A tip, and the nodes that have it."""

    height: int
    tip: bytes
    work: int
    """Of the whole chain below the tip."""
    nodes: tuple[str, ...]
    fork_height: int | None = None
    """Height of the last block that it shares with the main branch; None on the main branch, and while not known."""
    fork_hash: bytes | None = None

    @property
    def depth(self) -> int | None:
        """Blocks above the fork point: what its nodes take off when they change to the main branch."""
        return None if self.fork_height is None else self.height - self.fork_height

    @property
    def is_behind(self) -> bool:
        """Tell whether its tip is a block of the main branch: no fork, its nodes only lack what comes after."""
        return self.depth == 0

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` says of it."""
        return {
            "height": self.height,
            "tip": self.tip.hex(),
            "nodes": list(self.nodes),
            "fork_height": self.fork_height,
            "fork_hash": None if self.fork_hash is None else self.fork_hash.hex(),
            "depth": self.depth,
        }


def branches_of(views: Sequence[NodeView]) -> tuple[Branch, ...]:
    """Return the branches of all nodes that answer: the one with the most work first, then by height."""
    found = _by_tip(views)
    if len(found) < 2:
        return found
    return asyncio.run(_with_fork_points(found, {view.node.name: view.node.url or "" for view in views}))


def _by_tip(views: Sequence[NodeView]) -> tuple[Branch, ...]:
    nodes: defaultdict[tuple[int, int, bytes], list[str]] = defaultdict(list)
    for view in views:
        if view.status is not None:
            work = int(str(view.status.content.get("chainwork", "0")), 16)
            nodes[work, view.status.height, view.status.tip].append(view.node.name)
    order = sorted(nodes.items(), key=lambda item: (item[0][0], len(item[1]), item[0][1:]), reverse=True)
    return tuple(
        Branch(height=height, tip=tip, work=work, nodes=tuple(names)) for (work, height, tip), names in order
    )


async def _with_fork_points(found: Sequence[Branch], urls: dict[str, str]) -> tuple[Branch, ...]:
    from .client import NodeClient

    main, *others = found
    async with NodeClient(urls[main.nodes[0]], request_seconds=ASK_SECONDS) as trunk:

        async def compared(branch: Branch) -> Branch:
            async with NodeClient(urls[branch.nodes[0]], request_seconds=ASK_SECONDS) as side:
                return await _compared(main, branch, trunk, side)

        return main, *await asyncio.gather(*map(compared, others))


async def _compared(main: Branch, branch: Branch, trunk: NodeClient, side: NodeClient) -> Branch:
    """Return the branch with its fork point; without one when a node does not answer or reorganises meanwhile."""

    async def differs(height: int) -> bool:
        own = branch.tip if height == branch.height else await _hash_at(side, height)
        return own != await _hash_at(trunk, height)

    try:
        height = await fork_height(min(branch.height, main.height), differs)
        shared = await _hash_at(trunk, height)
    except CommandError:
        return branch
    return replace(branch, fork_height=height, fork_hash=shared)


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
