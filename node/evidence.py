"""Evidence for one registered image, collected from one snapshot of the chain.

Owns which statements belong to the story of a batch (the stages that it names and those they build on, what
was measured of its model, retractions, attestations) and where they are found. It judges nothing: whoever
receives the evidence checks it (`consensus.proofs`).
"""

from __future__ import annotations

from collections.abc import Iterator

from ..consensus import merkle
from ..consensus.block import Body, Header, SealedHeader
from ..consensus.evidence import (
    MAX_STATEMENT_PAYLOAD_BYTES,
    MAX_STATEMENTS,
    BlockProof,
    CheckpointProof,
    Evidence,
    RecordProof,
    StatementProof,
)
from ..consensus.kinds import PERMISSIONS, SEALING_ROLE, Kind
from ..consensus.kv import Bucket
from ..consensus.params import MEDIAN_TIME_SPAN
from ..consensus.payloads import ImageBatch, Stage
from ..consensus.proofs import read_checkpoint
from ..consensus.records import Record
from ..consensus.state import CHECKPOINT_KEY, prove_entry, prove_history, role_key, sub_roots
from ..consensus.state_proof import EntryProof
from ..consensus.statement import ABSENT, Statement
from .chain_index import ChainReader, Place, RecordPlace
from .mentions import Mention, Mentions
from .meta_keys import GENESIS_KEY
from .store.schema import Table


class EvidenceUnavailable(Exception):
    """The chain knows the record, but this node does not keep what proves it."""

    code = "evidence-unavailable"

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def diagnostics(self) -> str:
        """Return the failure as one line for a person."""
        return f"{self.code}: expected {self.what} in this node's store, got nothing; ask a node that keeps all bodies"


def build_evidence(chain: ChainReader, place: RecordPlace) -> bytes:
    """Return the proof file of the record at a place of the active chain.

    Raises:
        EvidenceUnavailable: no record is there, or its block's body was pruned.
    """
    return _Collector(chain).collect(place).encode()


class _Collector:
    """One snapshot, the blocks that were opened in it, and the proofs made from them."""

    def __init__(self, chain: ChainReader) -> None:
        self.chain = chain
        self.mentions = Mentions(chain)
        self.anchor = self._sealed(chain.tip_hash())
        self.bodies: dict[int, Body] = {}
        self.blocks: dict[int, BlockProof] = {}
        """By height, in the order of the evidence."""

    def collect(self, place: RecordPlace) -> Evidence:
        reader = self.chain.reader
        batch = self._statement(place.place)
        payload = batch.decode_payload()
        if not isinstance(payload, ImageBatch) or place.record >= len(payload.records):
            raise EvidenceUnavailable(f"a record at {place}")
        proof = self._proof(place.place, Statement(batch.header_bytes, batch.signature, b""))
        sealed = self.blocks[place.height].sealed
        record = payload.records[place.record]
        statements = tuple(self._proof(at, item) for at, item in self._related(batch, record, place.record))
        genesis = reader.get(Table.META, GENESIS_KEY)
        if genesis is None:
            raise EvidenceUnavailable("the genesis")
        return Evidence(
            genesis=genesis,
            anchor=self.anchor,
            sub_roots=sub_roots(reader),
            genesis_path=prove_history(reader, 0),
            anchor_role=self._role(self.anchor.header.producer),
            blocks=tuple(self.blocks.values()),
            ancestors=self._ancestors(sealed.header),
            sealer_role=self._role(sealed.header.producer),
            author_roles=tuple(
                self._entry(Bucket.ROLES, role_key(role, batch.author))
                for role in sorted(PERMISSIONS[Kind.IMAGE_BATCH])
            ),
            batch=proof,
            batch_entry=self._entry(Bucket.STAGES, batch.id),
            record=RecordProof(
                record=payload.records.raw(place.record),
                index=place.record,
                path=payload.records.prove(place.record),
            ),
            statements=statements,
            checkpoint=self._checkpoint(),
        )

    def _sealed(self, block_hash: bytes | None) -> SealedHeader:
        sealed = None if block_hash is None else self.chain.sealed_header(block_hash)
        if sealed is None:
            raise EvidenceUnavailable("a header of the active chain")
        return sealed

    def _body(self, height: int) -> Body:
        if height not in self.bodies:
            block_hash = self.chain.block_hash(height)
            body = None if block_hash is None else self.chain.body(block_hash)
            if body is None:
                raise EvidenceUnavailable(f"the body of block {height}")
            self.bodies[height] = body
        return self.bodies[height]

    def _statement(self, place: Place) -> Statement:
        statements = self._body(place.height).statements
        if place.index >= len(statements):
            raise EvidenceUnavailable(f"statement {place.index} of block {place.height}")
        return statements[place.index]

    def _proof(self, place: Place, statement: Statement) -> StatementProof:
        body = self._body(place.height)
        leaves = [merkle.leaf_hash(leaf) for leaf in body.leaves()]
        return StatementProof(
            block=self._block(place.height),
            statement=statement,
            index=place.index,
            count=len(leaves),
            byte_count=body.byte_count(),
            tree_root=merkle.root(leaves),
            path=merkle.inclusion_proof(leaves, place.index),
        )

    def _block(self, height: int) -> int:
        """Return the number of a block in the evidence, adding it when it is new."""
        if height not in self.blocks:
            sealed = self._sealed(self.chain.block_hash(height))
            is_anchor = height == self.anchor.height
            path = () if is_anchor else prove_history(self.chain.reader, height)
            self.blocks[height] = BlockProof(sealed=sealed, path=path)
        return list(self.blocks).index(height)

    def _ancestors(self, header: Header) -> tuple[Header, ...]:
        found: list[Header] = []
        while header.height > 0 and len(found) < MEDIAN_TIME_SPAN:
            header = self._sealed(header.previous).header
            found.append(header)
        return tuple(reversed(found))

    def _entry(self, bucket: Bucket, key: bytes) -> EntryProof:
        reader = self.chain.reader
        return EntryProof(value=reader.get(bucket, key), proof=prove_entry(reader, bucket, key))

    def _role(self, key: bytes) -> EntryProof:
        return self._entry(Bucket.ROLES, role_key(SEALING_ROLE, key))

    def _checkpoint(self) -> CheckpointProof:
        entry = self._entry(Bucket.PARAMETERS, CHECKPOINT_KEY)
        if entry.value is None:
            return CheckpointProof(entry=entry, path=())
        height, _ = read_checkpoint(entry.value)
        return CheckpointProof(entry=entry, path=prove_history(self.chain.reader, height))

    def _related(self, batch: Statement, record: Record, index: int) -> list[Mention]:
        """Return the statements that belong to the story, each once, the most telling ones first."""
        told: dict[bytes, Mention] = {}
        for group in self._groups(batch, record, index):
            new = {item[1].id: item for item in group if item[1].id not in told}
            fits = all(len(item[1].payload) <= MAX_STATEMENT_PAYLOAD_BYTES for item in new.values())
            if fits and len(told) + len(new) <= MAX_STATEMENTS:
                told |= new
        return list(told.values())

    def _groups(self, batch: Statement, record: Record, index: int) -> Iterator[tuple[Mention, ...]]:
        """Yield what is told together or not at all: a statement and who withdrew it.

        What the batch names and the retractions of that and of the batch fit in any case. Strangers' words come last.
        """
        header = batch.header.batch
        named = () if header is None else (header.model, header.clustering, header.filter)
        stages = list(self._find(reference for reference in named if reference != ABSENT))
        yield from map(self._with_retractions, stages)
        for scope in (index, None):
            yield self.mentions.retractions(batch.id, scope)
        inputs = self._inputs(statement for _, statement in stages)
        yield from map(self._with_retractions, inputs)
        model = next((stage for _, stage in stages if header is not None and stage.id == header.model), None)
        own, others = ((), ()) if model is None else self.mentions.measurements(model.id, model.author)
        yield from map(self._with_retractions, own)
        for attestation in self.mentions.attestations(batch, index, record.pixel_hash):
            yield (attestation,)
        yield from map(self._with_retractions, others)

    def _with_retractions(self, mention: Mention) -> tuple[Mention, ...]:
        return (mention, *self.mentions.retractions(mention[1].id))

    def _find(self, ids: Iterator[bytes]) -> Iterator[Mention]:
        for wanted in ids:
            place = self.chain.place_of(wanted)
            if place is not None:
                yield place, self._statement(place)

    def _inputs(self, statements: Iterator[Statement]) -> Iterator[Mention]:
        """Walk from stages to what they were made from, nearest first."""
        waiting = list(statements)
        seen = {statement.id for statement in waiting}
        while waiting and len(seen) <= MAX_STATEMENTS:
            payload = waiting.pop(0).decode_payload()
            if not isinstance(payload, Stage):
                continue
            for place, statement in self._find(item for item in payload.inputs if item not in seen):
                seen.add(statement.id)
                waiting.append(statement)
                yield place, statement
