"""Release filter, duplicate removal, clipping and a step of private training: images a second; noise for a budget.

Processor time on one thread, so that other work on the machine does not count; private and plain training take
turns all the same.

Run: OMP_NUM_THREADS=1 PYTHONPATH=tests python tests/bench/bench_privacy.py [REFERENCES] [ROUNDS]
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
import torch
from opacus.grad_sample import GradSampleHooks, GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn
from torch.nn import functional

from facechain.gan.config import PrivacyConfig, PrivacyUnit, TrainingConfig
from facechain.gan.datasets import FaceSet, split_by_identity
from facechain.gan.device import open_device
from facechain.gan.duplicates import unique_images
from facechain.gan.filter import ReferenceFilter
from facechain.gan.networks import make_discriminator
from facechain.gan.presets import CELEBA_IMAGES, PPSA_PAPER, PPSA_PLUS
from facechain.gan.privacy.accounting import Mechanism, least_noise, sample_rate, spending
from facechain.gan.privacy.clipping import clipped_sum
from facechain.gan.privacy.recipe import private_recipe
from facechain.gan.privacy.secret import Secret
from facechain.gan.privacy.training import CHUNK, PrivateTrainer
from facechain.gan.training import Trainer
from support.faces import made_faces

CHECKED: Final = 8_192
EMBEDDED_IMAGES: Final = 18_206
EMBEDDED_PEOPLE: Final = 4_494
"""What the embedded generator was trained on."""
EMBEDDER_SECONDS: Final = 0.085
"""Per image, of a 128-dimensional face embedder (dlib) on a CPU."""
CLIP: Final = 0.5
MEBIBYTE: Final = 2**20
PAGE: Final = os.sysconf("SC_PAGE_SIZE")

Way = Callable[[nn.Module, Tensor], object]


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


def without_clipping(network: nn.Module, images: Tensor) -> object:
    """Gradient of the whole batch at once."""
    return torch.autograd.grad(functional.softplus(-network(images)).sum(), list(network.parameters()))


def book_keeping(network: nn.Module, images: Tensor) -> object:
    """What private training does."""
    return clipped_sum(network, images, lambda scores: functional.softplus(-scores).sum(), clip=CLIP)


def opacus_hooks(network: nn.Module, images: Tensor) -> object:
    """Opacus' gradients of single images, clipped and added."""
    optimizer = DPOptimizer(
        torch.optim.SGD(network.parameters(), lr=0.0),
        noise_multiplier=0.0,
        max_grad_norm=CLIP,
        expected_batch_size=1,
        loss_reduction="sum",
    )
    hooks = GradSampleHooks(network, loss_reduction="sum")
    torch.autograd.backward(functional.softplus(-network(images.requires_grad_())).sum())
    optimizer.clip_and_accumulate()
    hooks.remove_hooks()
    for weight in network.parameters():
        weight.grad_sample = None  # type: ignore[attr-defined]
    return optimizer


def opacus_ghost(network: nn.Module, images: Tensor) -> object:
    """Opacus' "ghost" mode: norms in one backward pass, the clipped sum in another."""
    module = GradSampleModuleFastGradientClipping(
        network, max_grad_norm=CLIP, use_ghost_clipping=True, loss_reduction="sum"
    )
    weights = list(network.parameters())
    losses = functional.softplus(-module(images.requires_grad_()))
    torch.autograd.backward(losses.sum(), retain_graph=True)
    factors = module.get_clipping_coef()
    module.disable_hooks()
    found = torch.autograd.grad((factors * losses).sum(), weights)
    module.to_standard_module()
    return found


WAYS: Final[dict[str, Way]] = {
    "book-keeping": book_keeping,
    "Opacus' hooks": opacus_hooks,
    "Opacus' ghost clipping": opacus_ghost,
    "no clipping": without_clipping,
}


def peak(work: Callable[[], object]) -> float:
    """Mebibytes by which `work` makes a copy of this process grow at its largest."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        before = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
        work()
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        os.write(writer, str((most - before) / MEBIBYTE).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as file:
        return float(file.read())


def clipping(preset: TrainingConfig, rounds: int) -> None:
    """Print what the clipped sum of one piece of a batch costs, next to Opacus' ways to it."""
    torch.manual_seed(0)
    images = torch.rand(CHUNK, 3, preset.discriminator.resolution, preset.discriminator.resolution) * 2 - 1
    networks = {name: make_discriminator(preset.discriminator) for name in WAYS}
    for name, way in WAYS.items():
        way(networks[name], images[:1].clone())
    grown = {name: peak(partial(way, networks[name], images.clone())) for name, way in WAYS.items()}
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, way in WAYS.items():
            times[name].append(seconds(partial(way, networks[name], images.clone())))
    ours = times["book-keeping"]
    for name, taken in times.items():
        ratio = median(other / own for other, own in zip(taken, ours, strict=True))
        print(
            f"clipping, {preset.preset}, {CHUNK} images, {name}: {median(taken) / CHUNK * 1000:.2f} ms an image, "
            f"{ratio:.2f} of book-keeping's, {grown[name]:.0f} MiB"
        )


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
    for preset in (PPSA_PAPER, PPSA_PLUS):
        clipping(preset, rounds)
    training(made_faces(people=256, per_person=2, side=32), rounds)
    filter_and_duplicates(references, rounds)
    noise(10.0)


if __name__ == "__main__":
    main()
