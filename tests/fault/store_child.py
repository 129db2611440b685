"""The process that is killed: it opens a store and goes through a script from wherever the store stands.

Usage: store_child.py STORE SCRIPT [MAP_BYTES]. It says on stdout, unbuffered, what is durable; the driver
believes nothing else. `refused` is an error of the store that it was told of; it then ends with code 3.
"""

from __future__ import annotations

import hashlib
import os
import sys
from functools import partial
from pathlib import Path

from facechain.consensus.kv import Bucket
from facechain.consensus.params import Genesis
from facechain.consensus.statement import Statement
from facechain.node.chain_index import ChainReader
from facechain.node.chain_runner import open_tip
from facechain.node.chainstate import ChainState
from facechain.node.maintenance.prune import prune
from facechain.node.mempool import DurableMempool
from facechain.node.mempool.durable import CONFIRMED
from facechain.node.store.errors import StoreError
from facechain.node.store.lmdb_store import LmdbStore
from facechain.node.store.port import Reader
from facechain.node.store.schema import Table
from fault.chain_script import PRUNE_KEEP, Script, Step

MAP_BYTES = 1 << 20
REFUSED = 3
COMPARED = (
    *Bucket,
    *(Table.ACTIVE, Table.UNDO, Table.STATEMENTS, Table.BATCHES, Table.LOOKS, Table.REFERENCES),
    *(Table.RUNS, Table.PIXEL_RUNS, Table.FILE_RUNS),
)


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def state_hash(reader: Reader) -> str:
    """Hash every row that two nodes on the same tip have in common."""
    digest = hashlib.sha256(ChainReader(reader).tip_hash())
    for bucket in COMPARED:
        for key, value in reader.scan(bucket):
            digest.update(b"%d %d " % (len(key), len(value)) + bucket.encode() + key + value)
    return digest.hexdigest()


def run_step(chain: ChainState, pool: DurableMempool, step: Step) -> bool:
    """Do one step; tell whether the tip moved."""
    answers = pool.submit([Statement.decode(data) for data in step.submit])
    for answer in answers:
        if answer.queued and not answer.known:
            say("ack", answer.statement.encode().hex())
    block = step.decoded()
    update = chain.accept_block(block, now_ms=block.header.time_ms)
    if update.refused:
        raise AssertionError(f"a valid block was refused: {update.refused[0][1]}")
    for drop in pool.on_update(connected=update.connected, disconnected=update.disconnected):
        say("drop", drop.leaf.hex(), drop.code)
    if update.changed:
        say("tip", chain.tree.tip.hash.hex())
    return update.changed


def live(folder: Path, script: Script, map_bytes: int) -> None:
    """Go through the script; a step that prunes closes the store, as an operator must.

    What waited in memory when the store was closed is handed in again, as peers would.
    """
    genesis = Genesis.decode(script.genesis)
    reached = 0
    while reached < len(script.steps):
        with LmdbStore.open(folder, map_bytes=map_bytes) as store:
            chain = ChainState.open(store, genesis)
            pool = DurableMempool.open(store, chain.params, chain.network_id, partial(open_tip, chain))
            say("open", chain.tree.tip.height)
            tell_kept(store, pool)
            map_size = store.map_bytes
            for position, step in enumerate(script.steps):
                # A branch that pruning forgot is handed in again, and moves nothing.
                moved = not known(chain, step) and run_step(chain, pool, step)
                if store.map_bytes != map_size:
                    map_size = store.map_bytes
                    say("grown", map_size)
                if position >= reached:
                    reached = position + 1
                    if moved and step.prune:
                        break
        if moved and step.prune:
            prune(folder, PRUNE_KEEP, shrink=step.compact)
            say("pruned")


def tell_kept(store: LmdbStore, pool: DurableMempool) -> None:
    """Say what a submitter who asks after a start is told of the statements that this chain refuses."""
    with store.read() as reader:
        kept = [Statement.decode(value) for _, value in reader.scan(Table.MEMPOOL)]
    for statement in kept:
        drop = pool.pool.dropped(statement.id)
        if drop is not None and drop.code != CONFIRMED:
            say("drop", statement.leaf.hex(), drop.code)


def known(chain: ChainState, step: Step) -> bool:
    node = chain.tree.get(step.decoded().hash)
    return node is not None and node.has_body


def main() -> int:
    folder, script = Path(sys.argv[1]), Script.load(Path(sys.argv[2]))
    map_bytes = int(sys.argv[3]) if len(sys.argv) > 3 else MAP_BYTES
    try:
        live(folder, script, map_bytes)
        with LmdbStore.open(folder) as store, store.read() as reader:
            say("done", state_hash(reader))
    except (StoreError, OSError) as error:
        say("refused", " ".join(str(error).split()))
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
