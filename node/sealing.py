"""Who may seal on top of a connected block, told before the new block's body is here.

Owns when the answer is known: for a header whose parent is connected, and for no other. The role entries of the
tip's state keep their height intervals, and a block writes intervals from the next height on only, so the tip's
entry tells the authority at every height of its own chain: that of a header that forks off far below the tip as
well. Deeper in a branch the answer waits for the bodies between, since they may grant and rotate roles.

So a branch that strangers sealed is refused at its first header, or once the block below it is connected; nobody
needs its bodies for that, and keeping them back changes nothing. Refusals are not written down: after a restart
such a header is judged when it comes, and one that is stored when the store is opened.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..consensus.chain import BlockTree, HeaderNode
from ..consensus.errors import RuleViolation
from ..consensus.kinds import SEALING_ROLE
from ..consensus.state import StateView
from ..consensus.validation import check_producer
from .chain_index import ChainReader
from .store.port import Store


def check_sealer(tree: BlockTree, store: Store, parent: HeaderNode, producer: bytes) -> None:
    """Check the key that seals a child of ``parent``; nothing when ``parent`` is not connected.

    Raises:
        RuleViolation: unauthorized-producer.
    """
    if tree.is_active(parent):
        with store.read() as reader:
            _check(ChainReader(reader), parent, producer)


def _check(chain: ChainReader, parent: HeaderNode, producer: bytes) -> None:
    # The store may be ahead of the tree, on another branch: what counts is the chain of this snapshot.
    if chain.block_hash(parent.height) == parent.hash:
        entry = StateView(chain.reader).role(SEALING_ROLE, producer)
        check_producer(entry, producer, height=parent.height + 1)


def find_wrongly_sealed(
    tree: BlockTree, store: Store, connected: Iterable[HeaderNode]
) -> list[tuple[HeaderNode, RuleViolation]]:
    """Judge the headers that came before the blocks below them were connected; return those to refuse."""
    waiting = [
        (parent, child)
        for parent in connected
        for child in parent.children()
        if not (child.invalid or tree.is_active(child))
    ]
    found: list[tuple[HeaderNode, RuleViolation]] = []
    if not waiting:
        return found
    with store.read() as reader:
        chain = ChainReader(reader)
        for parent, child in waiting:
            try:
                _check(chain, parent, child.producer)
            except RuleViolation as error:
                found.append((child, error))
    return found
