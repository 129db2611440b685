"""What an audit found, as JSON and as lines for people.

Owns words and layout. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from .audit_privacy import privacy_line
from .auditing import Audit, Claim, Result
from .output import columns, facts

if TYPE_CHECKING:
    from ..consensus.payloads import Stage
    from ..consensus.proofs import Verdict
    from ..consensus.story import StageFact, Story

LOOK_BITS: Final = 256
NONE: Final = "none"

HEADLINES: Final = {
    Result.VERIFIED: "claimed synthetic: registered, verified",
    Result.ALTERED: "altered copy of a registered image",
    Result.NOT_FOUND: "not registered on this network, and nothing registered looks like it",
    Result.FAILED: "the evidence does not hold",
}


def headline(audit: Audit) -> str:
    """Return the one sentence that matters."""
    text = HEADLINES[audit.result]
    claim = audit.primary
    if audit.image is None and audit.result is Result.NOT_FOUND:
        return f"{audit.digest.hex()} is not registered on this network"
    if audit.likeness is not None:
        text = f"altered copy of registered image {audit.likeness.pixel_hash.hex()}, distance {audit.likeness.distance}"
    if audit.result is Result.VERIFIED and claim is not None:
        if claim.verdict.is_recoded:
            text += "; same pixels, file re-coded"
        if claim.story is not None and claim.story.attestations:
            text = text.replace(
                "claimed synthetic", "claimed synthetic and reproduced by an attesting auditor"
            )
    story = None if claim is None else claim.story
    if story is not None and (story.retracted_height or story.record_retractions):
        text += "; RETRACTED"
    for stage_type in () if story is None else story.retracted_stage_types:
        text += f"; RETRACTED {stage_type.label.upper()} STAGE"
    if story is not None and story.disputed_since is not None:
        text += "; DISPUTED KEY"
    return text


def audit_json(audit: Audit) -> dict[str, Any]:
    """Return an audit for --json."""
    image = audit.image
    return {
        "result": audit.result.value,
        "headline": headline(audit),
        "hash": audit.digest.hex(),
        "image": None
        if image is None
        else {
            "path": image.path,
            "file_hash": image.file_hash.hex(),
            "pixel_hash": None if image.pixel_hash is None else image.pixel_hash.hex(),
            "look": image.look.hex(),
        },
        "network_trusted": audit.network_trusted,
        "match": _match_json(audit),
        "claims": [claim_json(claim) for claim in audit.claims],
    }


def _match_json(audit: Audit) -> dict[str, Any] | None:
    from ..consensus.perceptual import MATCH_DISTANCE, MATCH_FALSE_RATE_BOUND, MATCH_PAIRS_MEASURED

    likeness = audit.likeness
    if likeness is None:
        return None
    return {
        "distance": likeness.distance,
        "recomputed_from_pixels": likeness.recomputed,
        "pixel_hash": likeness.pixel_hash.hex(),
        "file_hash": likeness.file_hash.hex(),
        "threshold": MATCH_DISTANCE,
        "false_match_rate_bound": MATCH_FALSE_RATE_BOUND,
        "pairs_measured": MATCH_PAIRS_MEASURED,
    }


def claim_json(claim: Claim) -> dict[str, Any]:
    """Return one claim."""
    failure = claim.verdict.failure
    return {
        "verified": claim.verdict.is_verified,
        "recoded": claim.verdict.is_recoded,
        "failed_layer": None if failure is None else failure.name,
        "layers": [
            {"name": layer.name, "status": layer.status.value, "detail": layer.detail}
            for layer in claim.verdict.layers
        ],
        "story": None if claim.story is None else story_json(claim.story),
    }


def story_json(story: Story) -> dict[str, Any]:
    """Return a story."""
    from ..consensus.records import NO_CLUSTER

    record = story.record
    return {
        "network": {"name": story.network_name, "id": story.network_id.hex()},
        "author": story.author.hex(),
        "batch": story.batch.hex(),
        "record_index": story.record_index,
        "record_count": story.header.record_count,
        "pixel_hash": record.pixel_hash.hex(),
        "file_hash": record.file_hash.hex(),
        "generator_index": record.generator_index,
        "cluster": None if record.cluster == NO_CLUSTER else record.cluster,
        "width": story.header.width,
        "height_pixels": story.header.height,
        "public": story.header.public,
        "time": {
            "not_before_ms": story.not_before_ms,
            "not_after_ms": story.not_after_ms,
            "claimed_ms": story.claimed_time_ms,
        },
        "block": {
            "height": story.height,
            "hash": story.block_hash.hex(),
            "sealed_by": story.sealed_by.hex(),
        },
        "confirmations": story.confirmations,
        "tip": {"height": story.tip_height, "hash": story.tip_hash.hex()},
        "checkpoint": story.checkpoint_height,
        "covered_by_checkpoint": _is_covered(story),
        "model": _stage_json(story.model),
        "filter": NONE if story.filter is None else _stage_json(story.filter),
        "stages": [_stage_json(fact) for fact in story.stages],
        "retracted_height": story.retracted_height or None,
        "record_retractions": [
            {"author": author.hex(), "reason": reason} for author, reason in story.record_retractions
        ],
        "disputed_since": story.disputed_since,
        "attested_by": [author.hex() for author in story.attestations],
        "attested_by_own_author": story.attested_by_own_author,
    }


def _stage_json(fact: StageFact | None) -> dict[str, Any] | None:
    if fact is None:
        return None
    return {
        "id": fact.id.hex(),
        "author": fact.author.hex(),
        "stage_type": fact.stage.stage_type.label,
        "name": fact.stage.name,
        "artifact": fact.stage.artifact.hex(),
        "details": dict(fact.stage.details),
        "retractions": [{"author": author.hex(), "reason": reason} for author, reason in fact.retractions],
    }


def _is_covered(story: Story) -> bool:
    return story.checkpoint_height is not None and story.checkpoint_height >= story.height


def audit_lines(audit: Audit, *, trust_option: str = "--trust-network") -> list[str]:
    """Return an audit for people; `trust_option` names the network that counts in the command at hand."""
    lines = [f"{audit.result.value.upper().replace('-', ' ')}: {headline(audit)}"]
    if audit.image is not None and audit.image.note is not None:
        lines.append(f"this file cannot be registered as it is: {audit.image.note}")
    lines += _match_lines(audit)
    claim = audit.primary
    if claim is None:
        return lines
    if claim.story is not None:
        trust = "trusted" if audit.network_trusted else f"by its own word: name it with {trust_option}"
        lines += ["", *facts(_story_rows(claim.story, trust=trust))]
    lines += ["", *verdict_lines(claim.verdict)]
    others = [item for item in audit.claims if item is not claim]
    if others:
        lines += [
            "",
            f"{len(others)} more claims of the same pixels; the oldest comes first, which proves no authorship",
        ]
        lines += columns(("AUTHOR", "BLOCK", "EVIDENCE"), [_claim_row(item) for item in others])
    return lines


def _match_lines(audit: Audit) -> Iterator[str]:
    from ..consensus.perceptual import MATCH_DISTANCE, MATCH_FALSE_RATE_BOUND, MATCH_PAIRS_MEASURED

    likeness = audit.likeness
    if likeness is None:
        return
    how = (
        "computed from the registered pixels"
        if likeness.recomputed
        else "by the node's word: it does not hold the image"
    )
    yield f"distance {likeness.distance} of {LOOK_BITS} bits ({how}); alike up to {MATCH_DISTANCE}"
    yield (
        f"at this threshold the measured false-match rate is 0 of {MATCH_PAIRS_MEASURED:,} pairs of different faces "
        f"(below {MATCH_FALSE_RATE_BOUND:.1e} at 95 %); what follows is about the registered image"
    )


def verdict_lines(verdict: Verdict) -> list[str]:
    """Return the layers as a table."""
    return columns(
        ("LAYER", "RESULT", "FOUND"),
        [(layer.name, layer.status.value, layer.detail) for layer in verdict.layers],
    )


def _claim_row(claim: Claim) -> tuple[str, str, str]:
    story = claim.story
    if story is None:
        failure = claim.verdict.failure
        return "", "", f"failed: {failure.name}" if failure else ""
    return story.author.hex(), str(story.height), "verified"


def _story_rows(story: Story, *, trust: str) -> Iterator[tuple[str, object]]:
    from ..consensus.kinds import StageType
    from ..consensus.records import NO_CLUSTER

    record, header = story.record, story.header
    yield "who", story.author.hex()
    yield "when", f"between {_time(story.not_before_ms)} and {_time(story.not_after_ms)}"
    yield "what", f"record {story.record_index} of {header.record_count} in batch {story.batch.hex()}"
    yield "image", f"{header.width} x {header.height}, pixel hash {record.pixel_hash.hex()}"
    yield "cluster", NONE if record.cluster == NO_CLUSTER else record.cluster
    yield "model", _stage_line(story.model, story.author)
    for name, kind in (("training data", StageType.DATASET), ("privacy", StageType.PRIVACY)):
        found = story.of_type(kind)
        for fact in found:
            yield name, _stage_line(fact, story.author)
        if not found:
            yield name, "no record"
    yield (
        "release filter",
        "filter: none" if story.filter is None else _stage_line(story.filter, story.author),
    )
    yield "block", f"{story.height} {story.block_hash.hex()}"
    yield "confirmations", f"{story.confirmations}, as of block {story.tip_height}"
    covered = f"height {story.checkpoint_height}, covers it" if _is_covered(story) else "none covers it yet"
    yield "checkpoint", covered
    yield "retracted", _retracted(story)
    yield "key disputed", "no" if story.disputed_since is None else f"from height {story.disputed_since}"
    yield "reproduced", _attested(story)
    yield "network", f"{story.network_name} {story.network_id.hex()} ({trust})"


def _stage_line(fact: StageFact | None, author: bytes) -> str:
    if fact is None:
        return NONE
    line = _stage_facts(fact.stage)
    if fact.author != author:
        line += f", said by {fact.author.hex()}"
    return "; ".join((line, *(f"RETRACTED: {reason} ({by.hex()})" for by, reason in fact.retractions)))


def _stage_facts(stage: Stage) -> str:
    from ..consensus.kinds import StageType

    if stage.stage_type is StageType.PRIVACY:
        return privacy_line(stage)
    details = ", ".join(f"{key} {value}" for key, value in stage.details)
    return f"{stage.name} ({details})" if details else stage.name


def _retracted(story: Story) -> str:
    if story.retracted_height:
        return f"the whole batch, at height {story.retracted_height}"
    reasons = "; ".join(f"{reason} ({author.hex()})" for author, reason in story.record_retractions)
    return reasons or "no"


def _attested(story: Story) -> str:
    by = ["its own author, which proves nothing"] if story.attested_by_own_author else []
    by = [author.hex() for author in story.attestations] + by
    return f"attested by {', '.join(by)}" if by else "not attested"


def _time(time_ms: int) -> str:
    try:
        return datetime.fromtimestamp(time_ms / 1_000, tz=UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return f"{time_ms} ms"
