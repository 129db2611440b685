"""Frozen configuration of an expression classifier and of its training, and the JSON form of both.

Owns the fields, their ranges and the recipes. Every field decides the weights.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Final

from ..config import MAX_BATCH, read_fields
from ..errors import ConfigError

MIN_CROP: Final = 16
MAX_RESOLUTION: Final = 128
MAX_WIDTH: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierConfig:
    """Shape of the classifier.

    A grey image of side `resolution` enters as its central `crop`; a strided stem and one residual block for
    each width lead to `features` channels, where the paper's head begins.
    """

    resolution: int
    """Side of the prepared grey images, pixels."""
    crop: int
    """Side of what the network sees, pixels."""
    stem: int
    widths: tuple[int, ...]
    """Channels of the residual blocks; every block but the first halves the side."""
    features: int
    """Channels that the head starts from (the paper: 512)."""
    module: int
    """Channels of the head's convolution module."""
    hidden: int
    """Width of the first of the two fully connected layers."""
    dropout: float

    def __post_init__(self) -> None:
        if not MIN_CROP <= self.crop <= self.resolution <= MAX_RESOLUTION:
            raise ConfigError(
                "sides of the classifier",
                expected=f"{MIN_CROP} <= crop <= resolution <= {MAX_RESOLUTION}",
                got=f"crop {self.crop}, resolution {self.resolution}",
            )
        channels = (self.stem, *self.widths, self.features, self.module, self.hidden)
        if not self.widths or not all(1 <= width <= MAX_WIDTH for width in channels):
            raise ConfigError("widths of the classifier", expected=f"1..{MAX_WIDTH}", got=str(channels))
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError("dropout", expected="0 <= dropout < 1", got=str(self.dropout))
        if self.last_side < 2:
            raise ConfigError(
                "too many halvings", expected="a side of at least 2 before the pooling", got=str(self.widths)
            )

    @property
    def last_side(self) -> int:
        """Side of the feature map that the head pools."""
        side = (self.crop + 1) // 2
        for _ in self.widths[1:]:
            side = (side + 1) // 2
        return side


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpressionConfig:
    """Everything that decides the weights, and nothing else."""

    preset: str
    classifier: ClassifierConfig
    batch: int
    total_images: int
    """Images shown until the run is over (with repetition)."""
    warmup_images: int
    """Images over which the learning rate rises to its value."""
    decay_share: float
    """Last share of the run, over which the learning rate falls to 0 linearly."""
    learning_rate: float
    momentum: float
    weight_decay: float
    label_smoothing: float
    rotation_degrees: float
    """Greatest turn of the augmentation, either way."""
    zoom: float
    """Greatest relative change of scale."""
    shift_pixels: float
    """Greatest move along each axis."""
    erase_share: float
    """Share of images that lose a rectangle."""
    erase_pixels: int
    """Greatest side of that rectangle."""
    small_crop: int
    """Side of what the network sees until the learning rate falls (cheaper); the crop from then on."""
    ema_half_life_images: int
    """Half-life of the averaged weights; 0 switches the average off."""
    bf16: bool
    seed: int

    def __post_init__(self) -> None:
        if not 2 <= self.batch <= MAX_BATCH:
            raise ConfigError("batch size", expected=f"2..{MAX_BATCH}", got=str(self.batch))
        if self.total_images < self.batch:
            raise ConfigError(
                "too few images to train on",
                expected=f"at least one batch of {self.batch}",
                got=str(self.total_images),
            )
        if not MIN_CROP <= self.small_crop <= self.classifier.crop:
            raise ConfigError(
                "side of the first views",
                expected=f"{MIN_CROP}..{self.classifier.crop}",
                got=str(self.small_crop),
            )
        if not 0.0 < self.decay_share <= 1.0:
            raise ConfigError("decay share", expected="above 0, up to 1", got=str(self.decay_share))

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.total_images // self.batch

    @property
    def decay_start_images(self) -> int:
        """Images after which the learning rate falls; until here neither this share nor the run's length changes anything."""
        return round(self.total_images * (1.0 - self.decay_share))

    def side_at(self, images_seen: int) -> int:
        """Side of the training views after so many images."""
        return self.small_crop if images_seen < self.decay_start_images else self.classifier.crop

    def rate_at(self, images_seen: int) -> float:
        """Learning rate after so many images: rise, constant, fall to 0."""
        rise = min(1.0, (images_seen + self.batch) / max(1, self.warmup_images))
        left = (self.total_images - images_seen) / max(1, self.total_images - self.decay_start_images)
        return self.learning_rate * min(rise, max(0.0, min(1.0, left)))


FER_COMPACT: Final = ExpressionConfig(
    preset="fer-compact",
    classifier=ClassifierConfig(
        resolution=48,
        crop=44,
        stem=32,
        widths=(48, 96, 192),
        features=512,
        module=128,
        hidden=128,
        dropout=0.2,
    ),
    batch=128,
    total_images=700_000,
    warmup_images=30_000,
    decay_share=0.4,
    learning_rate=0.1,
    momentum=0.9,
    weight_decay=5e-4,
    label_smoothing=0.1,
    rotation_degrees=12.0,
    zoom=0.12,
    shift_pixels=3.0,
    erase_share=0.25,
    erase_pixels=16,
    small_crop=32,
    ema_half_life_images=15_000,
    bf16=True,
    seed=0,
)
"""Made for minutes of one CPU core; docs/expression.md has the figures."""

FER_WIDE: Final = dataclasses.replace(
    FER_COMPACT,
    preset="fer-wide",
    classifier=dataclasses.replace(FER_COMPACT.classifier, widths=(64, 128, 256), dropout=0.3),
    total_images=2_250_000,
)
"""For two hours of one CPU core; the embedded classifier."""

TINY: Final = dataclasses.replace(
    FER_COMPACT,
    preset="tiny",
    classifier=ClassifierConfig(
        resolution=24,
        crop=22,
        stem=8,
        widths=(8, 16),
        features=32,
        module=16,
        hidden=16,
        dropout=0.1,
    ),
    batch=32,
    total_images=1_920,
    warmup_images=128,
    shift_pixels=1.0,
    erase_pixels=6,
    small_crop=16,
    ema_half_life_images=64,
    bf16=False,
)
"""For tests: seconds."""

PRESETS: Final = {config.preset: config for config in (FER_WIDE, FER_COMPACT, TINY)}


def find_preset(name: str) -> ExpressionConfig:
    """The recipe of that name, or `ConfigError` with the names there are."""
    if name not in PRESETS:
        raise ConfigError("unknown preset", expected=", ".join(PRESETS), got=name)
    return PRESETS[name]


def to_json(config: ExpressionConfig) -> str:
    """Sorted one-line JSON of a configuration."""
    return json.dumps(dataclasses.asdict(config), sort_keys=True)


def from_json(text: str) -> ExpressionConfig:
    """Read what `to_json` wrote; unknown or missing fields raise `ConfigError`."""
    try:
        loaded: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError("configuration is not JSON", got=str(error)) from error
    return ExpressionConfig(**read_fields(ExpressionConfig, loaded))
