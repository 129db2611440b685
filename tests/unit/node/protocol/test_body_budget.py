"""Bodies under way are bounded in bytes, whatever the number of peers, and all of them arrive."""

from __future__ import annotations

import pytest

from facechain.consensus.block import Block
from facechain.consensus.payloads import Cancel
from facechain.node.protocol import body_budget
from facechain.node.protocol.assembly import BodyAssembly
from facechain.node.protocol.body_budget import BodyBudget, expected_bytes
from facechain.node.protocol.sync import SyncLimits
from facechain.node.wire import chunks
from facechain.node.wire import messages as wire
from support.chain import SUBMITTER, ChainBuilder, make_genesis
from support.gossip import Gossip, SimulatedNode

CHUNK = 4_000
LIMIT = 40_000


@pytest.fixture
def builder() -> ChainBuilder:
    return ChainBuilder(make_genesis())


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(body_budget, "UNKNOWN_BODY_BYTES", CHUNK)


def mine(builder: ChainBuilder, count: int, statements: int) -> list[Block]:
    return [
        builder.mine([builder.statement(SUBMITTER, Cancel(note="x" * 400)) for _ in range(statements)])
        for _ in range(count)
    ]


def held(node: SimulatedNode) -> tuple[int, int]:
    """Return the bytes of bodies that are, or will be, held while they are put together, and how many are asked for."""
    sync = node.sync
    total = sum(
        max(expected_bytes(item), item.received_bytes) if block_hash in sync._asked else item.received_bytes
        for block_hash, item in sync._assemblies.items()
    )
    return total, len(sync._asked)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("seed", range(4))
def test_many_peers_are_asked_for_no_more_than_there_is_room_for(builder: ChainBuilder, seed: int) -> None:
    blocks = mine(builder, 24, 30)
    size = blocks[0].body.byte_count()
    assert 3 * CHUNK < size < LIMIT
    net = Gossip(builder.genesis, 7, seed=seed, limits=SyncLimits(in_flight_bytes=LIMIT))
    late = net.nodes[6]
    for number in range(6):
        net.give(number, *blocks)
        net.connect(6, number)
    most = 0
    for _ in range(20_000):
        if late.tip == blocks[-1].hash:
            break
        net.run(1, all_delivered=False)
        total, asked = held(late)
        most = max(most, asked)
        # An answer that says how large its body is counts from then on: at most one for each that was asked for.
        assert asked <= LIMIT // CHUNK
        assert total <= LIMIT + (LIMIT // CHUNK) * size
        assert sum(item.received_bytes for item in late.sync._assemblies.values()) <= LIMIT + size
    assert late.tip == blocks[-1].hash
    assert most > 2, "several peers are asked at a time all the same"
    assert not any(node.punished or node.dropped for node in net.nodes)
    net.run()
    assert not late.sync._assemblies
    assert not late.sync._asked


@pytest.mark.usefixtures("small_chunks")
def test_a_body_above_the_limit_arrives_alone(builder: ChainBuilder) -> None:
    blocks = mine(builder, 3, 30)
    net = Gossip(builder.genesis, 3, limits=SyncLimits(in_flight_bytes=CHUNK))
    for number in (0, 1):
        net.give(number, *blocks)
        net.connect(2, number)
    net.run()
    assert net.nodes[2].tip == blocks[-1].hash
    asked = [*net.nodes[2].sent_of(wire.GetBody), *net.nodes[2].sent_of(wire.GetStatements)]
    assert len(asked) >= 3 * 3, "each body takes several answers"


def test_what_a_body_counts_as(builder: ChainBuilder) -> None:
    (block,) = mine(builder, 1, 3)
    (second,) = mine(builder, 1, 3)
    unknown, known = BodyAssembly(block.sealed), BodyAssembly(second.sealed)
    known.set_leaves(second.body.leaves(), second.body.byte_count())
    assert expected_bytes(unknown) == body_budget.UNKNOWN_BODY_BYTES
    assert expected_bytes(known) == second.body.byte_count()
    both = {block.hash: unknown, second.hash: known}
    size = expected_bytes(unknown) + expected_bytes(known)
    assert BodyBudget(both, {block.hash}, size).has_room(known)
    assert not BodyBudget(both, {block.hash}, size - 1).has_room(known)
    assert BodyBudget(both, set(), 0).has_room(known), "one body is always let through"
    unknown.set_leaves(block.body.leaves(), block.body.byte_count())
    unknown.add(0, block.body.statements[:2])
    received = sum(item.size_bytes for item in block.body.statements[:2])
    assert unknown.received_bytes == received
