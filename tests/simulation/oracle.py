"""What must hold: every active block checked again by an independent implementation, and every bound.

`Oracle` is the page docs/protocol.md a second time (`support.reference`), which shares no code with the node: every
block that ever becomes active on any honest node is put through it. The other functions read the machines of a node
and compare what they hold with their limits. All raise `Violation`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from facechain.consensus.chain import HeaderNode
from facechain.consensus.params import Genesis
from facechain.consensus.statement import Statement
from facechain.node.chainstate import ChainState
from facechain.node.protocol.sync_peer import is_ancestor
from facechain.node.store.memory import MemoryStore
from facechain.node.store.port import Store
from facechain.node.store.schema import BUCKETS, Table
from support.reference import Reference, Rejected

from .events import Violation
from .nodes import SimNode
from .versions import KNOWN, VersionCheck

OWN_TABLES: Final = frozenset(
    {
        Table.META,
        Table.HEADERS,
        Table.BODIES,
        Table.UNDO,
        Table.MEMPOOL,
        Table.PEERS,
        Table.BANS,
        Table.TESTS,
        Table.PRUNED,
    }
)
"""Tables that differ between two honest nodes of one tip: side branches, promises and what is known of peers."""


class Oracle:
    """See the module's text."""

    def __init__(self, genesis: Genesis) -> None:
        root = Reference(genesis.encode(), KNOWN)
        self._genesis = genesis
        self._chains: dict[bytes, Reference] = {root.tip_hash: root}
        self._kept: dict[str, tuple[int, bytes]] = {}
        """Highest checkpoint that ever held on each node's chain."""
        self.versions = VersionCheck(lambda tip, height: self._chains[tip].state.version(height))
        self.upgrades = 0
        """Blocks that were the first of their version on some chain."""

    @property
    def blocks(self) -> int:
        """Different blocks that were checked again."""
        return len(self._chains) - 1

    def check_tip(self, node: SimNode) -> None:
        """Put every block of a node's active chain that is new through the second implementation."""
        with node.aside():
            self._check_line(node)
        self._check_checkpoint(node)
        self.versions.on_tip(node)

    def _check_line(self, node: SimNode) -> None:
        new = []
        for item in node.chain.tree.tip.ancestors():
            if item.hash in self._chains:
                break
            new.append(item)
        for item in reversed(new):
            block = node.chain.block(item.hash)
            if block is None:
                raise Violation(f"{node.name} follows block {item.hash.hex()} without its body")
            chain = self._chains[block.header.previous].fork()
            try:
                chain.accept(block.sealed.encode(), block.body.encode())
            except Rejected as error:
                raise Violation(f"{node.name} took the invalid block {item.hash.hex()}: {error}") from error
            if chain.chainwork != item.chainwork:
                raise Violation(f"{node.name} counts work {item.chainwork}, expected {chain.chainwork}")
            self.upgrades += chain.headers[-1].version != chain.headers[-2].version
            self._chains[item.hash] = chain

    def _check_checkpoint(self, node: SimNode) -> None:
        """No node ever leaves a checkpoint that it accepted."""
        held = self._chains[node.tip].state.checkpoint
        known = max(filter(None, (self._kept.get(node.name), held)), default=None)
        if known is None:
            return
        height, block_hash = self._kept[node.name] = known
        active = node.chain.tree.active
        if len(active) <= height or active[height].hash != block_hash:
            raise Violation(f"{node.name} left the checkpoint {block_hash.hex()} at height {height}")

    def check_depth(self, node: SimNode, old: HeaderNode) -> None:
        """No node reorganises deeper than its operator allows."""
        fork = next(item for item in old.ancestors() if node.chain.tree.is_active(item))
        if old.height - fork.height > node.max_reorg:
            raise Violation(
                f"{node.name} took {old.height - fork.height} blocks off, expected at most {node.max_reorg}"
            )

    @property
    def checkpoints(self) -> int:
        """Different checkpoints that held on some node."""
        return len(set(self._kept.values()))

    def forget(self, node: SimNode) -> None:
        """A node's disk is gone, and with it all that it accepted."""
        self._kept.pop(node.name, None)

    def followers(self, nodes: Sequence[SimNode]) -> list[SimNode]:
        """Return the nodes whose chain holds the highest checkpoint that anybody accepted."""
        highest = max(self._kept.values(), default=None)
        if highest is None:
            return list(nodes)
        height, block_hash = highest
        lines = [(node, node.chain.tree.active) for node in nodes]
        return [node for node, line in lines if len(line) > height and line[height].hash == block_hash]

    def split(self, nodes: Sequence[SimNode]) -> list[str]:
        """Return the nodes that do not follow the highest checkpoint."""
        following = self.followers(nodes)
        return [node.name for node in nodes if node not in following]

    def best_known(self, node: SimNode) -> int:
        """Return the most work of a valid chain whose bodies a node has and that its checkpoint allows."""
        tree, kept = node.chain.tree, self._kept.get(node.name)
        candidates = [item for item in tree.nodes.values() if item.linked and not item.invalid]
        if kept is not None:
            known = tree.nodes[kept[1]]
            candidates = [item for item in candidates if is_ancestor(known, item)]
        return max(item.chainwork for item in candidates)

    def replay(self, node: SimNode) -> str:
        """Return the state hash of a fresh node that is given nothing but a node's active chain."""
        with MemoryStore.open() as store:
            fresh = ChainState.open(store, self._genesis, versions=KNOWN)
            for item in node.chain.tree.active[1:]:
                block = node.chain.block(item.hash)
                if block is None or fresh.accept_block(block, now_ms=2 * item.time_ms).refused:
                    raise Violation(f"block {item.height} of {node.name} does not connect in a new node")
            if fresh.tree.tip.hash != node.tip:
                raise Violation(
                    f"a new node ends at {fresh.tree.tip.hash.hex()}, {node.name} at {node.tip.hex()}"
                )
            return state_hash(store)


def state_hash(store: Store) -> str:
    """Return the hash of all tables that follow from the active chain."""
    digest = hashlib.sha256()
    with store.read() as reader:
        for bucket in BUCKETS:
            if bucket in OWN_TABLES:
                continue
            digest.update(bucket.encode())
            for key, value in reader.scan(bucket):
                digest.update(len(key).to_bytes(2, "big") + key + len(value).to_bytes(4, "big") + value)
    return digest.hexdigest()


def check_states(nodes: Iterable[SimNode]) -> None:
    """Nodes at one tip have one state."""
    seen: dict[bytes, tuple[str, str]] = {}
    for node in nodes:
        found = state_hash(node.store)
        name, first = seen.setdefault(node.tip, (node.name, found))
        if found != first:
            raise Violation(f"{name} and {node.name} stand at {node.tip.hex()} with different states")


def check_promises(node: SimNode, promised: Iterable[Statement]) -> None:
    """What a node acknowledged is on its chain or on its disk, whenever it is not between two of its steps."""
    runner = node.node.runner
    if runner._unfollowed or runner._changes:
        return
    with node.aside(), node.chain.snapshot() as reader:
        for statement in promised:
            row = reader.reader.get(Table.MEMPOOL, statement.leaf)
            if row is None and reader.place_of(statement.id) is None:
                raise Violation(f"{node.name} lost the acknowledged statement {statement.id.hex()}")
