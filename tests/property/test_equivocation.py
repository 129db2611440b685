"""Equivocations beside a model that remembers everything: for any order of arrival the same places, once each."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from facechain.consensus.signing import LedgerKey
from facechain.consensus.statement import Statement
from facechain.node.protocol.equivocation import EquivocationKind, EquivocationLimits, Equivocations
from support.chain import PRODUCER, ChainBuilder, make_genesis, make_stage, seed

AUTHORS = [LedgerKey.from_seed(seed(f"author {number}")) for number in range(3)]
SEALERS = [PRODUCER, LedgerKey.from_seed(seed("second producer"))]
BUILDER = ChainBuilder(make_genesis(producers=tuple(SEALERS), heartbeat_ms=0))


def make(author: int, sequence: int, version: int, lasts: int) -> Statement:
    return BUILDER.statement(
        AUTHORS[author], make_stage(name=f"v{version}"), sequence=sequence, valid_until_height=lasts
    )


POOL = {
    (author, sequence, version): make(author, sequence, version, 1_000)
    for author in range(3)
    for sequence in range(3)
    for version in range(3)
}
"""Statements that never expire within a test."""
arrivals = st.lists(st.sampled_from(sorted(POOL)), max_size=60)


@settings(max_examples=100, deadline=None)
@given(arrivals)
def test_every_place_with_two_statements_is_counted_once(order: list[tuple[int, int, int]]) -> None:
    found = Equivocations()
    told: list[bytes] = []
    found.on_found = lambda item: told.append(item.second)
    first: dict[tuple[int, int], int] = {}
    expected: dict[tuple[int, int], tuple[int, int]] = {}
    for author, sequence, version in order:
        statement = POOL[author, sequence, version]
        before = first.setdefault((author, sequence), version)
        is_new = version != before and (author, sequence) not in expected
        assert found.is_suspect(statement, 1) == is_new
        assert (found.on_statement(statement, height=1, now_ms=0) is not None) == is_new
        if is_new:
            expected[author, sequence] = (before, version)
    got = {(key, item.number): (item.first, item.second) for key, items in found.all() for item in items}
    assert got == {
        (AUTHORS[author].public, sequence): tuple(
            POOL[author, sequence, version].id for version in (before, later)
        )
        for (author, sequence), (before, later) in expected.items()
    }
    assert found.counts.statements == len(told) == len(expected)


@settings(max_examples=100, deadline=None)
@given(arrivals, st.integers(1, 3), st.integers(1, 4), st.integers(1, 8))
def test_memory_is_bounded_and_nothing_is_counted_that_was_not_said_twice(
    order: list[tuple[int, int, int]], keys: int, per_key: int, seen: int
) -> None:
    found = Equivocations(EquivocationLimits(keys=keys, per_key=per_key, seen=seen))
    said: dict[tuple[int, int], set[int]] = {}
    for author, sequence, version in order:
        said.setdefault((author, sequence), set()).add(version)
        evidence = found.on_statement(POOL[author, sequence, version], height=1, now_ms=0)
        assert evidence is None or len(said[author, sequence]) > 1
        assert len(found) <= keys
        assert all(len(items) <= per_key for _, items in found.all())
        assert len(found._seen) <= seen


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), max_size=12))
def test_blocks_count_when_key_and_parent_are_the_same(choices: list[tuple[int, int]]) -> None:
    builder = ChainBuilder(BUILDER.genesis)
    found = Equivocations()
    blocks = [builder.genesis_block]
    sealed: dict[tuple[bytes, bytes], int] = {}
    for number, (parent, sealer) in enumerate(choices):
        below = blocks[parent % len(blocks)]
        key = SEALERS[sealer]
        block = builder.forge(parent=below, key=key, time_ms=below.header.time_ms + 60_000 + number)
        builder.accept(block)
        blocks.append(block)
        found.on_header(builder.node(block), 0)
        place = (key.public, below.hash)
        sealed[place] = sealed.get(place, 0) + 1
    twice = {place for place, count in sealed.items() if count > 1}
    got = {(key, item.parent) for key, items in found.all() for item in items}
    assert got == twice
    assert found.counts.blocks == len(twice)
    assert all(item.kind is EquivocationKind.BLOCK for _, items in found.all() for item in items)
