"""Typed, frozen configuration of a training run, and its JSON form.

Owns the fields and their ranges; the named sets of values live in `presets`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, get_type_hints

from .errors import ConfigError

MAX_RESOLUTION = 256
MIN_RESOLUTION = 8
MAX_BATCH = 4096
BASE_RESOLUTION = 4


class Norm(StrEnum):
    """Normalisation layer of the generator."""

    BATCH = "batch"
    GROUP = "group"


class Init(StrEnum):
    """Weight initialisation."""

    DCGAN = "dcgan"
    HE = "he"


class LossKind(StrEnum):
    """Training objective."""

    BCE = "bce"
    RPGAN = "rpgan"


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorConfig:
    """Shape of the generator: FC to 4x4, then one transposed convolution per doubling."""

    resolution: int
    """Side of the square output, pixels; 4 times a power of two."""
    latent_dimension: int
    widths: tuple[int, ...]
    """Channels at 4x4, 8x8, …; one entry per doubling, the last doubling goes to RGB."""
    attention: tuple[int, ...]
    """Resolutions that are followed by a self-attention layer."""
    norm: Norm
    init: Init

    def __post_init__(self) -> None:
        _check_resolution(self.resolution, len(self.widths))
        for side in self.attention:
            if side >= self.resolution or side < BASE_RESOLUTION:
                raise ConfigError(
                    "attention outside the generator",
                    expected=f"resolutions from {BASE_RESOLUTION} below {self.resolution}",
                    got=str(side),
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscriminatorConfig:
    """Shape of the discriminator: one strided convolution per halving, then FC to one score."""

    resolution: int
    widths: tuple[int, ...]
    leak: float
    init: Init

    def __post_init__(self) -> None:
        _check_resolution(self.resolution, len(self.widths))


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """Objective and penalties."""

    kind: LossKind
    real_label_low: float = 0.9
    """Smoothed labels of the paper: real ~ U(real_label_low, 1)."""
    fake_label_high: float = 0.1
    """Smoothed labels of the paper: fake ~ U(0, fake_label_high)."""
    penalty_start: float = 0.0
    """Weight of R1 + R2 at the first image; 0 together with penalty_end switches them off."""
    penalty_end: float = 0.0
    penalty_interval: int = 1
    """The penalties are taken every so many steps, and weighted by as much (lazy)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """Adam for both networks."""

    learning_rate: float
    learning_rate_end: float
    beta1: float
    beta2: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Everything that decides the weights, and nothing else."""

    preset: str
    generator: GeneratorConfig
    discriminator: DiscriminatorConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    batch: int
    total_images: int
    """Images shown to the discriminator when the run is over (also the schedule's length)."""
    flip: bool
    ema_half_life_images: int
    """Half-life of the averaged generator; 0 switches the average off."""
    ema_ramp: float
    """Early half-life is at most this share of the images seen."""
    bf16: bool
    seed: int

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= MAX_BATCH:
            raise ConfigError("batch size", expected=f"1..{MAX_BATCH}", got=str(self.batch))
        if self.total_images < self.batch:
            raise ConfigError(
                "too few images to train on",
                expected=f"at least one batch of {self.batch}",
                got=str(self.total_images),
            )
        if self.generator.resolution != self.discriminator.resolution:
            raise ConfigError(
                "generator and discriminator differ in resolution",
                expected=str(self.generator.resolution),
                got=str(self.discriminator.resolution),
            )

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.total_images // self.batch


def _check_resolution(resolution: int, doublings: int) -> None:
    if not MIN_RESOLUTION <= resolution <= MAX_RESOLUTION:
        raise ConfigError("resolution", expected=f"{MIN_RESOLUTION}..{MAX_RESOLUTION}", got=str(resolution))
    if BASE_RESOLUTION << doublings != resolution:
        raise ConfigError(
            "one width per doubling",
            expected=f"widths that take {BASE_RESOLUTION} to {resolution}",
            got=f"{doublings} widths",
        )


def to_json(config: TrainingConfig) -> str:
    """Sorted one-line JSON of a configuration."""
    return json.dumps(dataclasses.asdict(config), sort_keys=True)


def from_json(text: str) -> TrainingConfig:
    """Read what `to_json` wrote; unknown or missing fields raise `ConfigError`."""
    try:
        loaded: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError("configuration is not JSON", got=str(error)) from error
    return TrainingConfig(**_fields(TrainingConfig, loaded))


def _fields(kind: type, loaded: object) -> dict[str, Any]:
    if not isinstance(loaded, Mapping):
        raise ConfigError(f"{kind.__name__} must be an object", got=type(loaded).__name__)
    hints = get_type_hints(kind)
    unknown = sorted(set(loaded) - set(hints))
    missing = sorted(set(hints) - set(loaded))
    if unknown or missing:
        raise ConfigError(
            f"fields of {kind.__name__}",
            expected=", ".join(sorted(hints)),
            got=f"unknown {unknown}, missing {missing}",
        )
    return {name: _value(name, hints[name], loaded[name]) for name in hints}


def _value(name: str, hint: object, value: object) -> object:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return hint(**_fields(hint, value))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        try:
            return hint(str(value))
        except ValueError as error:
            raise ConfigError(name, expected=", ".join(hint), got=repr(value)) from error
    if hint in (bool, int, str):
        if type(value) is not hint:
            raise ConfigError(name, expected=str(hint), got=repr(value))
        return value
    if hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(name, expected="a number", got=repr(value))
        return float(value)
    if not isinstance(value, list) or not all(type(item) is int for item in value):
        raise ConfigError(name, expected="a list of integers", got=repr(value))
    return tuple(value)
