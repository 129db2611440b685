"""What most tests of the producer share: one small trained generator."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from facechain.gan.checkpoints import LoadedGenerator, load_generator
from facechain.gan.device import Device, open_device
from facechain.gan.presets import TINY
from facechain.gan.runs import TrainingRun
from support.faces import made_faces


@pytest.fixture(scope="session")
def cpu() -> Device:
    torch.set_num_threads(1)
    return open_device("cpu", bf16=False)


@pytest.fixture(scope="session")
def run_folder(cpu: Device, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the tiny preset."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    faces = made_faces(people=12, per_person=3)
    TrainingRun(folder, config=replace(TINY, total_images=32), faces=faces, device=cpu).run()
    return folder


@pytest.fixture
def loaded(run_folder: Path) -> LoadedGenerator:
    return load_generator(run_folder / "generator.safetensors")
