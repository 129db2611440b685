"""A header chain of little work is looked at twice before any of it is kept: once for its work, once to keep it.

Owns one peer's chain while it has less work than is worth storing. The first pass checks every header by the rules
of headers, with a window of the ancestors that they look at, and keeps of every `period` headers one secret bit: a
salted commitment. Once the chain has enough work, the peer is asked for it again. The second pass compares the
bits, holds the headers back until enough bits behind them agreed, and then releases them to be stored. So a chain
that never has the work costs a bit for every `period` of its headers, and one that is exchanged for another
between the passes is noticed, at the default limits but once in 2^24 tries.

Seals cost a signature each, so none is looked at here: the released headers are checked whole when they are stored.

It does no I/O and adds nothing to the tree. The idea is that of Bitcoin Core's `headerssync`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Final

from ...consensus.block import SealedHeader
from ...consensus.chain import HeaderNode, context_headers, header_context
from ...consensus.errors import RuleViolation
from ...consensus.hashing import sha256
from ...consensus.params import Params
from ...consensus.upgrade import SUPPORTED_VERSIONS
from ...consensus.validation import check_header, check_time
from ...consensus.work import bits_to_target, block_work, meets_target
from ..wire.limits import MAX_PRESYNC_BITS, MAX_PRESYNC_HEADERS

SALT_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class PresyncLimits:
    """What one chain may cost while it is looked at."""

    period: int = 128
    """Headers for each bit that is kept."""
    held_back: int = MAX_PRESYNC_HEADERS
    """Headers that the second pass holds back: 24 bits at the default period."""
    bits: int = MAX_PRESYNC_BITS
    """Most bits that are kept: 128 KiB, 134 million headers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderRules:
    """What a header is checked against before it is stored, and the secret of this node's commitments."""

    params: Params
    salt: bytes = field(repr=False)
    """32 random bytes that no peer knows."""
    versions: Container[int] = SUPPORTED_VERSIONS
    limits: PresyncLimits = PresyncLimits()


class ChainEnded(Exception):
    """The chain ended, or had more headers than are looked at, before it had enough work. Nobody is to blame."""


class ChainChanged(Exception):
    """The second pass brought other headers than the first."""


def check_own_work(sealed: SealedHeader, params: Params) -> int:
    """Check a header's hash against its own bits, and these against the network's limit; return its work.

    It costs less than a seal, and no header without work passes it.

    Raises:
        RuleViolation: bad-diffbits, high-hash.
        DecodeError: bits that no header may carry.
    """
    bits = sealed.header.bits
    bits_to_target(bits, pow_limit=bits_to_target(params.pow_limit_bits))
    if not meets_target(sealed.hash, bits):
        raise RuleViolation("high-hash", expected=f"below the target of {bits:#010x}", got=sealed.hash.hex())
    return block_work(bits)


class Commitments:
    """One secret bit for every `period` headers."""

    def __init__(self, salt: bytes, period: int) -> None:
        """Choose at which heights bits are kept: that is secret too."""
        self._salt = salt
        self._period = period
        self._offset = int.from_bytes(sha256(salt)[:8], "big") % period
        self._bits = bytearray()
        self._count = 0
        self._compared = 0

    def __len__(self) -> int:
        """Return how many bits are kept."""
        return self._count

    def is_due(self, height: int) -> bool:
        """Tell whether a bit is kept of the header at this height."""
        return height % self._period == self._offset

    def _bit(self, block_hash: bytes) -> int:
        return sha256(self._salt + block_hash)[0] & 1

    def keep(self, block_hash: bytes) -> None:
        """Append a header's bit."""
        if self._count % 8 == 0:
            self._bits.append(0)
        self._bits[-1] |= self._bit(block_hash) << self._count % 8
        self._count += 1

    def agrees(self, block_hash: bytes) -> bool:
        """Compare a header's bit with the next one that was kept."""
        if self._compared == self._count:
            return False
        kept = self._bits[self._compared // 8] >> self._compared % 8 & 1
        self._compared += 1
        return kept == self._bit(block_hash)


class Presync:
    """See the module's text. Give it every headers message of the peer, in order, until :attr:`is_done`."""

    def __init__(self, start: HeaderNode, enough_work: int, rules: HeaderRules) -> None:
        """`start`: the known header below the chain; `enough_work`: the chainwork from which it is worth storing."""
        self.start = start
        self._enough_work = enough_work
        self._rules = rules
        self._commitments = Commitments(rules.salt + start.hash, rules.limits.period)
        self._line: deque[HeaderNode] = deque()
        """First pass: the newest headers, as many as the rules look at; the oldest has no parent here."""
        self._held: deque[SealedHeader] = deque()
        """Second pass: headers that wait for more bits to agree."""
        self._last_hash, self._work = start.hash, start.chainwork
        self.height = start.height
        """Of the newest header that this pass looked at."""
        self.is_second_pass = False
        self._releases_all = False

    @property
    def last_hash(self) -> bytes:
        """The header after which to ask for more."""
        return self._last_hash

    @property
    def is_done(self) -> bool:
        """Tell whether all that there was to release is released."""
        return self._releases_all and not self._held

    @property
    def kept(self) -> tuple[int, int]:
        """How many headers and bits are in memory."""
        return len(self._line) + len(self._held), len(self._commitments)

    def take(
        self, headers: Sequence[SealedHeader], *, is_full: bool, now_ms: int
    ) -> tuple[SealedHeader, ...]:
        """Look at the next headers, each with work of its own; return those to be stored now, oldest first.

        `is_full`: the message may be followed by more.

        Raises:
            RuleViolation: a rule of headers.
            Temporary: time-too-new, unknown-version.
            ChainEnded, ChainChanged: this chain comes to nothing.
        """
        if self.is_second_pass:
            return self._take_again(headers, is_full=is_full)
        if headers and headers[0].header.previous != self._last_hash:
            # An honest peer whose chain was reorganised meanwhile answers from an older block of the question.
            raise ChainChanged(f"expected a child of {self._last_hash.hex()}, got {headers[0].hash.hex()}")
        for sealed in headers:
            self._look(sealed, now_ms)
            if self._work >= self._enough_work:
                self._begin_second_pass()
                return ()
        if not is_full:
            raise ChainEnded(f"chainwork {self._work} of {self._enough_work} at height {self.height}")
        return ()

    def _look(self, sealed: SealedHeader, now_ms: int) -> None:
        params, header = self._rules.params, sealed.header
        parent = self._line[-1] if self._line else self.start
        check_header(header, header_context(parent, params), params, self._rules.versions)
        check_time(header, params, now_ms=now_ms)
        node = HeaderNode(
            block_hash=sealed.hash,
            height=header.height,
            time_ms=header.time_ms,
            producer=header.producer,
            chainwork=parent.chainwork + block_work(header.bits),
            parent=parent,
        )
        self._line.append(node)
        if len(self._line) > context_headers(params):
            self._line.popleft()
            self._line[0].parent = None
        self._last_hash, self._work, self.height = node.hash, node.chainwork, node.height
        if self._commitments.is_due(node.height):
            if len(self._commitments) >= self._rules.limits.bits:
                raise ChainEnded(f"{len(self._commitments)} bits are kept at height {self.height}")
            self._commitments.keep(node.hash)

    def _begin_second_pass(self) -> None:
        self.is_second_pass = True
        self._line.clear()
        self._last_hash, self._work, self.height = self.start.hash, self.start.chainwork, self.start.height

    def _take_again(self, headers: Sequence[SealedHeader], *, is_full: bool) -> tuple[SealedHeader, ...]:
        for sealed in headers:
            if sealed.header.previous != self._last_hash:
                raise ChainChanged(f"expected a child of {self._last_hash.hex()}, got {sealed.hash.hex()}")
            self._last_hash = sealed.hash
            self.height += 1
            self._work += block_work(sealed.header.bits)
            if not self._releases_all and self._commitments.is_due(self.height):
                self._compare(sealed.hash)
            self._releases_all = self._releases_all or self._work >= self._enough_work
            self._held.append(sealed)
        if not (is_full or self._releases_all):
            raise ChainChanged(f"expected chainwork {self._enough_work} again, got {self._work}")
        keep = 0 if self._releases_all else self._rules.limits.held_back
        return tuple(self._held.popleft() for _ in range(max(len(self._held) - keep, 0)))

    def _compare(self, block_hash: bytes) -> None:
        if not self._commitments.agrees(block_hash):
            raise ChainChanged(f"expected the header of the first pass at height {self.height}")
