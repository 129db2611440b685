"""What the tests of submit and audit share: commands in this process against a node's real API."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facechain.consensus.kinds import StageType
from facechain.gan.batchfolder import BatchFacts, encode_images, write_batch
from facechain.gan.stages import StageRecord
from support.api_thread import ApiThread
from support.chain import make_genesis
from support.pictures import make_picture

SEED = bytes(range(32))


def serve(monkeypatch: pytest.MonkeyPatch, objects: Path | None = None, **params: Any) -> ApiThread:
    thread = ApiThread(make_genesis(heartbeat_ms=0, **params), objects=objects)
    thread.__enter__()
    monkeypatch.setenv("FACECHAIN_API", thread.url)
    monkeypatch.setenv("FACECHAIN_API_TOKEN", thread.token)
    return thread


def images(folder: Path, count: int = 3, *, start: int = 0) -> Path:
    folder.mkdir()
    for number in range(start, start + count):
        (folder / f"{number:08d}.png").write_bytes(make_picture(number).data)
    return folder


def produced(path: Path, count: int = 4, *, seed: int = 3) -> Path:
    random = np.random.Generator(np.random.PCG64(seed))
    stages = (
        StageRecord(label="dataset", stage_type=StageType.DATASET, name="faces"),
        StageRecord(label="training", stage_type=StageType.TRAINING, name="a model", inputs=("dataset",)),
        StageRecord(label="generation", stage_type=StageType.GENERATION, name="x", inputs=("training",)),
        StageRecord(label="clustering", stage_type=StageType.CLUSTERING, name="k", inputs=("generation",)),
    )
    return write_batch(
        path,
        encode_images(range(count), random.integers(0, 256, size=(count, 32, 32, 3), dtype=np.uint8)),
        labels=[0] * count,
        facts=BatchFacts(
            public=True,
            seed=SEED,
            micro_batch=64,
            stages=stages,
            model="training",
            clustering="clustering",
            filter=None,
            store=None,
        ),
    )


def submit(path: Path, *more: str) -> list[str]:
    return ["submit", "--batch", str(path), "--key", "sam", *more]
