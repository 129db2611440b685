"""What light clients ask of a node: roles under the tip, and headers with the proof of their seals' authority.

Owns the way back from the tip's state to earlier ones. The store keeps the last state only; undo data leads to those
before it. Of them a proof of authority needs the roles and the roots of the other trees, so nothing else is taken
along. Whoever receives the proofs checks them (`consensus.state_proof`, `consensus.light`).
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import Final

import msgpack

from ..consensus import sparse
from ..consensus.block import SealedHeader
from ..consensus.kinds import SEALING_ROLE, Role
from ..consensus.kv import Bucket
from ..consensus.light import ProvenHeader
from ..consensus.state import TREES, sub_roots
from ..consensus.state_proof import ROLES_ROOT, EntryProof, RoleProof, prove_role_entry
from .block_store import StoreDamaged
from .chain_index import ChainReader
from .evidence import EvidenceUnavailable
from .store.schema import Table

ROOT_KEY: Final = sparse.node_key(0, 0)
"""Where a tree keeps its topmost node, which gives its root."""

MARK_BLOCKS: Final = 4_096
"""Blocks between two states that are remembered on the way back from the tip."""

_WHOLE: Final = frozenset({Bucket.ROLES, Bucket.ROLES_TREE, Bucket.META_STATE})
_ROOT_ONLY: Final = frozenset(TREES.values()) - _WHOLE


def prove_role(chain: ChainReader, role: Role, key: bytes) -> bytes:
    """Return the encoded proof of what the tip's state knows of (role, key).

    Raises:
        EvidenceUnavailable: the tip's header is not stored.
    """
    return RoleProof.make(chain.reader, _sealed(chain, chain.tip_hash()), role, key).encode()


class HeaderProver:
    """Proves headers of the active chain, page by page; safe to share between threads.

    The way back from the tip is long for old headers, so its marks are kept: the states at some of its blocks, as
    what is different there from the state after `_base`, a block that was the tip then.
    """

    def __init__(self, mark_blocks: int = MARK_BLOCKS) -> None:
        """Keep a mark every so many blocks."""
        self._mark_blocks = mark_blocks
        self._lock = Lock()
        self._base: SealedHeader | None = None
        self._marks: dict[int, _Mark] = {}

    def prove(self, chain: ChainReader, first: int, count: int) -> tuple[ProvenHeader, ...]:
        """Return up to ``count`` headers from height ``first`` on, at least 1, lowest first.

        The role of a key is proven once for each sub-root of roles.

        Raises:
            EvidenceUnavailable: undo data on the way was pruned, or the node began with a snapshot above ``first``.
            StoreDamaged: what is stored does not read back.
        """
        state = PastState(chain)
        last = min(first + count - 1, state.block.height)
        if first > last:
            return ()
        with self._lock:
            self._go_back(chain, state, last)
        found: list[tuple[SealedHeader, tuple[bytes, ...]]] = []
        roles: dict[tuple[bytes, bytes], EntryProof] = {}
        while state.block.height >= first:
            child = state.block
            state.step_back()
            roots, producer = sub_roots(state), child.header.producer
            found.append((child, roots))
            if (roots[ROLES_ROOT], producer) not in roles:
                roles[roots[ROLES_ROOT], producer] = prove_role_entry(state, SEALING_ROLE, producer)
        found.reverse()
        return tuple(
            ProvenHeader(
                sealed=sealed,
                sub_roots=roots,
                # Proven where it is used first, and not again.
                role=roles.pop((roots[ROLES_ROOT], sealed.header.producer), None),
            )
            for sealed, roots in found
        )

    def _go_back(self, chain: ChainReader, state: PastState, height: int) -> None:
        """Take the tip's state back to the block at ``height``, from the nearest mark above it."""
        tip, base = state.block, self._base
        if base is not None and chain.block_hash(base.height) != base.hash:
            base, self._marks = None, {}
        if base is not None and height >= base.height and tip.height - height >= self._mark_blocks:
            base, self._marks = None, {}  # the chain has grown long since: begin anew
        if base is not None:
            while state.block.height > max(base.height, height):
                state.step_back()
            if height >= base.height:
                return
            # The marks tell what is different from the state after the new tip from now on.
            self._marks = {at: mark.on(state.changed) for at, mark in self._marks.items()}
            above = [at for at in self._marks if at >= height]
            if above:
                state.jump(self._marks[min(above)])
        self._base = tip
        while state.block.height > height:
            state.step_back()
            if state.block.height % self._mark_blocks == 0:
                self._marks[state.block.height] = _Mark(block=state.block, changed=dict(state.changed))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    """A state on the way back."""

    block: SealedHeader
    changed: dict[tuple[Bucket, bytes], bytes | None]

    def on(self, newer: dict[tuple[Bucket, bytes], bytes | None]) -> _Mark:
        """Return the same state, told from a later tip."""
        return _Mark(block=self.block, changed={**newer, **self.changed})


class PastState:
    """The state after a block of the active chain: that of the tip, taken back block by block."""

    def __init__(self, chain: ChainReader) -> None:
        """Begin with the state after the tip of a snapshot, which must stay open."""
        self._chain = chain
        self.changed: dict[tuple[Bucket, bytes], bytes | None] = {}
        """What is different here from the tip's state, of what is kept track of."""
        self.block = _sealed(chain, chain.tip_hash())
        """The block after which this is the state."""

    def step_back(self) -> None:
        """Take back the block.

        Raises:
            EvidenceUnavailable: there is no undo data for it.
            StoreDamaged: it does not read back.
        """
        undo = self._chain.reader.get(Table.UNDO, self.block.hash)
        if undo is None:
            raise EvidenceUnavailable(f"the undo data of block {self.block.height}")
        try:
            # Our own bytes, in C: a hundred times faster than the strict reader, on a way of many blocks.
            for name, key, old, _ in msgpack.unpackb(undo):
                if name in _WHOLE or (name in _ROOT_ONLY and key == ROOT_KEY):
                    self.changed[Bucket(name), key] = old
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise StoreDamaged(self.block.hash, "undo data", str(error)) from error
        self.block = _sealed(self._chain, self.block.header.previous)

    def jump(self, mark: _Mark) -> None:
        """Go to a state that was passed before, told from the same tip."""
        self.block, self.changed = mark.block, dict(mark.changed)

    def get(self, bucket: Bucket, key: bytes, /) -> bytes | None:
        """Return the value under `key`; ValueError for what this state does not keep track of."""
        # A history grows only: what an earlier one needs stays as it was.
        if not (bucket in _WHOLE or bucket is Bucket.HISTORY or (bucket in _ROOT_ONLY and key == ROOT_KEY)):
            raise ValueError(f"{bucket}/{key.hex()}: expected a role or the root of a tree")
        at = (bucket, key)
        return self.changed[at] if at in self.changed else self._chain.reader.get(bucket, key)


def _sealed(chain: ChainReader, block_hash: bytes) -> SealedHeader:
    sealed = chain.sealed_header(block_hash)
    if sealed is None:
        raise EvidenceUnavailable("a header of the active chain")
    return sealed
