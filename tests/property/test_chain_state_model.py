"""The chain state on random trees with bad blocks inside, in random order, beside a model that looks at all of it."""

from __future__ import annotations

from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from facechain.consensus.block import Block
from facechain.consensus.errors import RuleViolation, Temporary
from facechain.consensus.payloads import Cancel
from facechain.node.chainstate import ChainState
from facechain.node.store.memory import MemoryStore
from support.chain import SUBMITTER, ChainBuilder, make_genesis

NOW_MS = 2 * make_genesis().time_ms


@cache
def grow(shape: tuple[tuple[int, bool], ...]) -> tuple[ChainBuilder, list[Block], list[bool]]:
    """Mine a tree: block i hangs on one of those before it and may claim a wrong state."""
    builder = ChainBuilder(make_genesis())
    blocks, valid = [builder.genesis_block], [True]
    for number, (choice, bad) in enumerate(shape):
        good = [index for index, is_valid in enumerate(valid) if is_valid]
        parent = blocks[good[choice % len(good)]]
        sequence = builder.view(parent).next_sequence(SUBMITTER.public)
        note = builder.statement(SUBMITTER, Cancel(note=str(number)), sequence=sequence)
        block = builder.forge([note], parent=parent)
        if bad:
            block = builder.forge([note], parent=parent, state_root=bytes(32))
        if not bad:
            builder.accept(block)
        blocks.append(block)
        valid.append(not bad)
    return builder, blocks, valid


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.tuples(st.integers(0, 11), st.booleans()), min_size=1, max_size=10).map(tuple),
    order=st.randoms(use_true_random=False),
    headers_first=st.booleans(),
)
def test_the_tip_is_the_most_work_of_what_is_valid_in_any_order(
    shape: tuple[tuple[int, bool], ...],
    order: object,
    *,
    headers_first: bool,
) -> None:
    builder, blocks, valid = grow(shape)
    chain = ChainState.open(MemoryStore.open(), builder.genesis)
    if headers_first:
        for block in blocks[1:]:
            chain.accept_header(block.sealed, now_ms=NOW_MS)
    waiting = blocks[1:]
    order.shuffle(waiting)  # type: ignore[attr-defined]
    while waiting:
        later = []
        for block in waiting:
            try:
                update = chain.accept_block(block, now_ms=NOW_MS)
            except Temporary:
                later.append(block)
                continue
            except RuleViolation as error:
                raise AssertionError(f"block of height {block.header.height}") from error
            assert all(not valid[blocks.index(item)] for item in blocks if item.hash in dict(update.refused))
        assert len(later) < len(waiting)
        waiting = later
    best = max(builder.node(block).chainwork for block, good in zip(blocks, valid, strict=True) if good)
    assert chain.tree.tip.chainwork == best
    restarted = ChainState.open(chain.store, builder.genesis)
    assert restarted.tree.tip.hash == chain.tree.tip.hash
    for block, good in zip(blocks, valid, strict=True):
        known = restarted.tree.get(block.hash)
        assert good or known is None or not restarted.tree.is_active(known)
    clean = ChainState.open(MemoryStore.open(), builder.genesis)
    line = [item.hash for item in chain.tree.active]
    by_hash = {block.hash: block for block in blocks}
    for block_hash in line[1:]:
        clean.accept_block(by_hash[block_hash], now_ms=NOW_MS)
    with clean.view() as wanted, chain.view() as got:
        assert wanted.next_sequence(SUBMITTER.public) == got.next_sequence(SUBMITTER.public)
