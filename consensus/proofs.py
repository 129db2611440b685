"""Offline verification of evidence: from the file in hand to the chain, layer by layer.

Owns the order of the layers and what each of them means. It trusts nothing in the evidence: every
part is recomputed or checked against a hash or a signature. What it cannot judge, it does not claim:
it sees the work of a few headers only, never that of the whole chain (``docs/audit.md``).

Source: ``docs/audit.md``, section "The layers".
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

from . import merkle
from .apply import genesis_block
from .block import BODY_TAG, Header, SealedHeader
from .encoding import as_bytes
from .errors import ConsensusError, DecodeError, ProofError
from .evidence import BlockProof, Evidence, StatementProof
from .hashing import HASH_BYTES, sha256, tagged_hash
from .kinds import PERMISSIONS, SEALING_ROLE, Kind, Role
from .kv import Bucket
from .light import LightClient
from .params import MEDIAN_TIME_SPAN, Genesis, Params, Retarget
from .records import Record
from .retarget import fixed_bits
from .state import CHECKPOINT_KEY, RoleEntry, StageEntry
from .state_proof import EntryProof, check_ancestor, check_entry, check_role_entry, check_sub_roots
from .statement import ABSENT, BatchHeader
from .upgrade import SUPPORTED_VERSIONS
from .work import bits_to_target, block_work, meets_target


class Status(StrEnum):
    """What became of a layer."""

    PASSED = "passed"
    DIFFERS = "differs"
    """Another file than the registered one: no failure as long as the pixels are the same."""
    FAILED = "failed"
    SKIPPED = "skipped"
    """Nothing to check it with, or a layer before it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One row of a verdict."""

    name: str
    status: Status
    detail: str
    """What was found; of a failure, expected and got."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is audited: hashes of the image in hand. None where there is nothing to compare."""

    pixel_hash: bytes | None = None
    file_hash: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """All layers in order; the first failure names what is wrong."""

    layers: tuple[Layer, ...]

    @property
    def failure(self) -> Layer | None:
        """Return the first layer that failed."""
        return next((layer for layer in self.layers if layer.status is Status.FAILED), None)

    @property
    def is_verified(self) -> bool:
        """Tell whether nothing failed."""
        return self.failure is None

    @property
    def is_recoded(self) -> bool:
        """Tell whether the pixels are the registered ones in another file."""
        return self.is_verified and any(layer.status is Status.DIFFERS for layer in self.layers)


def verify_evidence(
    evidence: Evidence,
    *,
    network_id: bytes | None = None,
    subject: Subject | None = None,
    headers: LightClient | None = None,
) -> Verdict:
    """Walk all layers in order, up to the first that fails.

    ``network_id`` is the network that the caller trusts; without one, the evidence's own is taken and the last
    layer says so. With ``headers``, a chain whose seals were proven authorised, the tip must be on it. Never raises
    for what is in the evidence.
    """
    walk = _Walk(evidence, network_id, subject or Subject(), headers)
    layers = []
    failed = False
    for name, check in _LAYERS:
        if failed:
            layers.append(Layer(name=name, status=Status.SKIPPED, detail="a layer before it failed"))
            continue
        try:
            status, detail = check(walk)
        except ConsensusError as error:
            status, detail = Status.FAILED, error.message
        failed = status is Status.FAILED
        layers.append(Layer(name=name, status=status, detail=detail))
    return Verdict(layers=tuple(layers))


_Row = tuple[Status, str]


class _Walk:
    """The checks of one evidence. Each returns its row or raises ConsensusError."""

    def __init__(
        self, evidence: Evidence, network_id: bytes | None, subject: Subject, headers: LightClient | None
    ) -> None:
        self.evidence = evidence
        self.trusted = network_id
        self.subject = subject
        self.headers = headers
        self.block = evidence.blocks[0].sealed

    @cached_property
    def genesis(self) -> Genesis:
        """The genesis, its signatures checked."""
        return Genesis.decode(self.evidence.genesis)

    @property
    def batch(self) -> BatchHeader:
        """The batch header of the statement."""
        batch = self.evidence.batch.statement.header.batch
        if batch is None:
            raise ProofError("batch", expected="an image-batch statement", got="another kind")
        return batch

    def record(self) -> Record:
        return Record.decode(self.evidence.record.record)

    def check_file(self) -> _Row:
        given, known = self.subject.file_hash, self.record().file_hash
        if given is None:
            return Status.SKIPPED, "no file given"
        if given == known:
            return Status.PASSED, f"SHA-256 {known.hex()}"
        if self.subject.pixel_hash is None:
            raise ProofError("file", expected=known.hex(), got=given.hex())
        # The pixels decide: the same ones in another file are a re-coded copy.
        return Status.DIFFERS, f"another file: registered {known.hex()}, got {given.hex()}"

    def check_pixels(self) -> _Row:
        given, known = self.subject.pixel_hash, self.record().pixel_hash
        if given is None:
            return Status.SKIPPED, "no pixels given"
        if given != known:
            raise ProofError("pixel hash", expected=known.hex(), got=given.hex())
        return Status.PASSED, f"pixel hash {known.hex()}"

    def check_record(self) -> _Row:
        index, count = self.evidence.record.index, self.batch.record_count
        if index >= count:
            raise ProofError("record index", expected=f"below {count}", got=index)
        return Status.PASSED, f"record {index} of {count}"

    def check_batch_root(self) -> _Row:
        proof, batch = self.evidence.record, self.batch
        merkle.check_inclusion(
            leaf=merkle.leaf_hash(proof.record),
            index=proof.index,
            size=batch.record_count,
            proof=proof.path,
            root=batch.records_root,
        )
        return Status.PASSED, f"records root {batch.records_root.hex()}"

    def check_signature(self) -> _Row:
        statement = self.evidence.batch.statement
        if statement.payload:
            raise ProofError("batch", expected="the signed header alone", got="a payload with it")
        if not statement.has_valid_signature(self.genesis.network_id):
            raise ProofError("signature", expected=f"one by {statement.author.hex()}", got="another")
        return Status.PASSED, f"signed by {statement.author.hex()}"

    def check_authority(self) -> _Row:
        """The author's roles at the block's height, read from the anchor's state."""
        header = self.evidence.batch.statement.header
        roles = sorted(PERMISSIONS[header.kind])
        entries = self.evidence.author_roles
        if len(entries) != len(roles):
            raise ProofError("author roles", expected=f"{len(roles)} entries", got=len(entries))
        height = self.block.height
        held = [
            role.label
            for role, proof in zip(roles, entries, strict=True)
            if self._role(role, header.author, proof).holds_at(height)
        ]
        if not held:
            wanted = " or ".join(role.label for role in roles)
            raise ProofError("authority", expected=f"role {wanted} at height {height}", got="none")
        entry = self._entry(Bucket.STAGES, self.evidence.batch.statement.id, self.evidence.batch_entry)
        stage = StageEntry.decode(as_bytes(entry, "batch entry"))
        if (stage.kind, stage.height, stage.author) != (Kind.IMAGE_BATCH, height, header.author):
            raise ProofError("batch entry", expected=f"this batch at height {height}", got=stage)
        return Status.PASSED, f"{', '.join(held)} at height {height}"

    def check_body(self) -> _Row:
        if self.evidence.batch.block != 0:
            raise ProofError("batch block", expected=0, got=self.evidence.batch.block)
        check_in_body(self.evidence.batch, self.block.header)
        return Status.PASSED, f"statement {self.evidence.batch.index} of {self.evidence.batch.count}"

    def check_header(self) -> _Row:
        """Seals, the sealing keys' role, and the ancestors whose times bound the block's own."""
        height, network_id = self.block.height, self.genesis.network_id
        for block in (*(proof.sealed for proof in self.evidence.blocks), self.evidence.anchor):
            check_sealed(block, network_id)
        producer = self.block.header.producer
        if not self._role(SEALING_ROLE, producer, self.evidence.sealer_role).holds_at(height):
            raise ProofError("seal", expected=f"a producer at height {height}", got=producer.hex())
        anchor = self.evidence.anchor
        entry = self._role(SEALING_ROLE, anchor.header.producer, self.evidence.anchor_role)
        if not entry.holds_at(anchor.height):
            raise ProofError(
                "seal of the anchor",
                expected=f"a producer at height {anchor.height}",
                got=anchor.header.producer.hex(),
            )
        line = (*self.evidence.ancestors, self.block.header)
        if len(line) - 1 != min(height, MEDIAN_TIME_SPAN):
            raise ProofError("ancestors", expected=min(height, MEDIAN_TIME_SPAN), got=len(line) - 1)
        for parent, child in itertools.pairwise(line):
            if child.previous != parent.hash or child.height != parent.height + 1:
                raise ProofError("ancestors", expected=child.previous.hex(), got=parent.hash.hex())
        return Status.PASSED, f"block {height} {self.block.hash.hex()}, sealed by {producer.hex()}"

    def check_work(self) -> _Row:
        """Each header that is here was paid for; the target itself needs the whole chain to judge."""
        params = self.genesis.params
        headers = {header.hash: header for header in self._headers() if header.height > 0}
        for header in headers.values():
            check_bits(header, params)
            if not meets_target(header.hash, header.bits):
                raise ProofError(
                    "work", expected=f"below the target of {header.bits:#010x}", got=header.hash.hex()
                )
        work = block_work(self.block.header.bits)
        return Status.PASSED, f"{work} hashes expected for the block, {len(headers)} headers checked"

    def _headers(self) -> tuple[Header, ...]:
        sealed = (*self.evidence.blocks, BlockProof(sealed=self.evidence.anchor, path=()))
        return (*self.evidence.ancestors, *(proof.sealed.header for proof in sealed))

    def check_chain(self) -> _Row:
        """The network, and every block's place among the anchor's ancestors."""
        genesis, anchor = self.genesis, self.evidence.anchor
        if self.trusted is not None and genesis.network_id != self.trusted:
            raise ProofError("network", expected=self.trusted.hex(), got=genesis.network_id.hex())
        check_sub_roots(anchor.header.state_root, self.evidence.sub_roots)
        first, _ = genesis_block(genesis)
        self._check_ancestor(0, first.hash, self.evidence.genesis_path)
        for proof in self.evidence.blocks:
            if proof.sealed.hash == anchor.hash and not proof.path:
                continue
            self._check_ancestor(proof.sealed.height, proof.sealed.hash, proof.path)
        checkpoint = self._checkpoint()
        above = anchor.height - self.block.height + 1
        named = "no trusted network given" if self.trusted is None else "the trusted network"
        vouched = "no checkpoint" if checkpoint is None else f"checkpoint at height {checkpoint[0]}"
        tip = f"confirmations {above}, tip {anchor.height} {anchor.hash.hex()}, {vouched}"
        if self.headers is not None:
            tip += f", {confirm(self.headers, genesis, anchor)} confirmations of the tip on the given headers"
        return Status.PASSED, f"{tip}; network {genesis.network_id.hex()} ({named})"

    def _check_ancestor(self, height: int, block_hash: bytes, path: tuple[bytes, ...]) -> None:
        check_ancestor(
            self.evidence.sub_roots,
            below=self.evidence.anchor.height,
            height=height,
            block_hash=block_hash,
            path=path,
        )

    def _checkpoint(self) -> tuple[int, bytes] | None:
        proof = self.evidence.checkpoint
        value = self._entry(Bucket.PARAMETERS, CHECKPOINT_KEY, proof.entry)
        if value is None:
            if proof.path:
                raise ProofError("checkpoint path", expected="none", got=f"{len(proof.path)} hashes")
            return None
        height, block_hash = read_checkpoint(value)
        self._check_ancestor(height, block_hash, proof.path)
        return height, block_hash

    def check_provenance(self) -> _Row:
        """The stages that the batch names, and whatever else is told about it, are on the same chain."""
        network_id = self.genesis.network_id
        for proof in self.evidence.statements:
            if proof.block >= len(self.evidence.blocks):
                raise ProofError(
                    "statement block", expected=f"below {len(self.evidence.blocks)}", got=proof.block
                )
            statement = proof.statement
            if sha256(statement.payload) != statement.header.payload_hash:
                raise ProofError("payload", expected=statement.header.payload_hash.hex(), got="another")
            if not statement.has_valid_signature(network_id):
                raise ProofError("signature of a stage", expected=statement.author.hex(), got="another")
            statement.decode_payload()
            check_in_body(proof, self.evidence.blocks[proof.block].sealed.header)
        known = {proof.statement.id for proof in self.evidence.statements}
        named = {self.batch.model, self.batch.clustering, self.batch.filter} - {ABSENT}
        if named - known:
            missing = min(named - known).hex()
            raise ProofError("provenance", expected=f"stage {missing}", got="nothing")
        return Status.PASSED, f"{len(known)} statements about it"

    def _entry(self, bucket: Bucket, key: bytes, proof: EntryProof) -> bytes | None:
        """Return what the anchor's state holds under a key."""
        return check_entry(self.evidence.sub_roots, bucket, key, proof)

    def _role(self, role: Role, key: bytes, proof: EntryProof) -> RoleEntry:
        return check_role_entry(self.evidence.sub_roots, role, key, proof)


_LAYERS: Final[tuple[tuple[str, Callable[[_Walk], _Row]], ...]] = (
    ("file bytes", _Walk.check_file),
    ("pixels", _Walk.check_pixels),
    ("record", _Walk.check_record),
    ("batch root", _Walk.check_batch_root),
    ("signature", _Walk.check_signature),
    ("authority", _Walk.check_authority),
    ("body root", _Walk.check_body),
    ("header", _Walk.check_header),
    ("work", _Walk.check_work),
    ("chain", _Walk.check_chain),
    ("provenance", _Walk.check_provenance),
)

LAYERS: Final = tuple(name for name, _ in _LAYERS)
"""Names of the layers in the order in which they are walked."""


def check_sealed(sealed: SealedHeader, network_id: bytes) -> None:
    """Check version and seal of a header; raises ProofError."""
    if sealed.header.version not in SUPPORTED_VERSIONS:
        known = ", ".join(map(str, sorted(SUPPORTED_VERSIONS)))
        raise ProofError(
            "header version", expected=f"one that is known here ({known})", got=sealed.header.version
        )
    if not sealed.has_valid_seal(network_id):
        raise ProofError(
            f"seal of block {sealed.height}", expected=f"one by {sealed.header.producer.hex()}", got="another"
        )


def check_bits(header: Header, params: Params) -> None:
    """Check that a header's target is one that the network could ask for; raises ProofError."""
    if params.retarget is Retarget.FIXED:
        if header.bits != fixed_bits(params.fixed_digits):
            raise ProofError(
                "bits", expected=f"{fixed_bits(params.fixed_digits):#010x}", got=f"{header.bits:#010x}"
            )
    elif bits_to_target(header.bits) > bits_to_target(params.pow_limit_bits):
        raise ProofError(
            "bits", expected=f"at most {params.pow_limit_bits:#010x}", got=f"{header.bits:#010x}"
        )


def confirm(headers: LightClient, genesis: Genesis, anchor: SealedHeader) -> int:
    """Return a header's confirmations on a proven chain of headers of the same network; raises ProofError."""
    if headers.genesis.network_id != genesis.network_id:
        raise ProofError(
            "network of the headers", expected=genesis.network_id.hex(), got=headers.genesis.network_id.hex()
        )
    return headers.check_on_chain(anchor.header)


def check_in_body(proof: StatementProof, header: Header) -> None:
    """Check that a statement stands in the body that a header commits to; raises ProofError."""
    sizes = struct.pack(">QQ", proof.count, proof.byte_count)
    root = tagged_hash(BODY_TAG, sizes, proof.tree_root)
    if root != header.body_root:
        raise ProofError("body root", expected=header.body_root.hex(), got=root.hex())
    merkle.check_inclusion(
        leaf=merkle.leaf_hash(proof.statement.leaf),
        index=proof.index,
        size=proof.count,
        proof=proof.path,
        root=proof.tree_root,
    )


def read_checkpoint(value: bytes) -> tuple[int, bytes]:
    """Read the state's checkpoint entry as (height, block hash); raises DecodeError."""
    if len(value) != 8 + HASH_BYTES:
        raise DecodeError("checkpoint", expected=f"{8 + HASH_BYTES} bytes", got=f"{len(value)} bytes")
    return int.from_bytes(value[:8], "big"), value[8:]
