"""A miner with more work than everybody else and no role: its chain, its forged state, and a peer that shows it."""

from __future__ import annotations

from collections.abc import Sequence

from facechain.consensus.block import Block, Body, Header, SealedHeader, seal_header
from facechain.consensus.chain import BlockTree, HeaderNode
from facechain.consensus.kinds import Role
from facechain.consensus.params import Genesis
from facechain.consensus.signing import LedgerKey
from facechain.consensus.state import State, state_root, sub_roots

from .chain import STRANGER, ChainBuilder, DictState, solve


def line_to(builder: ChainBuilder, block: Block) -> list[Block]:
    """Return the blocks from block 1 to `block`."""
    line = []
    while block.header.height > 0:
        line.append(block)
        block = builder.blocks[block.header.previous]
    return line[::-1]


def forged_state(builder: ChainBuilder, fork: Block, key: LedgerKey) -> DictState:
    """Return the state after `fork`, with `key` as a producer of all heights: nobody granted that."""
    forged = State(builder.state(fork).copy())
    forged.open_role(Role.PRODUCER, key.public, 1, None)
    forged.root()
    state = builder.state(fork).copy()
    state.apply(forged.overlay.delta())
    return state


def strangers_line(
    builder: ChainBuilder, fork: Block, length: int, *, key: LedgerKey = STRANGER
) -> list[Block]:
    """Mine `length` blocks on top of `fork`, every one right but for the key that seals it.

    They commit to a forged state in which the key is a producer, so that only the first of them can be told
    from a true one by who reads states without bodies.
    """
    tree = BlockTree(builder.genesis_block.sealed, builder.params)
    for block in line_to(builder, fork):
        tree.add_header(block.sealed)
    root = state_root(sub_roots(forged_state(builder, fork, key)))
    made: list[Block] = []
    parent = tree.nodes[fork.hash]
    for _ in range(length):
        context = tree.context(parent)
        header = Header(
            version=1,
            height=context.height,
            previous=context.parent_hash,
            body_root=Body(()).root(),
            state_root=root,
            time_ms=context.parent_time_ms + builder.params.spacing_ms + 1,
            bits=context.bits,
            producer=key.public,
            nonce=0,
        )
        made.append(Block(seal_header(key, builder.network_id, solve(header)), Body(())))
        parent = tree.add_header(made[-1].sealed)
    return made


class ShownChain:
    """What a synchroniser needs of a chain state, over blocks that no rule of the state was asked about."""

    def __init__(self, genesis: Genesis, root: SealedHeader, blocks: Sequence[Block]) -> None:
        """Show `blocks`, from block 1 on, as the active chain."""
        self.tree = BlockTree(root, genesis.params)
        self.pruned_below = 0
        self._sealed = {block.hash: block.sealed for block in blocks}
        self._blocks = {block.hash: block for block in blocks}
        for block in blocks:
            self.tree.set_tip(self.tree.add_header(block.sealed))

    def withhold(self, blocks: Sequence[Block]) -> None:
        """Keep these bodies back."""
        for block in blocks:
            del self._blocks[block.hash]

    def accept_header(self, sealed: SealedHeader, *, now_ms: int, seal_checked: bool = False) -> HeaderNode:
        self._sealed[sealed.hash] = sealed
        return self.tree.add_header(sealed)

    def block(self, block_hash: bytes) -> Block | None:
        return self._blocks.get(block_hash)

    def sealed_header(self, block_hash: bytes) -> SealedHeader | None:
        return self._sealed.get(block_hash)

    def sealed_headers(self, nodes: Sequence[HeaderNode]) -> tuple[bytes, ...]:
        return tuple(self._sealed[node.hash].encode() for node in nodes)
