"""The propagation study on small networks: every node gets every block, and the figures follow from the seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from facechain.node.wire.limits import MAX_ANNOUNCERS
from simulation.propagation import CHECK_SECONDS, OUTBOUND, Passage, Study, plot, report, row

NODES = 40


ALL = 1_000
"""More announcers than anybody has peers."""


def passages(seed: int = 1, *, missing: float = 0.0, announcers: int = 3, blocks: int = 3) -> list[Passage]:
    study = Study(seed, NODES, statements=10, missing=missing, announcers=announcers)
    return [study.pass_block() for _ in range(blocks)]


@pytest.mark.parametrize("missing", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("announcers", [ALL, 3, 0])
def test_every_block_reaches_every_node(missing: float, announcers: int) -> None:
    for passage in passages(missing=missing, announcers=announcers):
        assert len(passage.reached) == NODES
        assert passage.reached[0] == 0
        assert passage.reached[1] > CHECK_SECONDS


def test_the_figures_follow_from_the_seed() -> None:
    assert passages(2) == passages(2) != passages(3)


def test_a_node_has_as_many_connections_as_it_opens_and_others_open_to_it() -> None:
    study = Study(1, NODES, statements=0, missing=0.0)
    degrees = [len(node.latency) for node in study.nodes]
    assert min(degrees) >= OUTBOUND
    assert sum(degrees) == 2 * OUTBOUND * NODES


def test_nodes_choose_who_announces_by_who_is_first() -> None:
    def chosen() -> list[set[int]]:
        return [
            {peer for peer in node.latency if node.sync.announces_with_leaves(peer)} for node in study.nodes
        ]

    study = Study(1, NODES, statements=10, missing=0.0)
    before = chosen()
    assert all(len(peers) == MAX_ANNOUNCERS for peers in before)
    few = [study.pass_block() for _ in range(5)]
    after = chosen()
    assert all(len(peers) == MAX_ANNOUNCERS for peers in after)
    assert sum(old != new for old, new in zip(before, after, strict=True)) > NODES / 2
    many = passages(announcers=ALL, blocks=5)
    assert sum(item.bytes for item in few) < sum(item.bytes for item in many) * 2 / 3


def test_what_is_missing_is_fetched_and_costs_time_and_bytes() -> None:
    known, missing = report(NODES, passages()), report(NODES, passages(missing=1.0))
    assert missing["bytes_per_node"] > known["bytes_per_node"]  # type: ignore[operator]
    assert missing["seconds"] != known["seconds"]


def test_the_table_and_the_plot_show_the_figures(tmp_path: Path) -> None:
    results = {NODES: passages()}
    figures = report(NODES, results[NODES])
    assert row(figures, "all known").startswith("| 40 | all known | 3 | ")
    plot(results, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000
