"""Release filter, duplicate removal and a step of private training: images a second; noise for a budget.

Processor time on one thread, so that other work on the machine does not count; private and plain training take
turns all the same.

Run: OMP_NUM_THREADS=1 PYTHONPATH=tests python tests/bench/bench_privacy.py [REFERENCES] [ROUNDS]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Final

import numpy as np
import torch

from facechain.gan.config import PrivacyConfig, PrivacyUnit
from facechain.gan.datasets import FaceSet, split_by_identity
from facechain.gan.device import open_device
from facechain.gan.duplicates import unique_images
from facechain.gan.filter import ReferenceFilter
from facechain.gan.presets import CELEBA_IMAGES, PPSA_PAPER, PPSA_PLUS
from facechain.gan.privacy.accounting import Mechanism, least_noise, sample_rate, spending
from facechain.gan.privacy.recipe import private_recipe
from facechain.gan.privacy.secret import Secret
from facechain.gan.privacy.training import PrivateTrainer
from facechain.gan.training import Trainer
from support.faces import made_faces

CHECKED: Final = 8_192
EMBEDDED_IMAGES: Final = 18_206
EMBEDDED_PEOPLE: Final = 4_494
"""What the embedded generator was trained on."""
EMBEDDER_SECONDS: Final = 0.085
"""Per image, of a 128-dimensional face embedder (dlib) on a CPU."""


def seconds(work: Callable[[], object]) -> float:
    """Processor time of `work`."""
    started = time.process_time()
    work()
    return time.process_time() - started


def filter_and_duplicates(references: int, rounds: int) -> None:
    """Print what checking and comparing cost."""
    faces = made_faces(people=references // 4 * 8 // 7, per_person=4, side=32)
    training, held_out = split_by_identity(faces, holdout_share=0.125)
    started = time.process_time()
    release = ReferenceFilter(training, held_out)
    built = time.process_time() - started
    images = np.resize(held_out.images, (CHECKED, *held_out.images.shape[1:]))
    images = images ^ np.random.default_rng(1).integers(0, 32, images.shape, dtype=np.uint8)
    rate = CHECKED / median(seconds(lambda: release.check(images)) for _ in range(rounds))
    print(
        f"release filter, {len(training):,} references: built in {built:.0f} s, {rate:.0f} images/s; "
        f"{CELEBA_IMAGES:,} images in {CELEBA_IMAGES / rate / 60:.1f} min "
        f"(a face embedder at {EMBEDDER_SECONDS * 1000:.0f} ms: {CELEBA_IMAGES * EMBEDDER_SECONDS / 3600:.1f} h)"
    )
    whole = np.resize(faces.images, (2 * CHECKED, *faces.images.shape[1:]))
    half = median(seconds(lambda: unique_images(whole[:CHECKED])) for _ in range(rounds))
    full = median(seconds(lambda: unique_images(whole)) for _ in range(rounds))
    print(f"duplicates: {CHECKED:,} images {half:.1f} s, {2 * CHECKED:,} images {full:.1f} s")


def training(faces: FaceSet, rounds: int) -> None:
    """Print what privacy costs in speed."""
    device = open_device("cpu", bf16=False)
    privacy = PrivacyConfig(unit=PrivacyUnit.IMAGE, epsilon=50.0, noise_multiplier=1.0)
    config = private_recipe(replace(PPSA_PAPER, total_images=PPSA_PAPER.batch * 40, privacy=privacy))
    private = PrivateTrainer(config, faces, device, secret=Secret(key=bytes(32)))
    plain = Trainer(PPSA_PAPER, faces.images, device)
    for trainer in (private, plain):
        trainer.run_step()
    pairs = [(seconds(plain.run_step), seconds(private.run_step)) for _ in range(rounds)]
    speed = PPSA_PAPER.batch / median(slow for _, slow in pairs)
    ratio = median(fast / slow for fast, slow in pairs)
    print(f"private training, ppsa-paper: {speed:.0f} images/s, {ratio:.2f} of training without privacy")


def noise(epsilon: float) -> None:
    """Print how much noise a run of the default preset needs, per image and per person of the embedded set."""
    for unit, records in ((PrivacyUnit.IMAGE, EMBEDDED_IMAGES), (PrivacyUnit.IDENTITY, EMBEDDED_PEOPLE)):
        privacy = PrivacyConfig(unit=unit, epsilon=epsilon)
        rate = sample_rate(batch=PPSA_PLUS.batch, records=records)
        started = time.process_time()
        found = least_noise(privacy, rate=rate, steps=PPSA_PLUS.steps)
        took = time.process_time() - started
        mechanism = Mechanism(noise_multiplier=found, sample_rate=rate, delta=privacy.delta)
        spent = spending(mechanism, PPSA_PLUS.steps)
        print(
            f"noise for ε = {epsilon:g} per {unit}, δ = {privacy.delta:g}, {records:,} records, "
            f"{PPSA_PLUS.steps:,} steps of {PPSA_PLUS.batch}: {found:.3f} (ε by PRV {spent.prv:.3f}, "
            f"by RDP {spent.rdp:.3f}), found in {took:.0f} s"
        )


def main() -> None:
    """Print one line per figure."""
    references = int(sys.argv[1]) if len(sys.argv) > 1 else EMBEDDED_IMAGES
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    torch.set_num_threads(1)
    training(made_faces(people=256, per_person=2, side=32), rounds)
    filter_and_duplicates(references, rounds)
    noise(10.0)


if __name__ == "__main__":
    main()
