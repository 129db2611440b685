"""The generator that comes with the package, and the stage records of how it was made."""

from __future__ import annotations

from pathlib import Path

from .checkpoints import GENERATOR_FILE, LoadedGenerator, load_generator
from .stages import STAGE_FILE, StageRecord, read_stages

ASSETS = Path(__file__).parent / "assets"
MAX_EMBEDDED_BYTES = 16 * 2**20


def open_generator(checkpoint: Path | None) -> tuple[LoadedGenerator, tuple[StageRecord, ...]]:
    """A checkpoint file or run folder with the stage records beside it; None is the embedded one."""
    path = ASSETS if checkpoint is None else checkpoint
    if path.is_dir():
        path = path / GENERATOR_FILE
    return load_generator(path), read_stages(path.with_name(STAGE_FILE))
