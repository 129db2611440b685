"""Keeps off a run's page what belongs to another generator or another batch.

A generator is known by the SHA-256 of its file, which its training record and every evaluation name; a batch by the
records roots of its parts, which its receipt names together (`group`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Final

from ...consensus.kinds import StageType
from ...consensus.records import RECORD_BYTES, Records
from ...consensus.statement import group_id
from ..checkpoints import GENERATOR_FILE
from ..errors import ReportError
from ..metrics.evaluate import REPORT_FILE
from ..stages import STAGE_FILE, StageRecord

MEASURED_VERDICTS: Final = ("accuracy", "precision", "recall", "auc")
"""Verdicts that come with an interval since they are resampled."""


def generator_hash(run: Path) -> str:
    """SHA-256 of the run's generator, in hexadecimal."""
    return hashlib.sha256((run / GENERATOR_FILE).read_bytes()).hexdigest()


def identity(record: StageRecord) -> str:
    """The record without its label, which differs from folder to folder."""
    return json.dumps({**record.to_json(), "label": ""}, sort_keys=True)


def check_evaluation(
    folder: Path, document: Mapping[str, Any] | None, stages: Sequence[StageRecord], *, generator: str
) -> None:
    """Compare what an evaluation and the stage records beside it speak of with the run's generator.

    Raises:
        ReportError: it is of another generator, or older than intervals of the verdicts.
    """
    trained = _trained(stages)
    if trained is not None and trained != generator:
        _refuse(f"{folder / STAGE_FILE} is of another generator", generator, trained)
    if document is None:
        return
    if document.get("generator_sha256") != generator:
        _refuse(
            f"{folder / REPORT_FILE} is of another generator", generator, document.get("generator_sha256")
        )
    verdicts = document.get("discriminator")
    if isinstance(verdicts, dict) and not all(
        isinstance(verdicts.get(name), dict) for name in MEASURED_VERDICTS
    ):
        raise ReportError(
            f"{folder / REPORT_FILE} was written by an earlier release",
            expected="verdicts with their intervals",
            got="verdicts without",
            hint="run facechain evaluate again",
        )


def check_batch(folder: Path, stages: Sequence[StageRecord], *, generator: str) -> None:
    """Compare the generator that a batch was made with to the run's; ReportError when it is another one."""
    trained = _trained(stages)
    if trained != generator:
        _refuse(f"{folder} was made by another generator", generator, trained)


def check_receipt(receipt: Path, told: Mapping[str, Any], records: Records) -> None:
    """Compare the batch that a receipt speaks of with the batch at hand.

    Raises:
        ReportError: it is another one, or the receipt does not say.
    """
    ends = list(accumulate((int(part["images"]) for part in told.get("parts", ())), initial=0))
    roots = [Records(records.packed[a * RECORD_BYTES : b * RECORD_BYTES]).root() for a, b in pairwise(ends)]
    named = str(told.get("group"))
    if ends[-1] != len(records) or group_id(roots).hex() != named:
        _refuse(
            f"{receipt} is the receipt of another batch",
            f"the group of {len(records)} images that is in the folder",
            f"group {named} of {ends[-1]} images",
        )


def _trained(stages: Sequence[StageRecord]) -> str | None:
    found = [record for record in stages if record.stage_type is StageType.TRAINING]
    return found[-1].artifact.hex() if found else None


def _refuse(what: str, expected: str, got: object) -> None:
    raise ReportError(what, expected=expected, got="none" if got is None else str(got))
