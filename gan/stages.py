"""Stage records: what each step of the pipeline says about itself, before it is signed.

A step writes `stage.json` beside its output: its own record preceded by those of all steps it
used, so that any output can be anchored on its own. Record format: docs/producer.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..consensus.hashing import ZERO_HASH
from ..consensus.kinds import StageType
from ..consensus.payloads import (
    MAX_KEY_BYTES,
    MAX_NAME_BYTES,
    MAX_STAGE_DETAILS,
    MAX_STAGE_INPUTS,
    MAX_VALUE_BYTES,
    Stage,
)
from .checkpoints import write_atomically
from .errors import StageError
from .generation import canonical_json

STAGE_FILE = "stage.json"
FORMAT = "facechain-stages-1"
_STATEMENT_ID = re.compile(r"[0-9a-f]{64}")


class Submit(Protocol):
    """Signs and sends one payload; returns the statement id (32 bytes)."""

    def __call__(self, payload: Stage, /) -> bytes:
        """Submit `payload`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRecord:
    """One step; `inputs` are labels of earlier records or hex statement ids."""

    label: str
    stage_type: StageType
    artifact: bytes = ZERO_HASH
    inputs: tuple[str, ...] = ()
    name: str
    details: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        """Refuse what the payload's limits would refuse, while it can still be put right."""
        _check(self.label != "" and not is_statement_id(self.label), "label", self.label)
        _check(len(self.artifact) == len(ZERO_HASH), "artifact", self.artifact.hex())
        _check(len(self.inputs) <= MAX_STAGE_INPUTS, "number of inputs", str(len(self.inputs)))
        _check(len(self.name.encode()) <= MAX_NAME_BYTES, "name", self.name)
        _check(len(self.details) <= MAX_STAGE_DETAILS, "number of details", str(len(self.details)))
        keys = [key.encode() for key, _ in self.details]
        _check(keys == sorted(set(keys)), "order of details", str(keys))
        for key, value in self.details:
            fits = len(key.encode()) <= MAX_KEY_BYTES and len(value.encode()) <= MAX_VALUE_BYTES
            _check(fits, "length of a detail", key)

    def to_json(self) -> dict[str, object]:
        """The record as docs/producer.md describes it."""
        return {
            "label": self.label,
            "stage_type": self.stage_type.label,
            "artifact": self.artifact.hex(),
            "inputs": list(self.inputs),
            "name": self.name,
            "details": [list(pair) for pair in self.details],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> StageRecord:
        """Read a record; anything unexpected is a `StageError`."""
        try:
            inputs, details = value["inputs"], value["details"]
            if not isinstance(inputs, list) or not isinstance(details, list):
                raise StageError("stage record", expected="lists of inputs and details", got=str(value))
            return cls(
                label=str(value["label"]),
                stage_type=StageType[str(value["stage_type"]).upper()],
                artifact=bytes.fromhex(str(value["artifact"])),
                inputs=tuple(str(item) for item in inputs),
                name=str(value["name"]),
                details=tuple((str(key), str(text)) for key, text in details),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise StageError("stage record cannot be read", got=f"{type(error).__name__}: {error}") from error


def make_details(facts: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    """Facts as sorted text pairs; floats with six significant digits."""
    texts = {key: f"{fact:.6g}" if isinstance(fact, float) else str(fact) for key, fact in facts.items()}
    return tuple(sorted(texts.items(), key=lambda pair: pair[0].encode()))


def is_statement_id(reference: str) -> bool:
    """Whether a reference names a statement on chain rather than a label."""
    return _STATEMENT_ID.fullmatch(reference) is not None


def extend(stages: Sequence[StageRecord], *added: StageRecord) -> tuple[StageRecord, ...]:
    """`stages` followed by `added`, checked: labels unique, inputs known before they are used."""
    result = (*stages, *added)
    known: set[str] = set()
    for record in result:
        _check(record.label not in known, "label (already taken)", record.label)
        for reference in record.inputs:
            _check(is_statement_id(reference) or reference in known, "input", reference)
        known.add(record.label)
    return result


def find_label(stages: Iterable[StageRecord], kind: StageType) -> str | None:
    """Label of the last record of a type, if there is one."""
    found = [record.label for record in stages if record.stage_type is kind]
    return found[-1] if found else None


def write_stages(folder: Path, stages: Sequence[StageRecord]) -> Path:
    """Write `stage.json` into `folder`."""
    data = canonical_json({"format": FORMAT, "stages": [record.to_json() for record in extend(stages)]})
    path = folder / STAGE_FILE
    write_atomically(path, lambda temporary: temporary.write_bytes(data))
    return path


def read_stages(path: Path) -> tuple[StageRecord, ...]:
    """Read a `stage.json`; a missing file means nothing is known and gives no records."""
    if not path.exists():
        return ()
    try:
        loaded: object = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise StageError("stage file is not JSON", got=f"{path}: {error}") from error
    if not isinstance(loaded, dict) or loaded.get("format") != FORMAT:
        raise StageError("stage file", expected=FORMAT, got=str(path))
    items = loaded.get("stages")
    if not isinstance(items, list):
        raise StageError("stage file", expected="a list of stages", got=type(items).__name__)
    return extend([StageRecord.from_json(item) for item in items])


def anchor(stages: Sequence[StageRecord], submit: Submit) -> dict[str, bytes]:
    """Submit the records in order; returns the statement id of each label."""
    ids: dict[str, bytes] = {}
    for record in extend(stages):
        inputs = tuple(ids[ref] if ref in ids else bytes.fromhex(ref) for ref in record.inputs)
        ids[record.label] = submit(
            Stage(
                stage_type=record.stage_type,
                artifact=record.artifact,
                inputs=inputs,
                name=record.name,
                details=record.details,
            )
        )
    return ids


def _check(holds: bool, what: str, got: str) -> None:  # noqa: FBT001 - a guard
    if not holds:
        raise StageError(f"stage record: {what}", expected="a value docs/producer.md allows", got=got)
