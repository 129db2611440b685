"""Bodies that peers ask for, as they travel.

Owns a bounded memory of encoded bodies, so that one which is fetched in chunks, or by several peers, is read
from the store and taken apart once. Loading may be done in another thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from ...consensus.block import Block
from ..wire.chunks import cut_body_chunk
from ..wire.limits import MAX_BODY_LEAVES
from ..wire.messages import BodyChunk, GetBody, GetLeaves, Leaves, Missing, NotFound
from .actions import Action, PeerId, Punish, Send

SERVED_BYTES_MAX = 48 * 2**20
"""Encoded bytes that are remembered; the one used last stays in any case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedBody:
    """One body, encoded."""

    block_hash: bytes
    leaves: tuple[bytes, ...]
    byte_count: int
    statements: tuple[bytes, ...]

    @classmethod
    def of(cls, block: Block) -> ServedBody:
        """Encode a block's body."""
        return cls(
            block_hash=block.hash,
            leaves=block.body.leaves(),
            byte_count=block.body.byte_count(),
            statements=tuple(statement.encode() for statement in block.body.statements),
        )

    def chunk(self, start: int, *, with_leaves: bool) -> BodyChunk:
        """Return as many statements from ``start`` on as one frame holds; ValueError past the last."""
        return cut_body_chunk(
            block_hash=self.block_hash,
            leaves=self.leaves if with_leaves else (),
            byte_count=self.byte_count,
            statements=self.statements,
            start=start,
        )


class ServedBodies:
    """See the module's text."""

    def __init__(self, block: Callable[[bytes], Block | None], max_bytes: int = SERVED_BYTES_MAX) -> None:
        """``block`` reads a block whose body is here, in any thread."""
        self._block = block
        self._max_bytes = max_bytes
        self._bytes = 0
        self._bodies: OrderedDict[bytes, ServedBody] = OrderedDict()

    def __contains__(self, block_hash: object) -> bool:
        """Tell whether a body is remembered."""
        return block_hash in self._bodies

    def load(self, block_hash: bytes) -> ServedBody | None:
        """Read and encode a body without remembering it: safe in any thread."""
        block = self._block(block_hash)
        return None if block is None else ServedBody.of(block)

    def keep(self, body: ServedBody) -> None:
        """Remember a body."""
        if body.block_hash not in self._bodies:
            self._bodies[body.block_hash] = body
            self._bytes += body.byte_count
        while self._bytes > self._max_bytes and len(self._bodies) > 1:
            _, oldest = self._bodies.popitem(last=False)
            self._bytes -= oldest.byte_count

    def answer(self, peer: PeerId, message: GetBody) -> Action:
        """Return what a request for a body is answered with."""
        body = self.get(message.block_hash)
        if body is None:
            return Send(peer, NotFound(missing=Missing.BODY, hashes=(message.block_hash,)))
        count = len(body.statements)
        if message.start and message.start >= count:
            detail = f"GetBody: expected a start below {count}, got {message.start}"
            return Punish(peer, "bad-start", detail)
        return Send(peer, body.chunk(message.start, with_leaves=message.with_leaves))

    def answer_leaves(self, peer: PeerId, message: GetLeaves) -> Action:
        """Return what a request for the leaves of a body is answered with."""
        body = self.get(message.block_hash)
        if body is None or len(body.leaves) > MAX_BODY_LEAVES:
            return Send(peer, NotFound(missing=Missing.LEAVES, hashes=(message.block_hash,)))
        answer = Leaves(block_hash=body.block_hash, byte_count=body.byte_count, leaves=body.leaves)
        return Send(peer, answer)

    def get(self, block_hash: bytes) -> ServedBody | None:
        """Return a body, remembered or read now; None when it is not here."""
        found = self._bodies.get(block_hash)
        if found is None:
            found = self.load(block_hash)
            if found is not None:
                self.keep(found)
        else:
            self._bodies.move_to_end(block_hash)
        return found
