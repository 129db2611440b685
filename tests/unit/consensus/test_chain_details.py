"""The header tree in detail: ties, repeats, boundaries, and the words of its refusals."""

from __future__ import annotations

import pytest

from facechain.consensus.block import HEADER_BYTES
from facechain.consensus.chain import BlockTree, HeaderNode, context_headers, header_context
from facechain.consensus.errors import RuleViolation, Temporary
from facechain.consensus.validation import next_bits
from support.chain import PRODUCER, ChainBuilder, easy_params, make_genesis, seed
from support.trees import TreeBuilder, header


def test_root_of_the_tree_is_the_genesis_block() -> None:
    chain = ChainBuilder()
    root, block = chain.tree.tip, chain.genesis_block
    assert (root.hash, root.height, root.time_ms) == (block.hash, 0, block.header.time_ms)
    assert root.producer == block.header.producer
    assert (root.chainwork, root.parent, root.older_sibling) == (0, None, None)
    assert root.has_body is True
    assert (root.linked, root.invalid) == (True, False)
    assert (root.children(), root.anchor_time_ms) == ([], None)


# -- what a header is checked against


def line_of(producers: list[bytes], parent: HeaderNode | None = None) -> list[HeaderNode]:
    """Return a chain of nodes, block 0 first unless there is a parent."""
    nodes = [] if parent is None else [parent]
    for producer in producers:
        above = nodes[-1] if nodes else None
        height = 0 if above is None else above.height + 1
        nodes.append(
            HeaderNode(
                block_hash=seed(f"{height}"),
                height=height,
                time_ms=1_000 * height,
                producer=producer,
                chainwork=2 * height,
                parent=above,
            )
        )
    return nodes


@pytest.mark.parametrize("window, recent", [(0, 0), (1, 0), (2, 1), (3, 2), (6, 4), (30, 4)])
def test_recent_producers_are_those_of_the_window_before_this_block(window: int, recent: int) -> None:
    producers = [seed(f"producer {number}") for number in range(5)]
    context = header_context(line_of(producers)[-1], easy_params(producer_window=window))
    assert list(context.recent_producers) == producers[: 4 - recent : -1]


def test_context_names_parent_median_and_bits() -> None:
    chain = ChainBuilder()
    for number in range(14):
        chain.mine([chain.batch(name=str(number))], time_ms=chain.tip.header.time_ms + 1)
    parent, nodes = chain.tree.tip, chain.tree.active
    context = chain.tree.context(parent)
    assert (context.parent_hash, context.parent_time_ms) == (parent.hash, parent.time_ms)
    assert context.height == 15
    assert context.median_time_ms == nodes[-6].time_ms
    wanted = next_bits(
        chain.params, parent_height=14, parent_time_ms=parent.time_ms, anchor_time_ms=nodes[1].time_ms
    )
    assert context.bits == wanted != chain.params.pow_limit_bits


@pytest.mark.parametrize("window", [5, 11, 40])
def test_context_looks_at_no_more_ancestors_than_it_says(window: int) -> None:
    params = easy_params(producer_window=window)
    assert context_headers(params) == max(window, 11)
    nodes = line_of([PRODUCER.public] * (context_headers(params) + 1))
    del nodes[0].parent  # a walk that went on would trip here
    context = header_context(nodes[-1], params)
    assert context.median_time_ms == nodes[-6].time_ms


def test_tree_takes_the_versions_that_it_was_told() -> None:
    block = ChainBuilder().forge(version=2)
    plain = ChainBuilder()
    with pytest.raises(Temporary, match="unknown-version"):
        plain.tree.add_header(block.sealed)
    tree = BlockTree(plain.genesis_block.sealed, plain.params, versions={1, 2})
    assert tree.add_header(block.sealed).hash == block.hash


def test_headers_are_refused_in_words() -> None:
    build = TreeBuilder()
    with pytest.raises(Temporary) as missing:
        build.tree.add_header(header(seed("nobody"), 1, 1))
    assert (missing.value.expected, missing.value.got) == ("a known parent", seed("nobody").hex())
    refused = build.add(0)
    build.tree.mark_invalid(refused)
    with pytest.raises(RuleViolation) as invalid:
        build.tree.add_header(build.make(1))
    assert (invalid.value.code, invalid.value.expected, invalid.value.got) == (
        "bad-prevblk",
        "a valid parent",
        refused.hash.hex(),
    )


def test_first_of_two_headers_of_equal_work_is_best() -> None:
    build = TreeBuilder()
    first = build.add(0, body=False)
    build.add(0)
    assert build.tree.best_header is first


def test_siblings_share_the_number_of_their_height() -> None:
    """Equal numbers from two headers are two objects; a large tree keeps one."""
    build = TreeBuilder()
    parent = build.line(0, 300)[-1]
    twins = [header(parent.hash, 301, number) for number in (1, 2)]
    nodes = [build.tree.restore_encoded(twin.hash, twin.header.encode()[:HEADER_BYTES]) for twin in twins]
    assert nodes[0].height == 301
    assert nodes[0].height is nodes[1].height


# -- bodies


def test_child_without_a_body_waits_while_its_sibling_goes_on() -> None:
    build = TreeBuilder()
    parent = build.add(0, body=False)
    empty, full = build.add(1, body=False), build.add(1)
    build.tree.mark_body(parent)
    assert [node.linked for node in (parent, empty, full)] == [True, False, True]
    assert build.tree.best_candidate() is full


def test_body_of_an_invalid_block_links_nothing() -> None:
    build = TreeBuilder()
    refused = build.add(0, body=False)
    build.tree.mark_invalid(refused)
    build.tree.mark_body(refused)
    assert not refused.linked
    assert build.tree.best_candidate() is None


def test_second_copy_of_a_body_changes_no_order() -> None:
    build = TreeBuilder()
    first, second = build.add(0), build.add(0)
    arrivals = first.arrival, second.arrival
    build.tree.mark_body(first)
    assert (first.arrival, second.arrival) == arrivals
    assert build.tree.best_candidate() is first


def test_arrivals_count_the_chains_and_not_their_blocks() -> None:
    build = TreeBuilder()
    root, trunk = build.tree.tip, build.line(0, 3)
    side = build.line(1, 2)
    assert {node.arrival for node in (root, *trunk)} == {1}
    assert {node.arrival for node in side} == {2}
    assert build.add(3).arrival == 3


def test_refused_blocks_are_named_with_all_that_follows() -> None:
    build = TreeBuilder()
    line = build.line(0, 4)
    branch = build.line(3, 2)
    assert set(build.tree.mark_invalid(line[1])) == {*line[1:], *branch}


# -- fork choice


def test_chain_of_equal_work_is_not_reported_as_kept_out() -> None:
    build = TreeBuilder()
    first, second = build.line(0, 2), build.line(0, 2)
    build.tree.set_tip(first[-1])
    assert second[-1].chainwork == first[-1].chainwork
    assert build.tree.refused_candidates(checkpoint_height=2, max_reorg=0) == ()


def test_headers_with_just_the_wanted_work_stay() -> None:
    build = TreeBuilder()
    build.tree.set_tip(build.line(0, 3)[-1])
    weak, even = build.line(0, 2, body=False)
    assert build.tree.forget_waiting((), below=even.chainwork) == ()
    assert build.tree.forget_waiting((), below=even.chainwork + 1) == (even.hash, weak.hash)


def test_checkpoint_and_depth_are_told_in_words() -> None:
    build = TreeBuilder()
    active = build.line(0, 6)
    build.tree.set_tip(active[-1])
    side = build.line(4, 3)
    build.tree.check_reorg(side[-1], checkpoint_height=4, max_reorg=2)
    build.tree.check_reorg(build.line(6, 1)[-1], checkpoint_height=6, max_reorg=0)
    with pytest.raises(RuleViolation) as below:
        build.tree.check_reorg(side[-1], checkpoint_height=5, max_reorg=2)
    assert (below.value.code, below.value.expected, below.value.got) == (
        "below-checkpoint",
        "a fork at height 5 or above",
        4,
    )
    with pytest.raises(RuleViolation) as deep:
        build.tree.check_reorg(side[-1], checkpoint_height=4, max_reorg=1)
    assert (deep.value.code, deep.value.expected, deep.value.got) == (
        "max-reorg",
        "at most 1 blocks disconnected",
        2,
    )


def test_block_of_another_tree_is_refused_in_words() -> None:
    stranger = line_of([PRODUCER.public])[0]
    with pytest.raises(ValueError, match=r"^block: expected one of this tree, got one of another$"):
        TreeBuilder().tree.plan(stranger)


def test_window_of_a_network_is_applied_by_the_tree() -> None:
    chain = ChainBuilder(make_genesis(producer_share=2, producer_window=4))
    chain.mine_many(2)
    with pytest.raises(RuleViolation, match="producer-share"):
        chain.mine()
