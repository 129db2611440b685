"""Registered images as JSON: every claim of a pixel or file hash, and the nearest looks."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from ....consensus.kinds import Role
from ....consensus.payloads import ImageBatch, Retract, Stage
from ....consensus.perceptual import HASH_BYTES as PERCEPTUAL_BYTES
from ....consensus.records import NO_CLUSTER, Record
from ....consensus.statement import ABSENT, BatchHeader, Statement
from ...chain_index import RecordPlace
from ...mentions import Mentions
from ..limits import (
    CLAIMS_MAX,
    LOOK_FALSE_MATCH_BOUND,
    LOOK_MATCH_DISTANCE,
    LOOKS_SCANNED_MAX,
)
from ..problems import not_found
from ..snapshot import Snapshot
from .blocks import JsonObject, time_interval
from .statements import stage_view

_DECODED_BATCHES = 8


@lru_cache(maxsize=_DECODED_BATCHES)
def _records_of(statement: Statement) -> ImageBatch:
    """Decode a batch payload; the last few are kept, since audits come in runs over one batch."""
    return ImageBatch.decode(statement.payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One registration of an image: the record and the batch that holds it."""

    place: RecordPlace
    statement: Statement
    batch: BatchHeader
    record: Record


def load_claim(snapshot: Snapshot, place: RecordPlace) -> Claim | None:
    """Return a claim with its record; None when the body that holds it was pruned."""
    statement = snapshot.chain.statement_at(place.place)
    if statement is None or statement.header.batch is None:
        return None
    record = _records_of(statement).records[place.record]
    return Claim(place=place, statement=statement, batch=statement.header.batch, record=record)


def find_places(snapshot: Snapshot, digest: bytes) -> tuple[str, tuple[RecordPlace, ...]]:
    """Return which hash matched (`pixel-hash` or `file-hash`) and the registrations, oldest first.

    Raises:
        ApiProblem: 404 `not-registered`.
    """
    for matched, look_up in (
        ("pixel-hash", snapshot.chain.claims_of_pixels),
        ("file-hash", snapshot.chain.claims_of_file),
    ):
        places = look_up(digest, limit=CLAIMS_MAX)
        if places:
            return matched, places
    raise not_found(
        "not-registered",
        f"no registered image has the pixel hash or file hash {digest.hex()} at height {snapshot.height}",
        expected="the hash of a registered image",
        got=digest.hex(),
    )


def image_view(snapshot: Snapshot, digest: bytes) -> JsonObject:
    """Return every claim of an image, oldest first.

    Raises:
        ApiProblem: 404 `not-registered`.
    """
    matched, places = find_places(snapshot, digest)
    claims = [claim_view(snapshot, place) for place in places]
    return {
        "hash": digest.hex(),
        "matched": matched,
        "claims": claims,
        "truncated": len(places) == CLAIMS_MAX,
        "height": snapshot.height,
        "tip": snapshot.tip.hash.hex(),
        "checkpoint": checkpoint_view(snapshot),
    }


def checkpoint_view(snapshot: Snapshot) -> JsonObject | None:
    """Return the highest checkpoint that reached the quorum."""
    found = snapshot.state.checkpoint()
    return None if found is None else {"height": found[0], "hash": found[1].hex()}


def claim_view(snapshot: Snapshot, place: RecordPlace) -> JsonObject:
    """Return one claim: where it stands, who made it, when, and from what."""
    sealed = snapshot.header_at(place.height)
    where = {"height": place.height, "index": place.statement, "record": place.record}
    common = {
        "place": where,
        "height": place.height,
        "block_hash": sealed.hash.hex(),
        "confirmations": snapshot.confirmations(place.height),
        "time": time_interval(snapshot, sealed),
    }
    claim = load_claim(snapshot, place)
    if claim is None:
        return {**common, "pruned": True}
    statement, batch, record = claim.statement, claim.batch, claim.record
    remarks = _remarks(snapshot, claim)
    return {
        **common,
        "pruned": False,
        "batch": statement.id.hex(),
        "record_index": place.record,
        "record_count": batch.record_count,
        "pixel_hash": record.pixel_hash.hex(),
        "file_hash": record.file_hash.hex(),
        "generator_index": record.generator_index,
        "cluster": None if record.cluster == NO_CLUSTER else record.cluster,
        "width": batch.width,
        "height_pixels": batch.height,
        "author": statement.author.hex(),
        "claimed_time_ms": statement.header.claimed_time_ms,
        "public": batch.public,
        "model": stage_summary(snapshot, batch.model),
        "clustering": stage_summary(snapshot, batch.clustering),
        "filter": stage_summary(snapshot, batch.filter),
        "disputed": is_disputed(snapshot, statement.author, place.height),
        **remarks,
    }


def stage_summary(snapshot: Snapshot, statement_id: bytes) -> JsonObject | str:
    """Return a named stage, `"none"` when none was named."""
    if statement_id == ABSENT:
        return "none"
    found = snapshot.chain.statement(statement_id)
    payload = None if found is None else found[1].decode_payload()
    if found is None or not isinstance(payload, Stage):
        return {"id": statement_id.hex(), "pruned": True}
    place, statement = found
    return {
        "id": statement_id.hex(),
        "author": statement.author.hex(),
        "height": place.height,
        **stage_view(payload),
    }


def is_disputed(snapshot: Snapshot, author: bytes, height: int) -> bool:
    """Tell whether a revocation put the author's statements from this height on in doubt."""
    entries = (snapshot.state.role(role, author) for role in Role)
    return any(entry.suspect_since is not None and height >= entry.suspect_since for entry in entries)


def _remarks(snapshot: Snapshot, claim: Claim) -> JsonObject:
    """Return retraction and attestations of one record, from the statements that name its batch."""
    batch, record = claim.statement, claim.place.record
    entry = snapshot.state.stage(batch.id)
    whole = entry is not None and entry.retracted_height > 0
    mentions = Mentions(snapshot.chain)
    withdrawn = (*mentions.retractions(batch.id, record), *mentions.retractions(batch.id))
    payloads = (statement.decode_payload() for _, statement in withdrawn)
    attested = mentions.attestations(batch, record, claim.record.pixel_hash)
    return {
        "retracted": whole or bool(withdrawn),
        "retraction_reasons": [payload.reason for payload in payloads if isinstance(payload, Retract)],
        "attestations": [
            {"author": statement.author.hex(), "height": place.height}
            for place, statement in attested
            if statement.author != batch.author
        ],
        "attested_by_own_author": any(statement.author == batch.author for _, statement in attested),
    }


def looks_view(snapshot: Snapshot, look: bytes, *, max_distance: int, limit: int) -> JsonObject:
    """Return the registered images whose perceptual hash is nearest, nearest first."""
    found, scanned, complete = nearest_looks(snapshot, look, max_distance=max_distance, limit=limit)
    return {
        "look": look.hex(),
        "max_distance": max_distance,
        "match_distance": LOOK_MATCH_DISTANCE,
        "false_match_bound": LOOK_FALSE_MATCH_BOUND,
        "scanned": scanned,
        "complete": complete,
        "matches": [
            {"distance": distance, "claim": claim_view(snapshot, place)} for distance, place in found
        ],
    }


def nearest_looks(
    snapshot: Snapshot, look: bytes, *, max_distance: int, limit: int
) -> tuple[list[tuple[int, RecordPlace]], int, bool]:
    """Return (distance, place) of the nearest looks, how many were scanned, and whether that was all."""
    wanted = int.from_bytes(look, "big")
    best: list[tuple[int, RecordPlace]] = []
    scanned = 0
    for place, column in snapshot.chain.looks():
        if scanned >= LOOKS_SCANNED_MAX:
            return best, scanned, False
        near = [
            (distance, RecordPlace(place.height, place.index, number))
            for number, distance in enumerate(_distances(wanted, column))
            if distance <= max_distance
        ]
        scanned += len(column) // PERCEPTUAL_BYTES
        best = heapq.nsmallest(limit, [*best, *near])
    return best, scanned, True


def _distances(wanted: int, column: bytes) -> Iterator[int]:
    read = int.from_bytes
    for start in range(0, len(column), PERCEPTUAL_BYTES):
        yield (wanted ^ read(column[start : start + PERCEPTUAL_BYTES], "big")).bit_count()
