"""Long chains at a block per millisecond or less: for benches at 100,000 blocks and for deep reorganisations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from facechain.consensus import apply, validation
from facechain.consensus.apply import Transition
from facechain.consensus.block import HEADER_VERSION, Block, Body, Header, seal_header
from facechain.consensus.params import Genesis
from facechain.consensus.state import StateView
from facechain.consensus.statement import Statement
from facechain.node.chainstate import GROUP_BLOCKS_MAX, ChainState
from support.chain import PRODUCER, DictState, solve


class LongChain:
    """The end of a chain whose blocks come one spacing apart; only its last block and state are kept."""

    def __init__(self, genesis: Genesis) -> None:
        self.genesis = genesis
        self.tip, delta = apply.genesis_block(genesis)
        self.state = DictState()
        self.state.apply(delta)
        self._anchor_ms: int | None = None

    def fork(self) -> LongChain:
        """Return a second chain that goes on from the same block."""
        other = LongChain(self.genesis)
        other.tip, other.state, other._anchor_ms = self.tip, self.state.copy(), self._anchor_ms
        return other

    def next_sequence(self, author: bytes) -> int:
        return StateView(self.state).next_sequence(author)

    def mine(
        self, statements: Sequence[Statement] = (), *, delay_ms: int | None = None, keep: bool = True
    ) -> Block:
        """Return the next block; `keep` False: a sibling of it, on which nothing follows.

        `delay_ms`: time since its parent (default: a spacing).
        """
        parent, params = self.tip.header, self.genesis.params
        transition = Transition(self.state, params, height=parent.height + 1, parent_hash=parent.hash)
        for statement in statements:
            transition.add(validation.check_statement(statement, params, self.genesis.network_id))
        delta, root = transition.finish()
        body = Body(tuple(statements))
        header = Header(
            version=HEADER_VERSION,
            height=parent.height + 1,
            previous=parent.hash,
            body_root=body.root(),
            state_root=root,
            time_ms=parent.time_ms + (delay_ms or params.spacing_ms),
            bits=validation.next_bits(
                params,
                parent_height=parent.height,
                parent_time_ms=parent.time_ms,
                anchor_time_ms=self._anchor_ms,
            ),
            producer=PRODUCER.public,
            nonce=0,
        )
        block = Block(seal_header(PRODUCER, self.genesis.network_id, solve(header)), body)
        if keep:
            self.state.apply(delta)
            self.tip = block
            self._anchor_ms = self._anchor_ms or header.time_ms
        return block

    def mine_many(self, count: int, *, delay_ms: int | None = None) -> Iterator[Block]:
        """Yield `count` empty blocks."""
        for _ in range(count):
            yield self.mine(delay_ms=delay_ms)


def connect_all(chain: ChainState, blocks: Iterable[Block], *, now_ms: int) -> None:
    """Hand blocks to a chain state as a catch-up does, a group in one transaction."""
    waiting = 0
    for block in blocks:
        chain.accept_header(block.sealed, now_ms=now_ms)
        chain.check_new_body(block)
        chain.accept_body(block)
        waiting += 1
        if waiting == GROUP_BLOCKS_MAX:
            chain.advance()
            waiting = 0
    chain.advance()
