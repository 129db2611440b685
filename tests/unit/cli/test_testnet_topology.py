"""Shapes of test networks: who is linked with whom."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facechain.cli.testnet_topology import Link, Topology, links


def reached(found: frozenset[Link], nodes: int) -> set[int]:
    """Return the nodes that can be reached from node 0."""
    seen, waiting = {0}, [0]
    while waiting:
        here = waiting.pop()
        near = {other for link in found if here in link for other in link} - seen
        seen |= near
        waiting += near
    return seen & set(range(nodes))


@given(
    st.sampled_from(Topology),
    st.integers(1, 20),
    st.integers(1, 8),
    st.integers(min_value=0, max_value=2**32),
)
def test_every_shape_is_connected_and_links_are_between_two_nodes(
    topology: Topology, nodes: int, degree: int, seed: int
) -> None:
    found = links(topology, nodes, degree=degree, seed=seed)
    assert all(0 <= lower < higher < nodes for lower, higher in found)
    assert reached(found, nodes) == set(range(nodes))
    assert found == links(topology, nodes, degree=degree, seed=seed)


@pytest.mark.parametrize("nodes", [3, 4, 9])
def test_in_a_ring_everybody_has_two_neighbours(nodes: int) -> None:
    found = links(Topology.RING, nodes)
    assert set(Counter(node for link in found for node in link).values()) == {2}
    assert len(found) == nodes


def test_two_nodes_have_one_link_in_every_shape() -> None:
    assert {links(topology, 2) for topology in Topology} == {frozenset({(0, 1)})}


def test_a_mesh_has_every_link_and_gossip_those_of_the_first_node() -> None:
    assert len(links(Topology.MESH, 7)) == 21
    assert links(Topology.GOSSIP, 4) == {(0, 1), (0, 2), (0, 3)}


@given(st.integers(2, 20), st.integers(1, 30), st.integers(0, 1_000))
def test_a_random_network_has_the_degree_that_was_asked_for(nodes: int, degree: int, seed: int) -> None:
    most = nodes * (nodes - 1) // 2
    wanted = min(max(degree * nodes // 2, nodes - 1), most)
    assert len(links(Topology.RANDOM, nodes, degree=degree, seed=seed)) == wanted


def test_seeds_differ() -> None:
    assert len({links(Topology.RANDOM, 12, seed=seed) for seed in range(20)}) > 15
