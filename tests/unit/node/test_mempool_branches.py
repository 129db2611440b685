"""What was acknowledged, when branches replace each other: refused on one, back on another, and over deaths."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Self

import pytest

from facechain.consensus.block import Block
from facechain.consensus.payloads import Cancel, Checkpoint
from facechain.consensus.statement import Statement
from facechain.node.chain_runner import open_tip
from facechain.node.chainstate import ChainState
from facechain.node.mempool import Drop, DurableMempool
from facechain.node.mempool.limits import KEEP_ROWS_BLOCKS
from facechain.node.store.memory import MemoryStore, Operation
from facechain.node.store.schema import LEFT_TIP_KEY, Table
from support.chain import ADMIN, SUBMITTER, ChainBuilder, make_genesis
from support.long_chain import LongChain

GENESIS = make_genesis()
NOW_MS = 2 * GENESIS.time_ms
DEPTH = KEEP_ROWS_BLOCKS + 2


@dataclass(frozen=True, slots=True)
class Half:
    """The half of a node that keeps promises."""

    store: MemoryStore
    chain: ChainState
    durable: DurableMempool

    @classmethod
    def open(cls, store: MemoryStore) -> Self:
        chain = ChainState.open(store, GENESIS)
        durable = DurableMempool.open(store, chain.params, chain.network_id, partial(open_tip, chain))
        return cls(store, chain, durable)

    def take(self, *blocks: Block) -> tuple[Drop, ...]:
        drops: tuple[Drop, ...] = ()
        for block in blocks:
            update = self.chain.accept_block(block, now_ms=NOW_MS)
            drops += self.durable.on_update(connected=update.connected, disconnected=update.disconnected)
        return drops

    def marked(self) -> bool:
        with self.store.read() as reader:
            return reader.get(Table.META, LEFT_TIP_KEY) is not None


def test_what_a_branch_refuses_is_told_and_kept_for_the_branch_that_has_room_for_it() -> None:
    builder = ChainBuilder(GENESIS)

    def vouch(named: Block, sequence: int) -> Statement:
        payload = Checkpoint(height=named.header.height, block_hash=named.hash)
        return builder.statement(ADMIN, payload, sequence=sequence)

    one, two = builder.mine_many(2)
    second = vouch(two, 1)
    below = builder.mine([vouch(one, 0)], parent=two)
    losing = builder.mine([second], parent=below)
    # The other branch has what the second statement says as its author's first one.
    winning = [builder.mine([vouch(two, 0)], parent=two)]
    winning += builder.mine_many(2, parent=winning[0])
    node = Half.open(MemoryStore.open())
    node.take(one, two, below)
    assert node.durable.submit([second])[0].queued
    drops = node.take(losing, *winning)
    assert [drop.code for drop in drops if drop.id == second.id] == ["duplicate-approval"]
    again = Half.open(node.store.reopen())
    for half in (node, again):
        told = half.durable.pool.dropped(second.id)
        assert told is not None
        assert told.code == "duplicate-approval"
        assert second.leaf not in half.durable.pool
        # A third branch forks off below the statement's block and holds what it stands on.
        third = builder.mine_many(3, parent=below)
        half.take(*third)
        assert half.chain.tree.tip.hash == third[-1].hash
        assert half.durable.select() == (second,)
        assert Half.open(half.store.reopen()).durable.select() == (second,)


def deep_branches() -> tuple[Statement, list[Block], list[Block]]:
    """Return a statement, a branch that holds it in its first block, and a longer one without it."""
    statement = ChainBuilder(GENESIS).statement(SUBMITTER, Cancel(note="deep"), sequence=0)
    losing, winning = LongChain(GENESIS), LongChain(GENESIS)
    off = [losing.mine([statement]), *losing.mine_many(DEPTH - 1)]
    on = list(winning.mine_many(DEPTH + 1, delay_ms=GENESIS.params.spacing_ms + 1))
    return statement, off, on


def rows(store: MemoryStore) -> int:
    with store.read() as reader:
        return reader.count(Table.MEMPOOL)


def test_a_reorganisation_below_what_was_buried_makes_it_durable_again() -> None:
    statement, losing, winning = deep_branches()
    node = Half.open(MemoryStore.open())
    assert node.durable.submit([statement])[0].queued
    node.take(*losing)
    assert rows(node.store) == 0, "it was buried"
    node.take(*winning)
    assert node.durable.select() == (statement,)
    assert not node.marked()
    assert Half.open(node.store.reopen()).durable.select() == (statement,)


class Death(Exception):
    """The process ends here."""


@pytest.mark.parametrize("last", [1, 2, 3, 4, 5, 6])
def test_a_death_in_the_middle_of_a_deep_reorganisation_loses_nothing(last: int) -> None:
    statement, losing, winning = deep_branches()
    armed, seen = False, 0

    def die(operation: Operation) -> None:
        nonlocal seen
        if armed and operation in {Operation.COMMIT, Operation.COMMITTED}:
            seen += 1
            if seen == last:
                raise Death

    node = Half.open(MemoryStore.open(on_operation=die))
    node.durable.submit([statement])
    node.take(*losing, *winning[:-1])
    armed = True
    with pytest.raises(Death):
        node.take(winning[-1])
    again = Half.open(node.store.reopen())
    again.take(*winning)
    assert again.chain.tree.tip.hash == winning[-1].hash
    assert again.durable.select() == (statement,)
    assert not again.marked()
    assert Half.open(again.store.reopen()).durable.select() == (statement,)
