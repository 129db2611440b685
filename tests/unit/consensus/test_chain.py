"""The header tree: fork choice, refusals by checkpoint and depth, locators, missing bodies."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import replace

import pytest

from facechain.consensus import chain as chain_module
from facechain.consensus.block import SealedHeader
from facechain.consensus.chain import BlockTree
from facechain.consensus.errors import DecodeError, RuleViolation, Temporary
from support.chain import ChainBuilder, easy_params, make_genesis, seed
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
    assert build.tree.without_body(line[2]) == (line[0],)
    build.tree.mark_body(line[0])
    assert build.tree.best_candidate() is line[2]
    build.tree.mark_body(line[0])
    assert [node.linked for node in line] == [True] * 3


def test_children_complete_in_the_order_of_their_headers() -> None:
    """Both wait for their parent's body, so they become linked at one moment: the first header wins the tie."""
    build = TreeBuilder()
    parent = build.add(0, body=False)
    first, second, third = (build.add(1) for _ in range(3))
    assert parent.children() == [first, second, third]
    build.tree.mark_body(parent)
    assert build.tree.best_candidate() is first
    build.tree.mark_invalid(first)
    assert build.tree.best_candidate() is second
    assert second.arrival < third.arrival


def test_tie_between_chains_that_grew_in_turns() -> None:
    build = TreeBuilder()
    left, right = build.add(0), build.add(0)
    build.add(2)
    late = build.add(1)
    early = build.tree.nodes[build.made[3].hash]
    assert (left.chainwork, early.chainwork) == (right.chainwork, late.chainwork)
    assert build.tree.best_candidate() is early
    assert build.tree.chain_tips() == (early, late)
    above = [build.add(4), build.add(3)]
    assert build.tree.best_candidate() is above[0]


def test_candidates_are_the_ends_of_chains_with_more_work() -> None:
    build = TreeBuilder()
    active = build.line(0, 4)
    build.tree.set_tip(active[-1])
    weak = build.line(0, 3)
    refusals = {"checkpoint_height": 2, "max_reorg": 99}
    assert build.tree.refused_candidates(**refusals) == ()
    strong = [build.add(len(build.made) - 1) for _ in range(3)]
    assert build.tree.refused_candidates(**refusals) == (strong[-1],)
    build.tree.mark_invalid(strong[-1])
    assert build.tree.refused_candidates(**refusals) == (strong[1],)
    build.tree.mark_invalid(strong[1])
    assert build.tree.refused_candidates(**refusals) == ()
    assert build.tree.best_candidate() is None
    build.tree.mark_invalid(active[1])
    build.tree.set_tip(active[0])
    assert build.tree.best_candidate(max_reorg=0) is None
    assert build.tree.best_candidate() is strong[0]
    assert strong[0].parent is weak[-1]


def test_block_below_two_children_is_no_candidate_while_one_is_left() -> None:
    build = TreeBuilder()
    build.tree.set_tip(build.add(0))
    trunk = build.add(0, heavy=True)
    left, right = build.add(2), build.add(2)
    assert set(build.tree.refused_candidates(checkpoint_height=1, max_reorg=0)) == {left, right}
    build.tree.mark_invalid(right)
    assert build.tree.refused_candidates(checkpoint_height=1, max_reorg=0) == (left,)
    build.tree.mark_invalid(left)
    assert build.tree.refused_candidates(checkpoint_height=1, max_reorg=0) == (trunk,)
    assert build.tree.best_candidate() is trunk


def test_missing_bodies_are_told_from_the_header_down() -> None:
    build = TreeBuilder()
    line = build.line(0, 5, body=False)
    build.tree.mark_body(line[1])
    assert build.tree.without_body(line[4]) == (line[4], line[3], line[2], line[0])


def test_missing_bodies_towards_another_chain_than_the_best() -> None:
    build = TreeBuilder()
    withheld = build.line(0, 5, body=False)
    honest = build.line(0, 3, body=False)
    assert build.tree.without_body(build.tree.best_header) == tuple(reversed(withheld))
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


def test_forgotten_child_leaves_its_siblings_in_their_order() -> None:
    build = TreeBuilder()
    root = build.tree.active[0]
    stay = [build.add(0)]
    gone = [build.add(0, body=False)]
    stay += build.line(0, 2)[:1]
    gone += [build.add(0, body=False)]
    stay.append(build.add(0, body=False))
    refused = build.add(0, body=False)
    build.tree.mark_invalid(refused)
    build.tree.set_tip(stay[1])
    assert set(build.tree.forget_waiting({stay[2].hash}, below=3)) == {node.hash for node in gone}
    assert root.children() == [*stay, refused]
    build.tree.mark_body(stay[2])
    assert stay[2].linked
    assert build.tree.forget_waiting((), below=3) == ()
    added = build.add(0)
    assert root.children() == [*stay, refused, added]


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
    assert build.tree.without_body(build.tree.best_header) == ()


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


def test_locator_of_a_side_chain_names_its_blocks_and_then_those_of_the_active_chain() -> None:
    build = TreeBuilder()
    active = build.line(0, 40)
    build.tree.set_tip(active[-1])
    side = build.line(20, 30)
    chain = [build.tree.active[0], *active[:20], *side]
    locator = build.tree.locator(side[-1])
    assert locator == tuple(chain[height].hash for height in (*range(50, 40, -1), 39, 35, 27, 11, 0))
    assert build.tree.locator(side[0]) == tuple(
        chain[height].hash for height in (*range(21, 11, -1), 10, 6, 0)
    )


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
    assert build.tree.active[0].children() == [node]


def test_stored_header_is_restored_as_the_header_itself() -> None:
    build, other = TreeBuilder(), TreeBuilder()
    for parent, heavy in ((0, False), (1, True), (1, False), (3, False)):
        build.add(parent, heavy=heavy)
    for sealed in (build.made[1], build.made[2], build.made[3], build.made[4]):
        node = other.tree.restore_encoded(sealed.hash, sealed.header.encode())
        twin = build.tree.nodes[sealed.hash]
        assert other.tree.nodes[sealed.hash] is node
        for name in ("hash", "height", "time_ms", "producer", "chainwork", "anchor_time_ms"):
            assert getattr(node, name) == getattr(twin, name), name
        assert node.parent is not None
        assert twin.parent is not None
        assert node.parent.hash == twin.parent.hash
        assert (node.linked, node.has_body, node.invalid) == (False, False, False)
    assert other.tree.best_header.hash == build.tree.best_header.hash
    other.tree.mark_invalid(node)
    below = build.make(4)
    assert other.tree.restore_encoded(below.hash, below.header.encode()).invalid
    with pytest.raises(DecodeError, match="160 bytes"):
        other.tree.restore_encoded(bytes(32), bytes(159))


def test_headers_of_one_producer_share_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_module, "PRODUCERS_SHARED_MAX", 2)
    build = TreeBuilder()

    def producer_of(name: str) -> bytes:
        above = build.made[-1]
        made = header(above.hash, above.height + 1, len(build.made))
        build.made.append(SealedHeader(replace(made.header, producer=seed(name)), made.seal))
        return build.tree.restore(build.made[-1]).producer

    one = producer_of("one")
    assert one == seed("one")
    assert one is not seed("one")
    assert producer_of("one") is one
    two = producer_of("two")
    three = producer_of("three")
    assert [two, three] == [seed("two"), seed("three")]
    assert len(build.tree._producers) <= 2


def test_header_of_a_large_tree_costs_at_most_400_bytes() -> None:
    """Counted where the table of nodes has just grown, with times, work and side chains as in a real network.

    The allocator rounds each object up to 16 bytes, 31 per header, which tracemalloc does not see.
    """
    count, rounding = 21_900, 31
    rows = []
    main = side = header(bytes(32), 0, 0).header
    for number in range(1, count):
        on_main = number % 10 != 5
        above = main if on_main else side
        side = main if on_main else side
        made = replace(
            above,
            height=above.height + 1,
            previous=above.hash,
            time_ms=1_790_000_000_000 + 1_000 * above.height,
            bits=0x1B7FFFFF,
            nonce=number,
        )
        main, side = (made, side) if on_main else (main, made)
        rows.append((made.hash, made.encode(), on_main))
    gc.collect()
    tracemalloc.start()
    try:
        tree = BlockTree(header(bytes(32), 0, 0), easy_params())
        for block_hash, data, on_main in rows:
            node = tree.restore_encoded(bytes(bytearray(block_hash)), data)
            tree.mark_body(node)
            if on_main:
                tree.set_tip(node)
        gc.collect()
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(tree.nodes) == count
    assert used / count + rounding <= 400, used / count


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
