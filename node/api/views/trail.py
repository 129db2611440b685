"""The trail of an image: from its batch back through clustering, filter, generation and model to the data.

Owns the walk over the links between statements. It follows what was signed and judges nothing.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from ....consensus.kinds import Kind, StageType
from ....consensus.payloads import Stage
from ....consensus.statement import ABSENT, Statement
from ...chain_index import Place
from ...mentions import Mentions
from ..limits import TRAIL_STEPS_MAX
from ..problems import STATEMENT_NOT_FOUND, not_found
from ..snapshot import Snapshot
from .blocks import JsonObject
from .statements import batch_view, stage_view

ORDER: Final = (
    "image-batch",
    StageType.CLUSTERING.label,
    StageType.FILTER.label,
    StageType.GENERATION.label,
    StageType.TRAINING.label,
    StageType.EVALUATION.label,
    StageType.PRIVACY.label,
    StageType.DATASET.label,
)
"""Steps as they are shown: from the batch back to the data."""


def trail_view(snapshot: Snapshot, start: bytes) -> JsonObject:
    """Return the steps that lead to a batch or stage, in the order of `ORDER`.

    Raises:
        ApiProblem: 404 `statement-not-found`.
    """
    waiting, remarks = deque([start]), deque[bytes]()
    steps: dict[bytes, JsonObject] = {}
    while (waiting or remarks) and len(steps) < TRAIL_STEPS_MAX:
        wanted = (waiting or remarks).popleft()
        if wanted in steps:
            continue
        found = snapshot.chain.statement(wanted)
        if found is None:
            if wanted == start:
                raise _unknown(start)
            continue
        step, inputs = _step(snapshot, *found)
        steps[wanted] = step
        waiting.extend(inputs)
        if step["step"] == StageType.TRAINING.label:
            remarks.extend(_remarks_about(snapshot, found[1]))
    ranked = sorted(steps.values(), key=lambda step: (ORDER.index(step["step"]), step["height"]))
    return {"id": start.hex(), "steps": ranked, "truncated": bool(waiting or remarks)}


def _unknown(start: bytes) -> Exception:
    return not_found(
        STATEMENT_NOT_FOUND,
        f"stage {start.hex()} is not on the chain, or its body was pruned here",
        expected="the id of a confirmed stage or image batch",
        got=start.hex(),
    )


def _step(snapshot: Snapshot, place: Place, statement: Statement) -> tuple[JsonObject, tuple[bytes, ...]]:
    """Return one step and the ids of the statements to go on to."""
    entry = snapshot.state.stage(statement.id)
    common: JsonObject = {
        "id": statement.id.hex(),
        "kind": statement.kind.label,
        "author": statement.author.hex(),
        "height": place.height,
        "retracted": entry is not None and entry.retracted_height > 0,
    }
    batch = statement.header.batch
    if batch is not None:
        view = batch_view(batch)
        named = tuple(item for item in (batch.clustering, batch.filter, batch.model) if item != ABSENT)
        return {
            **common,
            "step": Kind.IMAGE_BATCH.label,
            "batch": view,
            "inputs": [item.hex() for item in named],
        }, named
    payload = statement.decode_payload()
    if not isinstance(payload, Stage):
        raise _unknown(statement.id)
    return {**common, "step": payload.stage_type.label, **stage_view(payload)}, payload.inputs


def _remarks_about(snapshot: Snapshot, model: Statement) -> tuple[bytes, ...]:
    """Return what its author measured of a model, then what others did."""
    own, others = Mentions(snapshot.chain).measurements(model.id, model.author)
    return tuple(statement.id for _, statement in (*own, *others))
