"""Putting a block's body together from what the mempool holds and what peers send.

Owns one body at a time: its leaves, which statements are here, and which are missing. Every
statement is checked against its leaf and the leaves against the header's body root, so a peer can
delay a body but never slip a wrong one in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ...consensus.block import Block, Body, SealedHeader, body_root
from ...consensus.errors import RuleViolation
from ...consensus.statement import Statement

StatementByLeaf = Callable[[bytes], Statement | None]
"""Finds a statement in the mempool or in recent blocks."""


class BodyAssembly:
    """The body of one block while it is being put together."""

    def __init__(self, sealed: SealedHeader) -> None:
        """Start with nothing but the header."""
        self.sealed = sealed
        self.leaves: tuple[bytes, ...] | None = None
        self._found: dict[int, Statement] = {}
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
        self.leaves = leaves

    def fill(self, source: StatementByLeaf) -> None:
        """Take every missing statement that is here already."""
        for index in self.missing():
            statement = source(self._leaf(index))
            if statement is not None:
                self._found[index] = statement
                self.reused += 1

    def add(self, start: int, statements: Iterable[Statement]) -> None:
        """Take consecutive statements from index ``start`` on.

        Raises:
            RuleViolation: bad-merkle-root; a statement is not the one of its leaf.
        """
        for index, statement in enumerate(statements, start):
            if self.leaves is None or index >= len(self.leaves) or self.leaves[index] != statement.leaf:
                raise RuleViolation(
                    "bad-merkle-root", expected=f"the statement of leaf {index}", got=statement.leaf.hex()
                )
            self._found[index] = statement

    def add_by_leaf(self, statements: Iterable[Statement]) -> int:
        """Take whichever of the statements are missing here; return how many were."""
        by_leaf = {statement.leaf: statement for statement in statements}
        taken = 0
        for index in self.missing():
            statement = by_leaf.get(self._leaf(index))
            if statement is not None:
                self._found[index] = statement
                taken += 1
        return taken

    def _leaf(self, index: int) -> bytes:
        return b"" if self.leaves is None else self.leaves[index]

    def missing(self) -> list[int]:
        """Return the indexes whose statements are not here."""
        if self.leaves is None:
            return []
        return [index for index in range(len(self.leaves)) if index not in self._found]

    def missing_leaves(self) -> tuple[bytes, ...]:
        """Return the leaves whose statements are not here."""
        return tuple(self._leaf(index) for index in self.missing())

    def next_start(self) -> int:
        """Return the lowest index from which to ask for more."""
        missing = self.missing()
        return missing[0] if missing else 0

    def block(self) -> Block | None:
        """Return the block once all of it is here."""
        if self.leaves is None or len(self._found) < len(self.leaves):
            return None
        return Block(self.sealed, Body(tuple(self._found[index] for index in range(len(self.leaves)))))
