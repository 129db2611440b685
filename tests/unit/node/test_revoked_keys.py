"""A key that was revoked: what it said too late does not get in, and what it seals in the past does not win."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from facechain.consensus.block import Block
from facechain.consensus.errors import RuleViolation
from facechain.consensus.kinds import Role
from facechain.consensus.payloads import Cancel, Checkpoint
from facechain.node.chain_runner import ChainRunner
from facechain.node.chainstate import ChainPolicy, ChainState
from facechain.node.store.memory import MemoryStore
from support.chain import ADMIN, PRODUCER, SUBMITTER, ChainBuilder, keys, make_genesis
from support.statements import revoke

(ROGUE,) = keys(1, start=700)
NOW_MS = 2 * make_genesis().time_ms
MARGIN = 3
"""Blocks on top of the revocation."""


@pytest.fixture
def builder() -> ChainBuilder:
    return ChainBuilder(make_genesis(producers=(PRODUCER, ROGUE), heartbeat_ms=0))


def nobody(_block: Block) -> None:
    """Relay to nobody."""


async def test_what_waits_when_its_author_is_revoked_never_gets_in(builder: ChainBuilder) -> None:
    late = [builder.statement(SUBMITTER, Cancel(note=str(number))) for number in range(2)]
    revocation = builder.statement(ADMIN, revoke(Role.SUBMITTER, SUBMITTER, suspect_since=1))
    chain = ChainState.open(MemoryStore.open(), builder.genesis)
    async with ChainRunner.open(chain, lambda: NOW_MS) as runner:
        assert all(answer.queued for answer in await runner.submit(late))
        # Another producer seals the revocation without the statements that wait here.
        await runner.add_blocks([builder.mine([revocation])], nobody)
        assert not runner.mempool.select()
        template = await runner.template(PRODUCER.public, NOW_MS)
        assert not template.body.statements
        (answer,) = await runner.submit(late[:1])
        assert isinstance(answer.refusal, RuleViolation)
        assert answer.refusal.code == "unauthorized-author"
        # Nor does it by a producer who does not care.
        forged = builder.forge(late)
        _, refused = await runner.add_blocks([forged], nobody)
        assert [(block, error.code) for block, error in refused] == [(forged.hash, "unauthorized-author")]
        assert chain.tree.tip.height == 1


async def test_the_revoking_block_itself_may_hold_what_waited(builder: ChainBuilder) -> None:
    """Authority is read from the parent's state: a revocation acts from the next block on."""
    late = builder.statement(SUBMITTER, Cancel(note="in time"))
    revocation = builder.statement(ADMIN, revoke(Role.SUBMITTER, SUBMITTER))
    block = builder.mine([revocation, late])
    chain = ChainState.open(MemoryStore.open(), builder.genesis)
    assert chain.accept_block(block, now_ms=NOW_MS).connected == (block,)


def branches(builder: ChainBuilder) -> tuple[list[Block], list[Block], Block]:
    """Return a chain that revokes ROGUE at height 2, ROGUE's heavier one from block 1, and a vouching block."""
    trunk = [builder.mine()]
    trunk.append(builder.mine([builder.statement(ADMIN, revoke(Role.PRODUCER, ROGUE))]))
    trunk += builder.mine_many(MARGIN)
    vouched = Checkpoint(height=2, block_hash=trunk[1].hash)
    vouching = builder.mine([builder.statement(ADMIN, vouched)])
    rogue = [builder.mine(parent=trunk[0], key=ROGUE, time_ms=trunk[0].header.time_ms + 11_000)]
    for _ in range(2 * MARGIN + 2):
        rogue.append(builder.mine(parent=rogue[-1], key=ROGUE))
    assert builder.node(rogue[-1]).chainwork > builder.node(vouching).chainwork
    return trunk, rogue, vouching


def tip_after(chain: ChainState, blocks: Sequence[Block]) -> bytes:
    for block in blocks:
        chain.accept_block(block, now_ms=NOW_MS)
    return chain.tree.tip.hash


def test_work_alone_would_let_a_revoked_key_rewrite_its_revocation(builder: ChainBuilder) -> None:
    trunk, rogue, _ = branches(builder)
    chain = ChainState.open(MemoryStore.open(), builder.genesis)
    assert tip_after(chain, [*trunk, *rogue]) == rogue[-1].hash


def test_a_checkpoint_keeps_a_revoked_key_from_forking_below_its_revocation(builder: ChainBuilder) -> None:
    trunk, rogue, vouching = branches(builder)
    store = MemoryStore.open()
    chain = ChainState.open(store, builder.genesis)
    assert tip_after(chain, [*trunk, vouching, *rogue]) == vouching.hash
    again = ChainState.open(store, builder.genesis)
    assert tip_after(again, rogue) == vouching.hash


def test_max_reorg_keeps_a_revoked_key_from_forking_below_its_revocation(builder: ChainBuilder) -> None:
    trunk, rogue, _ = branches(builder)
    chain = ChainState.open(MemoryStore.open(), builder.genesis, ChainPolicy(max_reorg=MARGIN))
    assert tip_after(chain, [*trunk, *rogue]) == trunk[-1].hash
    for block, following in itertools.pairwise(trunk):
        assert following.header.previous == block.hash


def test_a_revoked_key_seals_nothing_above_its_revocation(builder: ChainBuilder) -> None:
    trunk, _, _ = branches(builder)
    chain = ChainState.open(MemoryStore.open(), builder.genesis)
    tip_after(chain, trunk)
    forged = builder.forge(parent=trunk[-1], key=ROGUE)
    with pytest.raises(RuleViolation, match="producer") as caught:
        chain.accept_block(forged, now_ms=NOW_MS)
    assert caught.value.code == "unauthorized-producer"
