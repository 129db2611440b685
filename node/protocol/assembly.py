"""Putting a block's body together from what the mempool holds and what peers send.

Owns one body at a time: its leaves, which statements are here, and which are missing. Every statement is
checked against its leaf, its payload against its header, and the leaves against the block's body root, so a
peer can delay a body but never slip a wrong one in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ...consensus.block import Block, Body, SealedHeader, body_root
from ...consensus.errors import RuleViolation
from ...consensus.statement import Statement
from ...consensus.validation import check_payload_hash

StatementByLeaf = Callable[[bytes], Statement | None]
"""Finds a statement in the mempool or in recent blocks."""


class BodyAssembly:
    """The body of one block while it is being put together."""

    def __init__(self, sealed: SealedHeader) -> None:
        """Start with nothing but the header."""
        self.sealed = sealed
        self.leaves: tuple[bytes, ...] | None = None
        self._found: dict[bytes, Statement] = {}
        self._missing: dict[bytes, int] = {}
        """Leaf -> lowest index, in the order of the body; a leaf that is there twice counts once."""
        self.byte_count = 0
        self.received_bytes = 0
        """Bytes of statements that came from peers."""
        self.reused = 0
        """Statements that were here already and did not travel again."""

    def set_leaves(self, leaves: tuple[bytes, ...], byte_count: int) -> None:
        """Take the list of leaves.

        Raises:
            RuleViolation: bad-merkle-root; the list is not the one the header commits to.
        """
        root = body_root(leaves, byte_count)
        if root != self.sealed.header.body_root:
            raise RuleViolation(
                "bad-merkle-root", expected=self.sealed.header.body_root.hex(), got=root.hex()
            )
        if self.leaves is not None:
            return
        self.leaves = leaves
        self.byte_count = byte_count
        for index, leaf in enumerate(leaves):
            self._missing.setdefault(leaf, index)

    def fill(self, source: StatementByLeaf) -> None:
        """Take every missing statement that is here already."""
        for leaf in list(self._missing):
            statement = source(leaf)
            if statement is not None:
                self._take(statement)
                self.reused += 1

    def add(self, start: int, statements: Iterable[Statement]) -> None:
        """Take consecutive statements from index ``start`` on.

        Raises:
            RuleViolation: bad-merkle-root, a statement is not the one of its leaf; payload-mismatch.
        """
        for index, statement in enumerate(statements, start):
            if self.leaves is None or index >= len(self.leaves) or self.leaves[index] != statement.leaf:
                raise RuleViolation(
                    "bad-merkle-root", expected=f"the statement of leaf {index}", got=statement.leaf.hex()
                )
            if statement.leaf in self._missing:
                check_payload_hash(statement)
                self._take(statement)
                self.received_bytes += statement.size_bytes

    def add_by_leaf(self, statements: Iterable[Statement]) -> int:
        """Take whichever of the statements are missing here; return how many were. Their payloads were checked."""
        taken = 0
        for statement in statements:
            if statement.leaf in self._missing:
                self._take(statement)
                self.received_bytes += statement.size_bytes
                taken += 1
        return taken

    def _take(self, statement: Statement) -> None:
        del self._missing[statement.leaf]
        self._found[statement.leaf] = statement

    def lacks(self, leaves: Iterable[bytes]) -> bool:
        """Tell whether one of the leaves is missing here."""
        return any(leaf in self._missing for leaf in leaves)

    def missing_leaves(self) -> tuple[bytes, ...]:
        """Return the leaves whose statements are not here, each once, in the order of the body."""
        return tuple(self._missing)

    def next_start(self) -> int:
        """Return the lowest index from which to ask for more."""
        return next(iter(self._missing.values()), 0)

    def block(self) -> Block | None:
        """Return the block once all of it is here."""
        if self.leaves is None or self._missing:
            return None
        return Block(self.sealed, Body(tuple(self._found[leaf] for leaf in self.leaves)))
