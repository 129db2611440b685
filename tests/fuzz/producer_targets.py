"""Targets of `gan/`: what a producer's own files say. Importing them imports torch."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Final

from facechain.consensus.kinds import StageType
from facechain.gan.config import from_json, to_json
from facechain.gan.errors import ConfigError, StageError
from facechain.gan.presets import find_preset
from facechain.gan.stages import STAGE_FILE, StageRecord, read_stages, write_stages

from .target import Form, Target, check_again


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="facechain-fuzz-")


def _read_config(data: bytes) -> None:
    config = from_json(data.decode("utf-8", "surrogateescape"))
    check_again(lambda: from_json(to_json(config)), config)


def _read_stages(data: bytes) -> None:
    path = Path(_folder().name) / STAGE_FILE
    path.write_bytes(data)
    stages = read_stages(path)
    check_again(lambda: read_stages(write_stages(path.parent, stages)), stages)


def _stage_seeds() -> tuple[bytes, ...]:
    first = StageRecord(label="dataset", stage_type=StageType.DATASET, name="faces")
    second = StageRecord(
        label="training",
        stage_type=StageType.TRAINING,
        name="a model",
        inputs=("dataset", "0f" * 32),
        details=(("epochs", "3"),),
    )
    return (write_stages(Path(_folder().name), (first, second)).read_bytes(),)


TARGETS: Final = (
    Target(
        name="training-config",
        read=_read_config,
        refusals=(ConfigError,),
        seeds=lambda: (to_json(find_preset("ppsa-paper")).encode(),),
        form=Form.JSON,
    ),
    Target(name="stage-file", read=_read_stages, refusals=(StageError,), seeds=_stage_seeds, form=Form.JSON),
)
