"""The header tree: fork choice, refusals by checkpoint and depth, locators, missing bodies."""

from __future__ import annotations

import pytest

from facechain.consensus.errors import RuleViolation, Temporary
from support.chain import ChainBuilder, make_genesis
from support.trees import TreeBuilder, header


def test_most_work_wins_and_not_most_blocks() -> None:
    build = TreeBuilder()
    long = build.line(0, 3)
    assert build.tree.best_candidate() is long[-1]
    build.tree.set_tip(long[-1])
    short = build.line(0, 2, heavy=True)
    assert build.tree.best_candidate() is short[-1]
    plan = build.tree.plan(short[-1])
    assert plan.fork is build.tree.active[0]
    assert plan.disconnect == (long[2], long[1], long[0])
    assert plan.connect == tuple(short)
    build.tree.set_tip(short[-1])
    assert build.tree.best_candidate() is None
    assert [build.tree.is_active(node) for node in (*long, *short)] == [False] * 3 + [True] * 2


def test_first_complete_chain_wins_a_tie() -> None:
    build = TreeBuilder()
    first, second = build.add(0, body=False), build.add(0)
    build.tree.mark_body(first)
    assert build.tree.best_candidate() is second
    build.tree.set_tip(second)
    assert build.tree.best_candidate() is None


def test_chain_without_all_bodies_is_no_candidate() -> None:
    build = TreeBuilder()
    line = build.line(0, 3, body=False)
    build.tree.mark_body(line[2])
    build.tree.mark_body(line[1])
    assert build.tree.best_candidate() is None
    assert build.tree.missing_bodies(limit=9) == (line[0],)
    build.tree.mark_body(line[0])
    assert build.tree.best_candidate() is line[2]
    build.tree.mark_body(line[0])
    assert [node.arrival for node in line] == [1, 2, 3]


def test_missing_bodies_are_the_lowest_first() -> None:
    build = TreeBuilder()
    line = build.line(0, 5, body=False)
    build.tree.mark_body(line[1])
    assert build.tree.missing_bodies(limit=2) == (line[0], line[2])
    assert build.tree.missing_bodies(limit=9) == (line[0], *line[2:])
    assert build.tree.missing_bodies(limit=0) == ()


def test_missing_bodies_towards_another_chain_than_the_best() -> None:
    build = TreeBuilder()
    withheld = build.line(0, 5, body=False)
    honest = build.line(0, 3, body=False)
    assert build.tree.missing_bodies(limit=2) == (withheld[0], withheld[1])
    assert build.tree.missing_bodies(limit=2, towards=honest[-1]) == (honest[0], honest[1])
    assert build.tree.without_body(honest[1]) == (honest[1], honest[0])


def test_headers_that_wait_for_nothing_good_are_forgotten() -> None:
    build = TreeBuilder()
    active = build.line(0, 4)
    build.tree.set_tip(active[-1])
    weak = build.line(0, 3, body=False)
    kept = build.line(0, 3, body=False)
    strong = build.line(0, 6, body=False)
    gone = build.tree.forget_waiting({kept[1].hash}, below=active[-1].chainwork)
    assert set(gone) == {node.hash for node in (*weak, kept[2])}
    assert all(build.tree.get(node.hash) is node for node in (*active, *kept[:2], *strong))
    assert build.tree.forget_waiting((), below=2**255) == (kept[1].hash, kept[0].hash)
    assert build.tree.best_header is strong[-1]
    again = build.tree.restore(build.made[5])
    build.tree.mark_body(again)
    assert again.linked


def test_invalid_block_takes_its_descendants_along() -> None:
    build = TreeBuilder()
    line = build.line(0, 3)
    side = build.line(0, 2)
    build.tree.mark_invalid(build.add(0))
    assert build.tree.best_header is line[-1]
    build.tree.mark_invalid(line[1])
    assert [node.invalid for node in line] == [False, True, True]
    assert build.tree.best_header is side[-1]
    assert build.tree.best_candidate() is side[-1]
    late = build.tree.restore(header(line[2].hash, 4, 99))
    build.tree.mark_body(late)
    assert late.invalid
    assert build.tree.best_header is side[-1]
    assert build.tree.best_candidate() is side[-1]
    assert build.tree.missing_bodies(limit=9) == ()


def test_reorganisation_that_meets_an_invalid_block_goes_back() -> None:
    """The node is half-way up a heavier chain when a block fails: the old tip must be best again."""
    build = TreeBuilder()
    old = build.line(0, 3)
    build.tree.set_tip(old[-1])
    new = build.line(0, 5)
    assert build.tree.best_candidate() is new[-1]
    build.tree.set_tip(new[0])
    build.tree.mark_invalid(new[1])
    assert build.tree.best_candidate() is old[-1]


def test_rollback_by_the_operator_can_be_taken_back() -> None:
    build = TreeBuilder()
    line = build.line(0, 4)
    build.tree.set_tip(line[-1])
    build.tree.set_tip(build.tree.active[1])
    assert build.tree.best_candidate() is line[-1]


def test_checkpoint_and_depth_keep_a_heavier_chain_out() -> None:
    build = TreeBuilder()
    active = build.line(0, 5)
    build.tree.set_tip(active[-1])
    deep = build.line(2, 9)
    assert build.tree.best_candidate(checkpoint_height=2) is deep[-1]
    assert build.tree.best_candidate(checkpoint_height=3) is None
    assert build.tree.best_candidate(max_reorg=3) is deep[-1]
    assert build.tree.best_candidate(max_reorg=2) is None
    refused = build.tree.refused_candidates(checkpoint_height=3, max_reorg=99)
    assert refused == build.tree.refused_candidates(checkpoint_height=0, max_reorg=2)
    assert deep[-1] in refused
    assert not build.tree.refused_candidates(checkpoint_height=2, max_reorg=3)
    build.add(5)
    following = build.tree.nodes[build.made[-1].hash]
    assert build.tree.best_candidate(checkpoint_height=5, max_reorg=0) is following
    assert following not in build.tree.refused_candidates(checkpoint_height=5, max_reorg=0)


def test_candidates_with_less_work_are_not_refused_but_uninteresting() -> None:
    build = TreeBuilder()
    build.tree.set_tip(build.line(0, 5)[-1])
    build.line(0, 2)
    assert build.tree.refused_candidates(checkpoint_height=3, max_reorg=1) == ()


def test_locator_names_every_height_near_the_tip_and_few_below() -> None:
    build = TreeBuilder()
    line = build.line(0, 1_000)
    build.tree.set_tip(line[-1])
    heights = [build.tree.nodes[item].height for item in build.tree.locator()]
    assert heights[:10] == list(range(1_000, 990, -1))
    assert heights[-1] == 0
    assert heights == sorted(set(heights), reverse=True)
    assert len(heights) < 20
    assert build.tree.locator(build.tree.active[0]) == (build.made[0].hash,)
    assert len(build.tree.locator(line[4])) == 6


def test_locate_finds_the_newest_common_block() -> None:
    build = TreeBuilder()
    active = build.line(0, 20)
    build.tree.set_tip(active[-1])
    side = build.line(15, 2)
    fork = active[14]
    assert build.tree.locate(build.tree.locator(side[-1])) is fork
    assert build.tree.locate((bytes(32), side[-1].hash)) is build.tree.active[0]
    assert build.tree.locate(()) is build.tree.active[0]
    assert build.tree.after(fork, limit=3) == tuple(active[15:18])
    assert build.tree.after(fork, limit=9, stop=active[16].hash) == tuple(active[15:17])
    assert build.tree.after(active[-1], limit=9) == ()


def test_chain_tips_most_work_first() -> None:
    build = TreeBuilder()
    long, short = build.line(0, 3), build.line(0, 1, heavy=True)
    assert build.tree.chain_tips() == (long[-1], short[-1])
    assert build.tree.get(long[0].hash) is long[0]
    assert build.tree.get(bytes(32)) is None


def test_known_header_is_not_added_twice() -> None:
    build = TreeBuilder()
    node = build.add(0)
    assert build.tree.restore(build.made[1]) is node
    assert build.tree.add_header(build.made[1]) is node
    assert build.tree._children[build.made[0].hash] == [node]


def test_header_with_an_unknown_or_invalid_parent() -> None:
    build = TreeBuilder()
    orphan = header(bytes(32), 1, 1)
    with pytest.raises(Temporary, match="missing-parent"):
        build.tree.add_header(orphan)
    build.tree.mark_invalid(build.add(0))
    with pytest.raises(RuleViolation, match="bad-prevblk"):
        build.tree.add_header(build.make(1))


def test_plan_for_a_block_of_another_tree() -> None:
    build, other = TreeBuilder(), TreeBuilder()
    other.tree.active[0].hash = bytes(32)
    stranger = other.tree.active[0]
    with pytest.raises(ValueError, match="expected one of this tree"):
        build.tree.plan(stranger)


def test_context_of_short_and_long_chains() -> None:
    chain = ChainBuilder(make_genesis(producer_share=15, producer_window=20))
    genesis = chain.tree.tip
    context = chain.tree.context(genesis)
    assert (context.median_time_ms, context.recent_producers) == (genesis.time_ms, ())
    chain.mine_many(14)
    times = [node.time_ms for node in chain.tree.active]
    context = chain.tree.context(chain.tree.tip)
    assert context.median_time_ms == sorted(times[-11:])[5]
    assert len(context.recent_producers) == 14
    assert chain.tree.tip.anchor_time_ms == chain.tree.active[1].time_ms
