"""What a preset must become before it can be trained privately, and what it then is told to spend.

Imports nothing of Opacus: a dry run needs the recipe only.
"""

from __future__ import annotations

from dataclasses import replace

from ..config import Family, LossConfig, LossKind, TrainingConfig
from ..errors import ConfigError


def private_recipe(config: TrainingConfig) -> TrainingConfig:
    """`config` with what private training cannot have switched off; `changes` says what that is.

    Raises:
        ConfigError: the discriminator's layers have no gradients per image.
    """
    if config.discriminator.family is not Family.DCGAN:
        raise ConfigError(
            "this discriminator cannot be trained privately",
            expected="the dcgan family (ppsa-paper, ppsa-plus)",
            got=str(config.discriminator.family),
        )
    loss = config.loss
    if loss.kind is not LossKind.BCE:
        loss = LossConfig(kind=LossKind.BCE, real_label_low=1.0, fake_label_high=0.0)
    loss = replace(loss, penalty_start=0.0, penalty_end=0.0)
    return replace(config, loss=loss, bf16=False)


def changes(before: TrainingConfig) -> tuple[str, ...]:
    """What `private_recipe` changes in a configuration, for people."""
    found = []
    if before.loss.kind is not LossKind.BCE:
        found.append(
            "loss: relativistic pairing shows the generator scores of real images; "
            "non-saturating cross-entropy without smoothed labels instead"
        )
    if before.loss.penalised:
        found.append("R1 and R2 are off: they differentiate twice, which gradients per record do not allow")
    if before.bf16:
        found.append(
            "float32 instead of bfloat16: clipping bounds what is computed, so it is computed exactly"
        )
    return tuple(found)


def check_recipe(config: TrainingConfig) -> None:
    """Refuse a configuration that `private_recipe` would change."""
    if private_recipe(config) != config:
        raise ConfigError(
            "not a configuration for private training",
            expected="one that private_recipe leaves as it is",
            got="; ".join(changes(config)) or config.preset,
        )
