"""The named presets and, for the paper's, the deviations that running it forces."""

from __future__ import annotations

from dataclasses import replace

from .config import (
    DiscriminatorConfig,
    Family,
    GeneratorConfig,
    Init,
    LossConfig,
    LossKind,
    Norm,
    OptimizerConfig,
    TrainingConfig,
)
from .errors import ConfigError

CELEBA_IMAGES = 202_599
PAPER_EPOCHS = 30

PPSA_PAPER = TrainingConfig(
    preset="ppsa-paper",
    generator=GeneratorConfig(
        resolution=32,
        latent_dimension=100,
        widths=(512, 256, 128),
        attention=(8, 16),
        norm=Norm.BATCH,
        init=Init.DCGAN,
    ),
    discriminator=DiscriminatorConfig(resolution=32, widths=(32, 64, 128), leak=0.2, init=Init.DCGAN),
    loss=LossConfig(kind=LossKind.BCE),
    optimizer=OptimizerConfig(learning_rate=2e-4, learning_rate_end=2e-4, beta1=0.5, beta2=0.999),
    batch=128,
    total_images=CELEBA_IMAGES * PAPER_EPOCHS,
    flip=False,
    ema_half_life_images=0,
    ema_ramp=0.0,
    bf16=False,
    seed=0,
)

PPSA_PLUS = TrainingConfig(
    preset="ppsa-plus",
    generator=GeneratorConfig(
        resolution=32,
        latent_dimension=100,
        widths=(512, 256, 128),
        attention=(8, 16),
        norm=Norm.GROUP,
        init=Init.DCGAN,
    ),
    discriminator=DiscriminatorConfig(resolution=32, widths=(96, 192, 384), leak=0.2, init=Init.HE),
    loss=LossConfig(kind=LossKind.RPGAN, penalty_start=0.1, penalty_end=0.01, penalty_interval=4),
    optimizer=OptimizerConfig(learning_rate=2e-4, learning_rate_end=5e-5, beta1=0.0, beta2=0.99),
    batch=64,
    total_images=800_000,
    flip=True,
    ema_half_life_images=30_000,
    ema_ramp=0.05,
    bf16=True,
    seed=0,
)

R3_ATTN_32 = TrainingConfig(
    preset="r3-attn-32",
    generator=GeneratorConfig(
        resolution=32,
        latent_dimension=100,
        widths=(320, 256, 128, 64),
        attention=(16,),
        norm=Norm.NONE,
        init=Init.HE,
        family=Family.RESIDUAL,
        depth=2,
    ),
    discriminator=DiscriminatorConfig(
        resolution=32,
        widths=(64, 128, 256, 320),
        leak=0.2,
        init=Init.HE,
        family=Family.RESIDUAL,
        depth=2,
        attention=(16,),
    ),
    loss=LossConfig(kind=LossKind.RPGAN, penalty_start=2.0, penalty_end=0.2, penalty_interval=1),
    optimizer=OptimizerConfig(
        learning_rate=2e-4, learning_rate_end=5e-5, beta1=0.0, beta2=0.9, beta2_end=0.99
    ),
    batch=256,
    total_images=10_000_000,
    schedule_images=4_000_000,
    flip=True,
    ema_half_life_images=500_000,
    ema_ramp=0.125,
    bf16=True,
    seed=0,
)

R3_ATTN_64 = replace(
    R3_ATTN_32,
    preset="r3-attn-64",
    generator=replace(R3_ATTN_32.generator, resolution=64, widths=(320, 256, 128, 96, 64)),
    discriminator=replace(R3_ATTN_32.discriminator, resolution=64, widths=(64, 96, 128, 256, 320)),
)

TINY = TrainingConfig(
    preset="tiny",
    generator=GeneratorConfig(
        resolution=16,
        latent_dimension=8,
        widths=(16, 8),
        attention=(8,),
        norm=Norm.GROUP,
        init=Init.DCGAN,
    ),
    discriminator=DiscriminatorConfig(resolution=16, widths=(8, 16), leak=0.2, init=Init.HE),
    loss=LossConfig(kind=LossKind.RPGAN, penalty_start=0.5, penalty_end=0.1, penalty_interval=2),
    optimizer=OptimizerConfig(learning_rate=1e-3, learning_rate_end=1e-3, beta1=0.0, beta2=0.99),
    batch=8,
    total_images=64,
    flip=True,
    ema_half_life_images=64,
    ema_ramp=0.5,
    bf16=False,
    seed=0,
)

PRESETS = {config.preset: config for config in (PPSA_PAPER, PPSA_PLUS, R3_ATTN_32, R3_ATTN_64, TINY)}

PAPER_DEVIATIONS = (
    "upsampling: the strides in the text give 28x28; 4x4 kernels, stride 2, padding 1 give 32x32",
    "generator loss: Algorithm 1 has the wrong sign; the non-saturating loss is minimised",
    "smoothed labels: Algorithm 1 ignores them; real ~ U(.9, 1), fake ~ U(0, .1) for D, 1 for G",
    "initialisation: not given; normal(0, .02) as in DCGAN",
    "clustering: Algorithm 2 clusters the real images; the synthetic ones are clustered here",
    "mining: Algorithm 3's string omits the previous hash; the header here contains it",
    "data: the length of an epoch is CelebA's 202,599 images whatever the set at hand",
)


def deviations(preset: str) -> tuple[str, ...]:
    """What a run of `preset` does otherwise than the paper prints (empty for our own presets)."""
    return PAPER_DEVIATIONS if preset == PPSA_PAPER.preset else ()


def find_preset(name: str) -> TrainingConfig:
    """The preset of that name, or `ConfigError`."""
    if name not in PRESETS:
        raise ConfigError("unknown preset", expected=", ".join(sorted(PRESETS)), got=name)
    return PRESETS[name]
