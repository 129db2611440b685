"""The generator that comes with the package, and the stage records of how it was made."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch

from ..consensus.kinds import StageType
from .checkpoints import GENERATOR_FILE, LoadedGenerator, load_generator, save_generator
from .errors import CheckpointError
from .stages import STAGE_FILE, StageRecord, make_details, read_stages, write_stages

ASSETS = Path(__file__).parent / "assets"
MAX_EMBEDDED_BYTES = 16 * 2**20


def open_generator(checkpoint: Path | None) -> tuple[LoadedGenerator, tuple[StageRecord, ...]]:
    """A checkpoint file or run folder with the stage records beside it; None is the embedded one."""
    path = ASSETS if checkpoint is None else checkpoint
    if path.is_dir():
        path = path / GENERATOR_FILE
    return load_generator(path), read_stages(path.with_name(STAGE_FILE))


def export_generator(source: Path, folder: Path, *, stages: Sequence[StageRecord]) -> bytes:
    """Write `source` into `folder` with half-precision weights, as the package embeds it.

    The `training` record then names the file that was written. Returns its SHA-256.

    Raises:
        CheckpointError: the result is larger than a package may carry.
    """
    loaded = load_generator(source)
    target = folder / GENERATOR_FILE
    save_generator(target, loaded.module, loaded.config, images_seen=loaded.images_seen, dtype=torch.float16)
    data = target.read_bytes()
    if len(data) > MAX_EMBEDDED_BYTES:
        target.unlink()
        raise CheckpointError(
            "too large to embed", expected=f"at most {MAX_EMBEDDED_BYTES} bytes", got=str(len(data))
        )
    digest = hashlib.sha256(data).digest()
    write_stages(folder, [_stored_in_half(record, digest) for record in stages])
    return digest


def _stored_in_half(record: StageRecord, digest: bytes) -> StageRecord:
    if record.stage_type is not StageType.TRAINING:
        return record
    facts = {**dict(record.details), "storage": "float16"}
    return dataclasses.replace(record, artifact=digest, details=make_details(facts))
