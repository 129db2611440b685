"""The bounds of the mempool, what it answers when it takes or refuses, and why statements left it.

Owns one table of limits and the typed refusals. A statement that breaks a rule of the network is refused
with that rule (`consensus.errors.RuleViolation`); the refusals here are about this pool at this moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ...consensus.statement import Statement

MIB: Final = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class MempoolLimits:
    """Every bound of a pool. Statements returned by a reorganisation have room of their own."""

    bytes: int = 128 * MIB
    """Encoded bytes of all statements."""
    statements: int = 20_000
    author_bytes: int = 64 * MIB
    author_statements: int = 4_096
    """Sequence numbers of one author that may wait at once."""
    returned_bytes: int = 64 * MIB
    """Room beyond `bytes` that only statements of disconnected blocks and reloaded ones may use."""
    returned_statements: int = 20_000
    """The same for `statements`."""
    stalled_blocks: int = 16
    """Blocks after which an author's next statement is dropped when it names something unknown."""
    drops: int = 10_000
    """Reasons of dropped statements that are remembered for receipts; the oldest go first."""


DEFAULT_LIMITS: Final = MempoolLimits()

KEEP_ROWS_BLOCKS: Final = 64
"""Confirmations after which a statement's row leaves the store: until then a crash in the middle of a
reorganisation cannot lose it."""


class MempoolRefusal(Exception):
    """The pool does not take a statement now; the statement itself may be sound."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.diagnostics()

    def diagnostics(self) -> str:
        """Return `code: message` on one line."""
        return " ".join(f"{self.code}: {self.message}".split())


class SequenceGap(MempoolRefusal):
    """Earlier statements of the author are missing here; send those first."""

    def __init__(self, *, expected: int, got: int) -> None:
        super().__init__(
            "sequence-gap",
            f"expected sequence {expected}, got {got}; submit the author's statements from {expected} on first",
        )
        self.expected = expected
        self.got = got


class SequenceTaken(MempoolRefusal):
    """Another statement of the author holds this sequence number in the pool."""

    def __init__(self, *, sequence: int, held: bytes, following: int) -> None:
        super().__init__(
            "sequence-taken",
            f"sequence {sequence} is held by statement {held.hex()}; "
            f"sign with sequence {following}, or wait for a block",
        )
        self.sequence = sequence
        self.held = held
        self.following = following


class MempoolFull(MempoolRefusal):
    """Back-pressure: the same statement may be sent again after `retry_after_seconds`."""

    def __init__(self, *, what: str, limit: int, retry_after_seconds: int) -> None:
        super().__init__(
            "mempool-full",
            f"expected at most {limit} {what} waiting for a block, got more; "
            f"try again in {retry_after_seconds} s",
        )
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """Why a statement left the pool without being confirmed."""

    id: bytes
    leaf: bytes
    author: bytes
    sequence: int
    code: str
    """A rule of `consensus.errors.RULES`, or `evicted`, `mempool-full`, `sequence-gap`, `sequence-taken` or
    `follows-dropped` (an earlier statement of the author was dropped)."""
    message: str
    height: int
    """Height of the tip when it left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """The answer to a statement that the pool holds."""

    statement: Statement
    """The one that is held; of the same id, but its signature may differ when `known`."""
    known: bool
    """It was here before."""
    evicted: tuple[Drop, ...] = ()
    """What had to leave for it."""
