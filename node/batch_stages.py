"""Stage records as a batch brings them: payloads whose references are not statement ids yet.

Owns the reading of the list (docs/producer.md, "Batch folder") and the step from a record to a payload once the
statements before it are signed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..consensus.errors import DecodeError
from ..consensus.kinds import StageType
from ..consensus.payloads import Stage
from .batch_source import BatchRejected

STAGES_MAX: Final = 64
"""Stage records of one batch."""

_ID: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageDraft:
    """One stage record; `inputs` are labels of earlier records or 64 hex digits of a statement id."""

    label: str
    stage_type: StageType
    artifact: bytes
    inputs: tuple[str, ...]
    name: str
    details: tuple[tuple[str, str], ...]

    def payload(self, ids: Mapping[str, bytes]) -> Stage:
        """Return the payload with labels replaced by `ids`; KeyError when one is missing."""
        return Stage(
            stage_type=self.stage_type,
            artifact=self.artifact,
            inputs=tuple(resolve(reference, ids) for reference in self.inputs),
            name=self.name,
            details=self.details,
        )


def is_statement_id(reference: str) -> bool:
    """Tell whether a reference names a statement on chain rather than a label."""
    return _ID.fullmatch(reference) is not None


def resolve(reference: str, ids: Mapping[str, bytes]) -> bytes:
    """Return the statement id that a reference means; KeyError for an unknown label."""
    return bytes.fromhex(reference) if is_statement_id(reference) else ids[reference]


def read_stage_list(value: object, what: str) -> tuple[StageDraft, ...]:
    """Read the list of a file; BatchRejected names the file, the record and what is wrong with it."""
    if not isinstance(value, list) or len(value) > STAGES_MAX:
        raise BatchRejected(
            f"{what}: stages", expected=f"a list of at most {STAGES_MAX}", got=repr(value)[:80]
        )
    found: dict[str, StageDraft] = {}
    for number, item in enumerate(value):
        where = f"{what}: stage {number}"
        draft = _read(item, where)
        if not draft.label or draft.label in found or is_statement_id(draft.label):
            raise BatchRejected(where, expected="a label of its own, not 64 hex digits", got=draft.label)
        unknown = [name for name in draft.inputs if name not in found and not is_statement_id(name)]
        if unknown:
            raise BatchRejected(where, expected="inputs that come before it", got=unknown[0])
        found[draft.label] = draft
    return tuple(found.values())


def _read(item: Any, where: str) -> StageDraft:
    """Read one record and put it through the payload's own decoder, which knows every limit."""
    try:
        draft = StageDraft(
            label=_text(item["label"]),
            stage_type=StageType[_text(item["stage_type"]).upper()],
            artifact=bytes.fromhex(_text(item["artifact"])),
            inputs=tuple(_text(name) for name in item["inputs"]),
            name=_text(item["name"]),
            details=tuple((_text(key), _text(text)) for key, text in item["details"]),
        )
        Stage.decode(draft.payload(dict.fromkeys(draft.inputs, bytes(32))).encode())
    except DecodeError as error:
        raise BatchRejected(
            f"{where}: {error.what}", expected=str(error.expected), got=str(error.got)
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise BatchRejected(
            where, expected="a stage record (docs/producer.md)", got=f"{error!r}"[:120]
        ) from error
    return draft


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {type(value).__name__}")
    return value
