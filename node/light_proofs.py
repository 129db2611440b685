"""What light clients ask of a node: roles under the tip, and headers with the proof of their seals' authority.

Owns the way back from the tip's state to earlier ones. The store keeps the last state only; undo data leads to those
before it. Of them a proof of authority needs the roles and the roots of the other trees, so nothing else is taken
along. Whoever receives the proofs checks them (`consensus.state_proof`, `consensus.light`).
"""

from __future__ import annotations

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

_WHOLE: Final = frozenset({Bucket.ROLES, Bucket.ROLES_TREE, Bucket.META_STATE})
_ROOT_ONLY: Final = frozenset(TREES.values()) - _WHOLE


def prove_role(chain: ChainReader, role: Role, key: bytes) -> bytes:
    """Return the encoded proof of what the tip's state knows of (role, key).

    Raises:
        EvidenceUnavailable: the tip's header is not stored.
    """
    return RoleProof.make(chain.reader, _sealed(chain, chain.tip_hash()), role, key).encode()


def prove_headers(chain: ChainReader, first: int, count: int) -> tuple[ProvenHeader, ...]:
    """Return up to ``count`` headers of the active chain from height ``first`` on, at least 1, lowest first.

    The role of a key is proven once for each sub-root of roles. Costs a step back for every block from the tip on.

    Raises:
        EvidenceUnavailable: undo data on the way was pruned, or the node began with a snapshot above ``first``.
    """
    state = PastState(chain)
    last = min(first + count - 1, state.block.height)
    found: list[tuple[SealedHeader, tuple[bytes, ...]]] = []
    roles: dict[tuple[bytes, bytes], EntryProof] = {}
    while state.block.height >= first:
        child = state.block
        state.step_back()
        if child.height <= last:
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


class PastState:
    """The state after a block of the active chain: that of the tip, taken back block by block."""

    def __init__(self, chain: ChainReader) -> None:
        """Begin with the state after the tip of a snapshot, which must stay open."""
        self._chain = chain
        self._changed: dict[tuple[Bucket, bytes], bytes | None] = {}
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
                    self._changed[Bucket(name), key] = old
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise StoreDamaged(self.block.hash, "undo data", str(error)) from error
        self.block = _sealed(self._chain, self.block.header.previous)

    def get(self, bucket: Bucket, key: bytes, /) -> bytes | None:
        """Return the value under `key`; ValueError for what this state does not keep track of."""
        # A history grows only: what an earlier one needs stays as it was.
        if not (bucket in _WHOLE or bucket is Bucket.HISTORY or (bucket in _ROOT_ONLY and key == ROOT_KEY)):
            raise ValueError(f"{bucket}/{key.hex()}: expected a role or the root of a tree")
        at = (bucket, key)
        return self._changed[at] if at in self._changed else self._chain.reader.get(bucket, key)


def _sealed(chain: ChainReader, block_hash: bytes) -> SealedHeader:
    sealed = chain.sealed_header(block_hash)
    if sealed is None:
        raise EvidenceUnavailable("a header of the active chain")
    return sealed
