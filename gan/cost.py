"""What a configuration will cost, before a single step."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from .config import LossKind, TrainingConfig
from .losses import gradient_penalty
from .networks import make_discriminator, make_generator, parameter_count

BYTES_PER_WEIGHT = 16
"""float32 weight, gradient and both Adam moments."""


def training_cost(config: TrainingConfig) -> dict[str, object]:
    """Weights, steps, and the multiplications of one image's training step (measured, not estimated).

    `gflop_per_image` counts both updates; penalties that are taken every k-th step count a k-th. `weights_bytes` leaves
    activations out, which grow with the batch.
    """
    generator, discriminator = make_generator(config.generator), make_discriminator(config.discriminator)
    weights = (parameter_count(generator), parameter_count(discriminator))
    latents = torch.randn(2, config.generator.latent_dimension)
    with _Counter() as update:
        fake = generator(latents)
        discriminator(torch.cat([fake, fake]).detach()).sum().backward()
        discriminator.requires_grad_(requires_grad=False)
        if config.loss.kind is LossKind.RPGAN:
            with torch.no_grad():
                discriminator(fake.detach())
        discriminator(fake).sum().backward()
        discriminator.requires_grad_(requires_grad=True)
    flops = float(update.total)
    if config.loss.penalised:
        with _Counter() as penalty:
            gradient_penalty(discriminator, torch.cat([fake, fake])).backward()  # type: ignore[no-untyped-call]
        flops += penalty.total / config.loss.penalty_interval
    return {
        "generator_parameters": weights[0],
        "discriminator_parameters": weights[1],
        "steps": config.steps,
        "gflop_per_image": round(flops / len(latents) / 1e9, 4),
        "exaflop_in_all": round(flops / len(latents) * config.total_images / 1e18, 4),
        "weights_bytes": BYTES_PER_WEIGHT * sum(weights),
    }


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums torch's own formulas over what runs inside.

    `FlopCounterMode` also books them by module, and for that refuses a gradient inside of a gradient.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)  # noqa: SLF001 - torch names no other way
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result
