"""A light client: the best chain of headers whose seals are authorised, kept without states and bodies.

Owns which headers it takes, and which of their chains it follows. A header comes with its seal and with the proof
that the sealing key was a producer under the parent's state root (:class:`ProvenHeader`); every rule of headers is
checked besides. It does no I/O: the caller hands in headers and the clock.

What it rests on: the first header that a stranger seals has a parent that authorised producers made, and no proof
leads from that parent's state root to the stranger's key. So work without a producer's key gets nowhere. What it
cannot see is a body: a producer who commits to a false state deceives it for as long as that producer's branch has
the most work.

Source: ``docs/protocol.md``, section "Light clients".
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Self

from .apply import genesis_block
from .block import SEALED_HEADER_BYTES, Header, SealedHeader
from .chain import UNLIMITED_REORG, HeaderNode, context_headers, header_context
from .encoding import as_array, as_bytes, pack, unpack
from .errors import ProofError, RuleViolation, Temporary
from .kinds import SEALING_ROLE
from .params import Genesis
from .state import RoleEntry
from .state_proof import (
    ROLES_ROOT,
    EntryProof,
    HeaderProof,
    RoleProof,
    check_ancestor,
    check_role_entry,
    check_sub_roots,
    read_sub_roots,
)
from .validation import check_header, check_producer, check_seal, check_time
from .work import block_work

MAX_PROVEN_HEADER_BYTES: Final = 81_920
"""A sealed header, the sub-roots, the longest role entry and the longest sparse proof stay below this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenHeader:
    """A sealed header and what shows that its seal is authorised."""

    sealed: SealedHeader
    sub_roots: tuple[bytes, ...]
    """The parts of the parent's state root."""
    role: EntryProof | None
    """The producer's role under them; None where it was given before under the same sub-root of roles."""

    def encode(self) -> bytes:
        """Return canonical MessagePack."""
        role = None if self.role is None else self.role.values()
        return pack([self.sealed.encode(), b"".join(self.sub_roots), role])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what `encode` wrote; raises DecodeError."""
        sealed, roots, role = as_array(unpack(data, max_bytes=MAX_PROVEN_HEADER_BYTES), "proven header", 3)
        return cls(
            sealed=SealedHeader.decode(as_bytes(sealed, "sealed header", size=SEALED_HEADER_BYTES)),
            sub_roots=read_sub_roots(roots),
            role=None if role is None else EntryProof.of(role),
        )


class LightNode(HeaderNode):
    """A header that was taken, and the state root that its children's proofs lead to."""

    __slots__ = ("state_root",)

    def __init__(self, header: Header, parent: HeaderNode | None, *, chainwork: int) -> None:
        """Describe a header that the caller checked."""
        super().__init__(
            block_hash=header.hash,
            height=header.height,
            time_ms=header.time_ms,
            producer=header.producer,
            chainwork=chainwork,
            parent=parent,
        )
        self.state_root = header.state_root


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedStart:
    """A block that the user trusts by its hash, with what the rules need of the blocks before it."""

    sealed: SealedHeader
    ancestors: tuple[Header, ...]
    """The headers right before it, oldest first: as many as `context_headers` less one, or down to block 0."""
    sub_roots: tuple[bytes, ...]
    """The parts of its own state root."""
    first: Header
    """Block 1, from which the targets of all later blocks follow."""
    first_path: tuple[bytes, ...]
    """Its path under the history; empty when the trusted block is block 1 itself."""

    def check(self, genesis: Genesis, trusted_hash: bytes) -> None:
        """Check that all of it follows from the hash; raises ProofError, RuleViolation."""
        block = self.sealed.header
        if block.hash != trusted_hash or block.height < 1:
            raise ProofError("trusted block", expected=trusted_hash.hex(), got=block.hash.hex())
        check_seal(self.sealed, genesis.network_id)
        wanted = min(context_headers(genesis.params) - 1, block.height)
        if len(self.ancestors) != wanted:
            raise ProofError("ancestors of the trusted block", expected=wanted, got=len(self.ancestors))
        for parent, child in itertools.pairwise((*self.ancestors, block)):
            if (child.previous, child.height) != (parent.hash, parent.height + 1):
                raise ProofError("ancestors", expected=child.previous.hex(), got=parent.hash.hex())
        check_sub_roots(block.state_root, self.sub_roots, "the trusted block")
        if block.height == 1:
            if self.first != block:
                raise ProofError("block 1", expected=block.hash.hex(), got=self.first.hash.hex())
            return
        if self.first.height != 1:
            raise ProofError("block 1", expected="height 1", got=self.first.height)
        check_ancestor(
            self.sub_roots,
            below=block.height,
            height=1,
            block_hash=self.first.hash,
            path=self.first_path,
        )


class LightClient:
    """See the module's text. Start with :meth:`from_genesis` or :meth:`from_trusted`."""

    def __init__(
        self,
        genesis: Genesis,
        base: LightNode,
        *,
        max_reorg: int = UNLIMITED_REORG,
        pinned: Mapping[int, bytes] = MappingProxyType({}),
    ) -> None:
        """Begin at ``base``; no chain that leaves it is followed.

        ``max_reorg`` and ``pinned`` (block hashes by height) are the user's own limits, as those of a full node.
        """
        self.genesis = genesis
        self._max_reorg = max_reorg
        self._pinned = pinned
        self.nodes: dict[bytes, LightNode] = {base.hash: base}
        self._active: list[LightNode] = [base]
        self._entries: dict[tuple[bytes, bytes], RoleEntry] = {}
        """What was proven of (sub-root of roles, key)."""

    @classmethod
    def from_genesis(
        cls,
        genesis: Genesis,
        *,
        max_reorg: int = UNLIMITED_REORG,
        pinned: Mapping[int, bytes] = MappingProxyType({}),
    ) -> Self:
        """Start with block 0, whose state the genesis gives."""
        block, _ = genesis_block(genesis)
        return cls(genesis, LightNode(block.header, None, chainwork=0), max_reorg=max_reorg, pinned=pinned)

    @classmethod
    def from_trusted(
        cls,
        genesis: Genesis,
        start: TrustedStart,
        trusted_hash: bytes,
        *,
        max_reorg: int = UNLIMITED_REORG,
        pinned: Mapping[int, bytes] = MappingProxyType({}),
    ) -> Self:
        """Start with a block that the user trusts; work is counted from there.

        Raises:
            ProofError, RuleViolation: the start does not follow from the hash.
        """
        start.check(genesis, trusted_hash)
        below: LightNode | None = None
        for header in start.ancestors:
            below = LightNode(header, below, chainwork=0)
        base = LightNode(start.sealed.header, below, chainwork=0)
        base.anchor_time_ms = start.first.time_ms
        return cls(genesis, base, max_reorg=max_reorg, pinned=pinned)

    @property
    def tip(self) -> LightNode:
        """The best header."""
        return self._active[-1]

    @property
    def base(self) -> LightNode:
        """Where this client started."""
        return self._active[0]

    def at(self, height: int) -> LightNode | None:
        """Return the header of the best chain at a height; None below the start and above the tip."""
        place = height - self.base.height
        return self._active[place] if 0 <= place < len(self._active) else None

    def accept(self, item: ProvenHeader, *, now_ms: int) -> LightNode:
        """Check a header and its authority, keep it, and follow its chain if that has the most work.

        Raises:
            Temporary: missing-parent, time-too-new, unknown-version; the header may be offered again.
            RuleViolation: any rule of headers, bad-seal, below-checkpoint, unauthorized-producer.
            ProofError, DecodeError: the proof of the key's role does not hold, or none was given yet.
        """
        header, params = item.sealed.header, self.genesis.params
        known = self.nodes.get(header.hash)
        if known is not None:
            return known
        parent = self.nodes.get(header.previous)
        if parent is None:
            raise Temporary("missing-parent", expected="a known parent", got=header.previous.hex())
        check_header(header, header_context(parent, params), params)
        check_time(header, params, now_ms=now_ms)
        pinned = self._pinned.get(header.height, header.hash)
        if pinned != header.hash:
            raise RuleViolation(
                "below-checkpoint",
                expected=f"block {pinned.hex()} at height {header.height}",
                got=header.hash.hex(),
            )
        check_seal(item.sealed, self.genesis.network_id)
        self._check_authority(item, parent)
        node = LightNode(header, parent, chainwork=parent.chainwork + block_work(header.bits))
        self.nodes[node.hash] = node
        self._follow(node)
        return node

    def _check_authority(self, item: ProvenHeader, parent: LightNode) -> None:
        producer = item.sealed.header.producer
        check_sub_roots(parent.state_root, item.sub_roots, f"block {parent.height}")
        at = (item.sub_roots[ROLES_ROOT], producer)
        entry = self._entries.get(at)
        if item.role is not None:
            entry = check_role_entry(item.sub_roots, SEALING_ROLE, producer, item.role)
        if entry is None:
            raise ProofError(
                f"role of block {item.sealed.height}'s producer {producer.hex()}",
                expected="a proof, since none was given under this sub-root of roles",
                got="none",
            )
        check_producer(entry, producer, height=item.sealed.height)
        # Kept only now: of keys that are no producers any number could be shown.
        self._entries[at] = entry

    def _follow(self, node: LightNode) -> None:
        if node.chainwork <= self.tip.chainwork:
            return
        branch: list[LightNode] = []
        item: HeaderNode | None = node
        while isinstance(item, LightNode) and self.at(item.height) is not item:
            branch.append(item)
            item = item.parent
        fork = node.height - len(branch)
        if self.tip.height - fork <= self._max_reorg:
            del self._active[fork + 1 - self.base.height :]
            self._active.extend(reversed(branch))

    # What the best chain is good for.

    def check_on_chain(self, header: Header) -> int:
        """Return a header's confirmations; raises ProofError when it is not on the best chain."""
        node = self.at(header.height)
        if node is None or node.hash != header.hash:
            raise ProofError(
                f"block {header.height}",
                expected=f"one of the headers, which end at block {self.tip.height}"
                if node is None
                else node.hash.hex(),
                got=header.hash.hex(),
            )
        return self.tip.height - node.height + 1

    def check_role(self, proof: RoleProof) -> RoleEntry:
        """Return what a header of the best chain proves of a key's role; raises ProofError, DecodeError."""
        self.check_on_chain(proof.anchor.header)
        return proof.check()

    def check_ancestor(self, proof: HeaderProof) -> None:
        """Check that an old header, below the start as well, is on the best chain; raises ProofError."""
        self.check_on_chain(proof.anchor.header)
        proof.check()
