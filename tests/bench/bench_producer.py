"""Training against a loop written by hand for one network, and generation by one worker and by all.

Both sides of a ratio take turns in one run, so that other work on the machine falls on both.

Run: PYTHONPATH=tests python tests/bench/bench_producer.py [ROUNDS]
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Final

import torch
from torch.nn import functional

from facechain.gan.checkpoints import load_generator, save_generator
from facechain.gan.device import open_device
from facechain.gan.generation import Renderer
from facechain.gan.networks import make_discriminator, make_generator
from facechain.gan.presets import PPSA_PAPER
from facechain.gan.training import HALF_RANGE, Trainer
from support.faces import made_faces

STEPS: Final = 3
IMAGES: Final = 512
BATCH: Final = PPSA_PAPER.batch


def minimal_loop(images: torch.Tensor, device: torch.device) -> Callable[[], None]:
    """Return a step of the paper's network with nothing around it: no resume, no average, no statistics."""
    generator = make_generator(PPSA_PAPER.generator).to(device).to(memory_format=torch.channels_last)
    discriminator = make_discriminator(PPSA_PAPER.discriminator).to(device)
    discriminator = discriminator.to(memory_format=torch.channels_last)
    g_adam = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    d_adam = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    loss = functional.binary_cross_entropy_with_logits

    def step() -> None:
        real = images[torch.randint(len(images), (BATCH,), device=device)].float() / HALF_RANGE - 1
        fake = generator(torch.randn(BATCH, 100, device=device))
        on_real, on_fake = discriminator(torch.cat([real, fake.detach()])).chunk(2)
        labels = torch.rand(2, BATCH, device=device) * 0.1
        d_adam.zero_grad()
        (loss(on_real, 1 - labels[0]) + loss(on_fake, labels[1])).backward()  # type: ignore[no-untyped-call]
        d_adam.step()
        discriminator.requires_grad_(requires_grad=False)
        scores = discriminator(fake)
        g_adam.zero_grad()
        loss(scores, torch.ones_like(scores)).backward()  # type: ignore[no-untyped-call]
        g_adam.step()
        discriminator.requires_grad_(requires_grad=True)

    return step


def rate(work: Callable[[], object], images: int) -> float:
    """Images a second of `work`."""
    started = time.perf_counter()
    work()
    return images / (time.perf_counter() - started)


def main() -> None:
    """Print one line per figure."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    cuda = torch.cuda.is_available()
    device = open_device("auto", bf16=False)
    faces = made_faces(people=128, per_person=4, side=32)
    trainer = Trainer(PPSA_PAPER, faces.images, device)
    pixels = torch.from_numpy(faces.images.transpose(0, 3, 1, 2).copy()).to(device.torch_device)
    minimal = minimal_loop(pixels, device.torch_device)

    def steps(step: Callable[[], None]) -> Callable[[], None]:
        def work() -> None:
            for _ in range(STEPS * (50 if cuda else 1)):
                step()
            device.synchronize()

        return work

    images = STEPS * (50 if cuda else 1) * BATCH
    ours, theirs = steps(trainer.run_step), steps(minimal)
    ours(), theirs()
    pairs = [(rate(ours, images), rate(theirs, images)) for _ in range(rounds)]
    ratio = median(a / b for a, b in pairs)
    print(f"training ppsa-paper: {median(a for a, _ in pairs):.0f} images/s, {ratio:.2f} of a minimal loop")
    path = Path("generator.safetensors")
    save_generator(path, trainer.average.module, PPSA_PAPER, images_seen=0)
    try:
        one, every = (
            Renderer(load_generator(path), seed=bytes(32), device=device, workers=workers)
            for workers in (1, None)
        )
    finally:
        path.unlink()
    found = [
        tuple(rate(lambda r=renderer: list(r.render(range(IMAGES))), IMAGES) for renderer in (one, every))  # type: ignore[misc]
        for _ in range(rounds)
    ]
    speedup = median(b / a for a, b in found)
    print(
        f"generation ppsa-paper: {median(b for _, b in found):.0f} images/s on {os.cpu_count()} processors, "
        f"{speedup:.2f} times one worker ({median(a for a, _ in found):.0f})"
    )


if __name__ == "__main__":
    main()
