"""Who names whom in a test network.

Owns the shapes that `testnet up --topology` offers, as pure functions of their arguments. A link is opened by
the node with the greater number, so that two nodes never dial each other at the same time.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from enum import StrEnum
from itertools import combinations
from typing import Final

DEFAULT_DEGREE: Final = 3


class Topology(StrEnum):
    """Shape of a test network."""

    GOSSIP = "gossip"
    """Everybody names the first node and finds the others by itself."""
    MESH = "mesh"
    """Everybody with everybody."""
    RING = "ring"
    """Everybody with two neighbours."""
    RANDOM = "random"
    """A connected graph by chance."""

    @property
    def is_fixed(self) -> bool:
        """Tell whether nodes keep to the links that they were given."""
        return self is not Topology.GOSSIP


Link = tuple[int, int]
"""Numbers of two nodes from 0 on, the smaller one first."""


def links(topology: Topology, nodes: int, *, degree: int = DEFAULT_DEGREE, seed: int = 0) -> frozenset[Link]:
    """Return the links of a network of `nodes` nodes.

    `random` is a tree by chance, so that all nodes are connected, and then links by chance until there are
    `degree` of them for each node on average, or as many as there can be. `seed` decides all of it.
    """
    if topology is Topology.MESH:
        return frozenset(combinations(range(nodes), 2))
    if topology is Topology.RING:
        return frozenset(_ring(nodes))
    if topology is Topology.RANDOM:
        return _random(nodes, degree, random.Random(seed))  # noqa: S311 - no secret
    return frozenset((0, number) for number in range(1, nodes))


def _ring(nodes: int) -> Iterator[Link]:
    yield from ((number - 1, number) for number in range(1, nodes))
    if nodes > 2:  # two nodes have one link
        yield 0, nodes - 1


def _random(nodes: int, degree: int, source: random.Random) -> frozenset[Link]:
    order = source.sample(range(nodes), nodes)
    found = {_link(order[place], source.choice(order[:place])) for place in range(1, nodes)}
    others = sorted(set(combinations(range(nodes), 2)) - found)
    wanted = min(max(degree * nodes // 2 - len(found), 0), len(others))
    return frozenset(found.union(source.sample(others, wanted)))


def _link(first: int, second: int) -> Link:
    return min(first, second), max(first, second)
