"""What a node under test goes through, in order: blocks of several branches, submissions, prunings. Seeded."""

from __future__ import annotations

import pickle
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from facechain.consensus.block import Block, Body, SealedHeader
from facechain.consensus.payloads import Checkpoint
from facechain.consensus.statement import Statement
from support.chain import ADMIN, PRODUCER, SUBMITTER, ChainBuilder, keys, make_batch, make_genesis, make_stage

WAITER: Final = keys(1, start=40)[0]
"""Its statements are submitted and never sealed: they must wait for ever."""

REORG_BLOCKS_MAX: Final = 5
PRUNE_KEEP: Final = 12
BODY_BYTES_MAX: Final = 1 << 26


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do: hand in statements, then accept a block, then perhaps prune."""

    block: bytes
    """Sealed header, then the encoded body."""
    submit: tuple[bytes, ...] = ()
    prune: bool = False
    compact: bool = False

    def decoded(self) -> Block:
        return Block(
            SealedHeader.decode(self.block[:224]), Body.decode(self.block[224:], max_bytes=BODY_BYTES_MAX)
        )


@dataclass(frozen=True, slots=True)
class Script:
    """A whole life of a store."""

    genesis: bytes
    steps: tuple[Step, ...]
    chainwork: dict[bytes, int]
    """By block hash."""
    tip: bytes

    def save(self, path: Path) -> None:
        path.write_bytes(pickle.dumps(self))

    @classmethod
    def load(cls, path: Path) -> Script:
        script = pickle.loads(path.read_bytes())
        assert isinstance(script, cls)
        return script


class _Scribe:
    def __init__(self, seed: int, records: int) -> None:
        self.random = random.Random(seed)
        self.builder = ChainBuilder(make_genesis(submitters=(SUBMITTER, WAITER)))
        self.records = records
        self.steps: list[Step] = []
        self.waiting = 0
        self.number = 0

    def branch(self, parent: Block, length: int) -> list[Block]:
        blocks = [parent]
        for _ in range(length):
            blocks.append(self.block(blocks[-1]))
        return blocks[1:]

    def block(self, parent: Block) -> Block:
        self.number += 1
        name = f"block {self.number}"
        after = self.builder.view(parent)
        sequence = after.next_sequence(SUBMITTER.public)
        statements = [
            self.builder.statement(SUBMITTER, make_stage(name=name), sequence=sequence, parent=parent)
        ]
        if self.random.random() < 0.6:
            statements.append(self.batch(name=name, parent=parent))
        if self.random.random() < 0.1:
            deep = parent
            for _ in range(3 * REORG_BLOCKS_MAX):
                deep = self.builder.blocks.get(deep.header.previous, deep)
            vouch = Checkpoint(height=deep.header.height, block_hash=deep.hash)
            if deep.header.height:
                sequence = after.next_sequence(ADMIN.public)
                statements.append(self.builder.statement(ADMIN, vouch, sequence=sequence, parent=parent))
        return self.builder.mine(statements, parent=parent)

    def batch(self, *, name: str, parent: Block) -> Statement:
        payload, header = make_batch(self.random.randrange(1, self.records), name=name)
        sequence = self.builder.view(parent).next_sequence(PRODUCER.public)
        return self.builder.statement(PRODUCER, payload, batch=header, sequence=sequence, parent=parent)

    def add(self, block: Block) -> None:
        submit = [statement.encode() for statement in block.body.statements if self.random.random() < 0.5]
        if self.random.random() < 0.3:
            stage = make_stage(name=f"waits {self.waiting}")
            submit.append(self.builder.statement(WAITER, stage, sequence=self.waiting).encode())
            self.waiting += 1
        prune = self.random.random() < 0.06
        self.steps.append(
            Step(
                block.sealed.encode() + block.body.encode(),
                tuple(submit),
                prune=prune,
                compact=prune and self.random.random() < 0.5,
            )
        )


def write_script(seed: int, *, steps: int, records: int = 200, compact_at: int | None = None) -> Script:
    """Return a script of about `steps` blocks; the store is pruned and compacted after block `compact_at`."""
    scribe = _Scribe(seed, records)
    builder = scribe.builder
    tip = builder.genesis_block
    while len(scribe.steps) < steps:
        common = scribe.branch(tip, scribe.random.randrange(1, 8))
        losing = scribe.branch(common[-1], scribe.random.randrange(0, REORG_BLOCKS_MAX))
        winning = scribe.branch(common[-1], len(losing) + 1)
        for block in [*common, *losing, *winning]:
            scribe.add(block)
        tip = winning[-1]
    if compact_at is not None:
        scribe.steps[compact_at] = replace(scribe.steps[compact_at], prune=True, compact=True)
    chainwork = {block_hash: node.chainwork for block_hash, node in builder.tree.nodes.items()}
    return Script(builder.genesis.encode(), tuple(scribe.steps), chainwork, tip.hash)
