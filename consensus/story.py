"""What evidence tells about an image, for people: who, when, from what, and what happened since.

Owns the reading of :class:`Evidence` that :func:`.proofs.verify_evidence` has accepted; it checks nothing
itself, so call it for verified evidence only. Every word of a story is covered by a layer of the verdict.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .evidence import Evidence
from .kinds import StageType
from .params import Genesis
from .payloads import Attestation, Retract, Stage
from .proofs import read_checkpoint
from .records import Record
from .state import RoleEntry, StageEntry
from .statement import ABSENT, BatchHeader, Statement
from .validation import median_time_past

MEASUREMENTS: Final = frozenset({StageType.PRIVACY, StageType.EVALUATION})
"""Stages about a model: they name it, nothing names them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFact:
    """One step of the producer's pipeline, as its author stated it."""

    id: bytes
    author: bytes
    stage: Stage
    retractions: tuple[tuple[bytes, str], ...]
    """(author, reason) of withdrawals of this stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Everything that verified evidence says about one record."""

    network_name: str
    network_id: bytes
    record: Record
    record_index: int
    batch: bytes
    """Statement id of the batch (part)."""
    header: BatchHeader
    author: bytes
    height: int
    block_hash: bytes
    sealed_by: bytes
    not_before_ms: int
    """Median time past of the block: the chain was there already."""
    not_after_ms: int
    """The block's time and the network's future limit: no node took it from later than this."""
    claimed_time_ms: int
    tip_height: int
    tip_hash: bytes
    confirmations: int
    checkpoint_height: int | None
    """Highest checkpoint on the chain; it covers the image when it is at least `height`."""
    stages: tuple[StageFact, ...]
    retracted_height: int
    """Height at which the whole batch was withdrawn; 0 when it stands."""
    record_retractions: tuple[tuple[bytes, str], ...]
    """(author, reason) of withdrawals of this record."""
    disputed_since: int | None
    """Height from which the author's key is disputed, when the image is not older."""
    attestations: tuple[bytes, ...]
    """Authors other than the batch's who say that they rendered this image again, each once."""
    attested_by_own_author: bool
    """The batch's author says so too, which is no more than the claim itself."""

    def stage(self, reference: bytes) -> StageFact | None:
        """Return a stage by statement id."""
        return next((fact for fact in self.stages if fact.id == reference), None)

    @property
    def model(self) -> StageFact | None:
        """The training stage that the batch names."""
        return self.stage(self.header.model)

    @property
    def filter(self) -> StageFact | None:
        """The filter stage that the batch names; None means ``filter: none``."""
        return None if self.header.filter == ABSENT else self.stage(self.header.filter)

    @property
    def retracted_stage_types(self) -> tuple[StageType, ...]:
        """Types of the stages that were withdrawn, each once."""
        return tuple(dict.fromkeys(fact.stage.stage_type for fact in self.stages if fact.retractions))

    def of_type(self, stage_type: StageType) -> tuple[StageFact, ...]:
        """Return the stages of a type."""
        return tuple(fact for fact in self.stages if fact.stage.stage_type is stage_type)


def tell_story(evidence: Evidence) -> Story:
    """Read verified evidence; raises DecodeError when it was not verified and is malformed."""
    genesis = Genesis.decode(evidence.genesis)
    statement, block = evidence.batch.statement, evidence.blocks[0].sealed
    header = statement.header
    if header.batch is None:
        raise ValueError("evidence: expected one that was verified, got one about no batch")
    entry = None if evidence.batch_entry.value is None else StageEntry.decode(evidence.batch_entry.value)
    checkpoint = evidence.checkpoint.entry.value
    attesting = tuple(dict.fromkeys(_attestations(evidence)))
    return Story(
        network_name=genesis.name,
        network_id=genesis.network_id,
        record=Record.decode(evidence.record.record),
        record_index=evidence.record.index,
        batch=statement.id,
        header=header.batch,
        author=header.author,
        height=block.height,
        block_hash=block.hash,
        sealed_by=block.header.producer,
        not_before_ms=median_time_past([item.time_ms for item in evidence.ancestors]),
        not_after_ms=block.header.time_ms + genesis.params.future_limit_ms,
        claimed_time_ms=header.claimed_time_ms,
        tip_height=evidence.anchor.height,
        tip_hash=evidence.anchor.hash,
        confirmations=evidence.anchor.height - block.height + 1,
        checkpoint_height=None if checkpoint is None else read_checkpoint(checkpoint)[0],
        stages=tuple(_stages(evidence, header.batch)),
        retracted_height=0 if entry is None else entry.retracted_height,
        record_retractions=_retractions(evidence, statement.id, evidence.record.index),
        disputed_since=_disputed_since(evidence),
        attestations=tuple(author for author in attesting if author != header.author),
        attested_by_own_author=header.author in attesting,
    )


def _others(evidence: Evidence) -> Iterator[Statement]:
    return (proof.statement for proof in evidence.statements)


def _stages(evidence: Evidence, batch: BatchHeader) -> Iterator[StageFact]:
    """Stages that the batch names, what they were made from, and measurements of its model, each once.

    Whoever hands out evidence may put any stage of the chain into it: those of other models are passed over.
    """
    told: dict[bytes, tuple[bytes, Stage]] = {}
    for statement in _others(evidence):
        payload = statement.decode_payload()
        if isinstance(payload, Stage):
            told[statement.id] = (statement.author, payload)
    belonging = {batch.model, batch.clustering, batch.filter} - {ABSENT}
    waiting = list(belonging)
    while waiting:
        fact = told.get(waiting.pop())
        found = set() if fact is None else set(fact[1].inputs) - belonging
        belonging |= found
        waiting += found
    for identity, (author, stage) in told.items():
        is_measurement = stage.stage_type in MEASUREMENTS and batch.model in stage.inputs
        if identity in belonging or is_measurement:
            yield StageFact(
                id=identity, author=author, stage=stage, retractions=_retractions(evidence, identity, None)
            )


def _retractions(evidence: Evidence, target: bytes, record: int | None) -> tuple[tuple[bytes, str], ...]:
    """Return who withdrew a statement, or one record of it, and why, each once."""
    found = (
        (statement.author, payload.reason)
        for statement in _others(evidence)
        if isinstance(payload := statement.decode_payload(), Retract)
        and (payload.target, payload.record) == (target, record)
    )
    return tuple(dict.fromkeys(found))


def _attestations(evidence: Evidence) -> Iterator[bytes]:
    record = Record.decode(evidence.record.record)
    about = (evidence.batch.statement.id, evidence.record.index, record.pixel_hash)
    for statement in _others(evidence):
        payload = statement.decode_payload()
        if isinstance(payload, Attestation) and about == (payload.batch, payload.record, payload.pixel_hash):
            yield statement.author


def _disputed_since(evidence: Evidence) -> int | None:
    entries = (RoleEntry.decode(proof.value) for proof in evidence.author_roles if proof.value is not None)
    since = [entry.suspect_since for entry in entries if entry.suspect_since is not None]
    earliest = min(since, default=None)
    return earliest if earliest is not None and earliest <= evidence.blocks[0].sealed.height else None
