from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facechain.gan.checkpoints import load_generator
from facechain.gan.device import open_device
from facechain.gan.generation import Renderer
from facechain.gan.presets import PPSA_PAPER, PPSA_PLUS
from facechain.gan.runs import TrainingRun
from facechain.gan.training import Trainer
from support.faces import made_faces

pytestmark = pytest.mark.gpu

FACES = made_faces(people=64, per_person=4, side=32)


def test_gpu_training_resumes_and_its_generator_loads_on_a_cpu(tmp_path: Path) -> None:
    config = replace(PPSA_PLUS, total_images=640)
    gpu = open_device("cuda", bf16=True)
    first = TrainingRun(tmp_path, config=config, faces=FACES, device=gpu)
    first.run(stop=lambda: first.trainer.step == 4)
    result = TrainingRun(tmp_path, config=config, faces=FACES, device=gpu, resume=True).run()
    assert result.finished
    loaded = load_generator(result.generator)
    cpu = Renderer(loaded, seed=bytes(32), device=open_device("cpu", bf16=False), micro_batch=16)
    assert cpu.render_micro_batch(0).std() > 0


def test_gpu_rendering_repeats_and_is_close_to_the_cpus(tmp_path: Path) -> None:
    gpu = open_device("cuda", bf16=False)
    run = TrainingRun(tmp_path, config=replace(PPSA_PLUS, total_images=640), faces=FACES, device=gpu)
    path = run.run().generator
    on_gpu = Renderer(load_generator(path), seed=bytes(32), device=gpu, micro_batch=16)
    images = on_gpu.render_micro_batch(3)
    assert np.array_equal(images, on_gpu.render_micro_batch(3))
    on_cpu = Renderer(
        load_generator(path), seed=bytes(32), device=open_device("cpu", bf16=False), micro_batch=16
    )
    difference = np.abs(images.astype(int) - on_cpu.render_micro_batch(3).astype(int))
    assert difference.max() <= 3


def test_compiled_training_takes_the_steps_of_plain_training() -> None:
    config = replace(PPSA_PAPER, batch=64)
    gpu = open_device("cuda", bf16=False)
    plain, compiled = (Trainer(config, FACES.images, gpu, compiled=flag) for flag in (False, True))
    for _ in range(5):
        plain.run_step()
        compiled.run_step()
    assert compiled.take_moments() == pytest.approx(plain.take_moments(), rel=0.02, abs=1e-3)
