"""Memory of a whole node with a long chain and many records: start, catch-up, audits; prints a JSON line.

Run: PYTHONPATH=tests python tests/bench/bench_node_memory.py [BLOCKS] [RECORDS] [CATCH_UP_BLOCKS] [FOLDER]

A chain of BLOCKS (default 20,000; the target is stated for 100,000) of which every hundredth holds an equal share of
RECORDS (default 1 million; target 10 million) is connected through the real chain state to a store in FOLDER, default
the system's temporary folder; a copy of it gets CATCH_UP_BLOCKS (default 1,000) more: every twentieth with 10,000
records, and in the middle `FULL_BLOCKS` in a row with 200,000 each (14 MB). Every block is signed, sealed and checked
as on a network; work is a hash or two, and the records are random bytes. Then `facechain node start` opens the
store, catches up from a second process with the longer one, and is asked for the evidence of registered and of
unknown images, which is verified here. The resident memory of that node is sampled from when it takes connections on: `anon` (RssAnon) is the
node's own, `file` (RssFile, and RssShmem for a store in /dev/shm) pages of files, the store's map most of all, which
the system takes back when it needs them.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from facechain.cli.auditing import Result, audit_hash
from facechain.cli.client_images import ImageClient
from facechain.consensus.block import Block
from facechain.consensus.params import Genesis
from facechain.consensus.payloads import ImageBatch
from facechain.consensus.records import RECORD_BYTES
from facechain.consensus.signing import LedgerKey
from facechain.consensus.statement import (
    NEVER_EXPIRES,
    Statement,
    sign_statement,
)
from facechain.node.chainstate import ChainState
from facechain.node.genesis_file import GenesisDocument, write_document
from facechain.node.service import clock_ms
from facechain.node.store.lmdb_file import DATA_NAME
from facechain.node.store.lmdb_store import LmdbStore
from support.chain import KIND_OF, PRODUCER, keys, make_genesis, pack_batch
from support.long_chain import LongChain, connect_all
from support.memory import resident_kib, sampled
from support.node_processes import NodeProcess

BLOCKS: Final = 20_000
RECORDS: Final = 1_000_000
CATCH_UP_BLOCKS: Final = 1_000
BATCH_EVERY: Final = 100
CATCH_UP_BATCH_EVERY: Final = 20
BATCH_RECORDS: Final = 10_000
FULL_BLOCKS: Final = 12
FULL_BATCHES: Final = 20
AUDITS: Final = 200
SPACING_MS: Final = 10_000
CATCH_UP_SECONDS_MAX: Final = 1_800.0
SAMPLE_SECONDS: Final = 0.01
STORE: Final = "store"
AUTHORS: Final = (PRODUCER, *keys(FULL_BATCHES - 1, start=60))
"""Producers of the full blocks: one author may not fill a block alone."""


@dataclass
class Memory:
    """The highest RssAnon and mapped pages of a process by phase, in MiB; `(anon, file)`."""

    pid: int
    phase: str = "start"
    highest: dict[str, tuple[int, int]] = field(default_factory=dict)

    def look(self) -> None:
        anon, mapped, shared = (kib // 1024 for kib in resident_kib(self.pid).values())
        file = mapped + shared
        before = self.highest.get(self.phase, (0, 0))
        self.highest[self.phase] = (max(before[0], anon), max(before[1], file))


class Writer:
    """Makes blocks with random records; a few of the registered pixel hashes are remembered."""

    def __init__(self, genesis: Genesis) -> None:
        self.chain = LongChain(genesis)
        self.random = np.random.default_rng(1)
        self.known: list[bytes] = []

    def batch(self, author: LedgerKey, count: int) -> Statement:
        packed = self.random.bytes(count * RECORD_BYTES)
        self.known.append(packed[:32])
        payload, header = pack_batch(packed, batch_seed=packed[:32])
        genesis = self.chain.genesis
        return sign_statement(
            author,
            genesis.network_id,
            payload=payload,
            kind=KIND_OF[ImageBatch],
            sequence=self.chain.next_sequence(author.public),
            claimed_time_ms=genesis.time_ms,
            valid_until_height=NEVER_EXPIRES,
            batch=header,
        )

    def history(self, blocks: int, records: int) -> Iterator[Block]:
        """Yield blocks whose every hundredth holds its share of `records`."""
        share = records // max(blocks // BATCH_EVERY, 1)
        for number in range(blocks):
            statements = [self.batch(PRODUCER, share)] if number % BATCH_EVERY == 0 else []
            yield self.chain.mine(statements, delay_ms=SPACING_MS)

    def catch_up(self, blocks: int) -> Iterator[Block]:
        """Yield the blocks that the node does not have yet."""
        for number in range(blocks):
            statements = []
            if 0 <= number - blocks // 2 < FULL_BLOCKS:
                statements = [self.batch(author, BATCH_RECORDS) for author in AUTHORS]
            elif number % CATCH_UP_BATCH_EVERY == 0:
                statements = [self.batch(PRODUCER, BATCH_RECORDS)]
            yield self.chain.mine(statements, delay_ms=SPACING_MS)


def build(folder: Path, blocks: int, records: int, catch_up: int) -> list[bytes]:
    """Write a store under `node`, a longer one under `full`, and the genesis; return registered hashes."""
    genesis = make_genesis(
        producers=AUTHORS, time_ms=clock_ms() - (blocks + catch_up + 10) * SPACING_MS, name="memory"
    )
    writer = Writer(genesis)
    with LmdbStore.open(folder / "full" / STORE) as store:
        connect_all(ChainState.open(store, genesis), writer.history(blocks, records), now_ms=clock_ms())
    shutil.copytree(folder / "full" / STORE, folder / "node" / STORE)
    with LmdbStore.open(folder / "full" / STORE) as store:
        connect_all(ChainState.open(store, genesis), writer.catch_up(catch_up), now_ms=clock_ms())
    write_document(folder / "genesis.json", GenesisDocument.of(genesis))
    return writer.known


async def audit(api: str, known: list[bytes], network: bytes) -> None:
    """Audit registered and unknown hashes in turns; ValueError for a wrong answer."""
    choice = random.Random(1)
    async with ImageClient(api) as client:
        for number in range(AUDITS):
            registered = number % 2 == 0
            digest = choice.choice(known) if registered else choice.randbytes(32)
            found = await audit_hash(client, digest, trusted=network)
            if (found.result is Result.NOT_FOUND) == registered:
                raise ValueError(f"{digest.hex()}: registered is {registered}, got {found.result}")


def measure(folder: Path, blocks: int, records: int, catch_up: int) -> dict[str, Any]:
    started = time.perf_counter()
    known = build(folder, blocks, records, catch_up)
    built = time.perf_counter() - started
    size = (folder / "node" / STORE / DATA_NAME).stat().st_size
    genesis = folder / "genesis.json"
    with NodeProcess(folder / "full", genesis) as full:
        started = time.perf_counter()
        with NodeProcess(folder / "node", genesis, "--peers", full.peer) as node:
            seconds = {"start": time.perf_counter() - started}
            memory = Memory(node.pid, "catch-up")
            with sampled(memory.look, seconds=SAMPLE_SECONDS):
                started = time.perf_counter()
                node.wait_for(
                    lambda status: status.height == blocks + catch_up,
                    seconds=CATCH_UP_SECONDS_MAX,
                    what="the node caught up",
                )
                seconds["catch-up"], started = time.perf_counter() - started, time.perf_counter()
                memory.phase = "audits"
                asyncio.run(audit(node.api, known, full.status().network_id))
                seconds["audits"] = time.perf_counter() - started
    return {
        "bench": "node-memory",
        "blocks": blocks,
        "records": records,
        "catch_up_blocks": catch_up,
        "full_blocks": FULL_BLOCKS,
        "store_mib": size // 2**20,
        "build_seconds": round(built),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "rss_anon_mib": {phase: anon for phase, (anon, _) in memory.highest.items()},
        "rss_file_mib": {phase: file for phase, (_, file) in memory.highest.items()},
    }


def main(words: list[str]) -> None:
    numbers = [int(word) for word in words[:3]]
    blocks, records, catch_up = [*numbers, *(BLOCKS, RECORDS, CATCH_UP_BLOCKS)[len(numbers) :]]
    with tempfile.TemporaryDirectory(
        prefix="facechain-memory-", dir=words[3] if len(words) > 3 else None
    ) as folder:
        print(json.dumps(measure(Path(folder), blocks, records, catch_up)))


if __name__ == "__main__":
    main(sys.argv[1:])
