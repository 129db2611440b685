"""What counts as saying two things in one place, and how much of it is remembered."""

from __future__ import annotations

import pytest

from facechain.consensus.block import Block
from facechain.consensus.payloads import Cancel
from facechain.consensus.signing import LedgerKey
from facechain.consensus.statement import NEVER_EXPIRES, Statement
from facechain.node.protocol.equivocation import (
    Equivocation,
    EquivocationCounts,
    EquivocationKind,
    EquivocationLimits,
    Equivocations,
)
from facechain.node.wire import messages as wire
from support.chain import PRODUCER, SUBMITTER, ChainBuilder, make_genesis, make_stage, seed
from support.gossip import Gossip

NOW_MS = 5_000
OTHER = LedgerKey.from_seed(seed("another producer"))


@pytest.fixture
def builder() -> ChainBuilder:
    return ChainBuilder(make_genesis(producers=(PRODUCER, OTHER), heartbeat_ms=0))


def said(
    builder: ChainBuilder,
    name: str,
    *,
    sequence: int = 0,
    until: int = NEVER_EXPIRES,
    key: LedgerKey = SUBMITTER,
) -> Statement:
    return builder.statement(key, make_stage(name=name), sequence=sequence, valid_until_height=until)


def twins(builder: ChainBuilder, parent: Block | None = None) -> tuple[Block, Block]:
    one = builder.forge(parent=parent)
    return one, builder.forge(parent=parent, time_ms=one.header.time_ms + 1)


def header(found: Equivocations, builder: ChainBuilder, block: Block) -> Equivocation | None:
    return found.on_header(builder.tree.add_header(block.sealed), NOW_MS)


def test_two_blocks_of_one_key_on_one_parent_count_once(builder: ChainBuilder) -> None:
    found = Equivocations()
    told: list[Equivocation] = []
    found.on_found = told.append
    one, two = twins(builder)
    three = builder.forge(time_ms=one.header.time_ms + 2)
    assert header(found, builder, one) is None
    evidence = header(found, builder, two)
    assert evidence == Equivocation(
        kind=EquivocationKind.BLOCK,
        key=PRODUCER.public,
        number=1,
        parent=builder.tip.hash,
        first=one.hash,
        second=two.hash,
        at_ms=NOW_MS,
    )
    assert header(found, builder, three) is None, "the place is counted"
    assert found.counts == EquivocationCounts(blocks=1)
    assert told == [evidence] == list(found.of(PRODUCER.public))


def test_what_honest_miners_do_does_not_count(builder: ChainBuilder) -> None:
    found = Equivocations()
    one = builder.forge()
    rival = builder.forge(key=OTHER, time_ms=one.header.time_ms + 1)
    assert header(found, builder, one) is None
    assert header(found, builder, rival) is None, "another key"
    builder.accept(one)
    builder.accept(rival)
    above = builder.forge(parent=one)
    again = builder.forge(parent=rival, time_ms=above.header.time_ms + 1)
    assert header(found, builder, above) is None
    assert header(found, builder, again) is None, (
        "one height, but another parent: mined again after a reorganisation"
    )
    assert header(found, builder, above) is None
    assert not len(found)


def test_a_machine_of_headers_counts_what_peers_show(builder: ChainBuilder) -> None:
    net = Gossip(builder.genesis, 3)
    one, two = twins(builder)
    net.give(0, one)
    net.give(1, two)
    for here, there in ((0, 2), (1, 2)):
        net.connect(here, there)
        net.run()
    node = net.nodes[2]
    for number, block in ((0, one), (1, two)):
        message = wire.AnnounceBlock(sealed_header=block.sealed.encode(), byte_count=0, leaves=())
        net.perform(node, node.sync.on_announce_block(number, message, now=net.now, now_ms=net.now_ms))
    assert node.sync.equivocations.counts == EquivocationCounts(blocks=1)
    assert not node.punished
    assert not node.dropped


def test_two_statements_with_one_sequence_count_once(builder: ChainBuilder) -> None:
    found = Equivocations()
    one, two, three = (said(builder, name) for name in ("one", "two", "three"))
    assert found.on_statement(one, height=1, now_ms=NOW_MS) is None
    assert found.on_statement(one, height=2, now_ms=NOW_MS) is None, "the same one again"
    assert not found.is_suspect(one, 1)
    assert found.is_suspect(two, 1)
    evidence = found.on_statement(two, height=1, now_ms=NOW_MS)
    assert evidence == Equivocation(
        kind=EquivocationKind.STATEMENT,
        key=SUBMITTER.public,
        number=0,
        parent=b"",
        first=one.id,
        second=two.id,
        at_ms=NOW_MS,
    )
    assert not found.is_suspect(three, 1), "another signature need not be checked"
    assert found.on_statement(three, height=1, now_ms=NOW_MS) is None
    assert found.on_statement(said(builder, "four", sequence=1), height=1, now_ms=NOW_MS) is None
    assert found.counts == EquivocationCounts(statements=1)


def test_what_honest_authors_do_does_not_count(builder: ChainBuilder) -> None:
    found = Equivocations()
    first = said(builder, "first", until=10)
    assert found.on_statement(first, height=4, now_ms=NOW_MS) is None
    given_up = builder.statement(SUBMITTER, Cancel(note="no"), sequence=0)
    assert not found.is_suspect(given_up, 5)
    assert found.on_statement(given_up, height=5, now_ms=NOW_MS) is None
    second = said(builder, "second")
    assert found.is_suspect(second, 10)
    assert not found.is_suspect(second, 11), "the first one expired"
    assert found.on_statement(second, height=11, now_ms=NOW_MS) is None
    assert found.on_statement(first, height=11, now_ms=NOW_MS) is None, "a block of a rival branch holds it"
    dropped = said(builder, "dropped", sequence=1)
    found.on_statement(dropped, height=4, now_ms=NOW_MS)
    found.forget([(SUBMITTER.public, 1, second.id)])
    assert found.knows(dropped)
    found.forget([(SUBMITTER.public, 1, dropped.id)])
    assert found.on_statement(said(builder, "in its place", sequence=1), height=5, now_ms=NOW_MS) is None
    assert found.counts == EquivocationCounts()


def test_memory_is_bounded_by_keys_places_and_statements(builder: ChainBuilder) -> None:
    found = Equivocations(EquivocationLimits(keys=2, per_key=3, seen=4))
    keys = [LedgerKey.from_seed(seed(f"author {number}")) for number in range(3)]

    def twice(key: LedgerKey, sequence: int) -> None:
        for name in ("one", "two"):
            found.on_statement(said(builder, name, sequence=sequence, key=key), height=1, now_ms=NOW_MS)

    for key in keys[:2]:
        for sequence in range(5):
            twice(key, sequence)
    assert found.counts.statements == 6
    twice(keys[0], 0)
    assert [key for key, _ in found.all()] == [keys[1].public, keys[0].public]
    twice(keys[2], 0)
    assert [key for key, _ in found.all()] == [keys[2].public, keys[1].public]
    assert (len(found), found.of(keys[0].public), len(found.of(keys[1].public))) == (2, (), 3)
    assert len(found._seen) == 4
    assert found.counts.statements == 7
