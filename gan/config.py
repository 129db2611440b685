"""Typed, frozen configuration of a training run, and its JSON form.

Owns the fields and their ranges; the named sets of values live in `presets`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, get_type_hints

from .errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MAX_RESOLUTION = 256
MIN_RESOLUTION = 8
MAX_BATCH = 4096
BASE_RESOLUTION = 4
MAX_DEPTH = 16
LEARNING_RATE_MAX = 1.0
MAX_NOISE = 1_000.0
MAX_FAKE_STEPS = 64
PRIVACY_RANGES = (("epsilon", 0.0, 100.0), ("delta", 0.0, 1e-3), ("clip", 0.0, 1_000.0))
"""Fields of `PrivacyConfig` with what they must exceed and may reach."""


class Family(StrEnum):
    """Kind of network."""

    DCGAN = "dcgan"
    RESIDUAL = "residual"


class Norm(StrEnum):
    """Normalisation layer of a DCGAN generator; residual ones have none."""

    BATCH = "batch"
    GROUP = "group"
    NONE = "none"


class Init(StrEnum):
    """Weight initialisation."""

    DCGAN = "dcgan"
    HE = "he"


class LossKind(StrEnum):
    """Training objective."""

    BCE = "bce"
    RPGAN = "rpgan"


class PrivacyUnit(StrEnum):
    """What one record is to a differentially private training; none: the training is not private."""

    NONE = "none"
    IMAGE = "image"
    IDENTITY = "identity"


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorConfig:
    """Shape of the generator: FC to 4x4, then up to the resolution by doublings."""

    resolution: int
    """Side of the square output, pixels; 4 times a power of two."""
    latent_dimension: int
    widths: tuple[int, ...]
    """Channels at 4x4, 8x8, …: up to half the resolution (DCGAN, whose last doubling goes to RGB) or up to all of it."""
    attention: tuple[int, ...]
    """Resolutions that are followed by a self-attention layer."""
    norm: Norm
    init: Init
    family: Family = Family.DCGAN
    depth: int = 1
    """Residual blocks at each resolution; nothing to a DCGAN."""

    def __post_init__(self) -> None:
        _check_resolution(self.resolution, _doublings(self.family, self.widths))
        _check_layers(self.resolution, self.attention, self.depth)
        if (self.family is Family.RESIDUAL) != (self.norm is Norm.NONE):
            raise ConfigError(
                "normalisation of the generator",
                expected="none for the residual family, batch or group for dcgan",
                got=f"{self.norm} for {self.family}",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscriminatorConfig:
    """Shape of the discriminator: by halvings down to 4x4, then FC to one score."""

    resolution: int
    widths: tuple[int, ...]
    """Channels from half the resolution (DCGAN) or all of it (residual) down to 4x4."""
    leak: float
    init: Init
    family: Family = Family.DCGAN
    depth: int = 1
    """Residual blocks at each resolution; nothing to a DCGAN."""
    attention: tuple[int, ...] = ()
    """Resolutions that are followed by a self-attention layer; residual family only."""

    def __post_init__(self) -> None:
        _check_resolution(self.resolution, _doublings(self.family, self.widths))
        _check_layers(self.resolution, self.attention, self.depth)
        if self.attention and self.family is Family.DCGAN:
            raise ConfigError(
                "attention in the discriminator", expected="the residual family", got=str(self.family)
            )


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

    @property
    def penalised(self) -> bool:
        """Whether R1 + R2 are taken at all."""
        return self.penalty_start > 0 or self.penalty_end > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """Adam for both networks."""

    learning_rate: float
    learning_rate_end: float
    beta1: float
    beta2: float
    beta2_end: float = 0.0
    """The second moment's decay moves from beta2 to this by the end of the schedule; 0: it stays."""

    def __post_init__(self) -> None:
        for name in ("beta1", "beta2", "beta2_end"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"optimizer.{name}", expected="0 <= x < 1", got=str(getattr(self, name)))
        for name in ("learning_rate", "learning_rate_end"):
            if not 0 < getattr(self, name) <= LEARNING_RATE_MAX:
                raise ConfigError(
                    f"optimizer.{name}",
                    expected=f"0 < x <= {LEARNING_RATE_MAX}",
                    got=str(getattr(self, name)),
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyConfig:
    """Differentially private training of the discriminator (docs/privacy.md); off by default."""

    unit: PrivacyUnit = PrivacyUnit.NONE
    epsilon: float = 0.0
    """Budget: training stops before it is exceeded."""
    delta: float = 1e-5
    clip: float = 1.0
    """Largest Euclidean norm of one record's gradient."""
    noise_multiplier: float = 0.0
    """Standard deviation of the noise in units of `clip`; 0: the least with which the whole run is within the budget."""
    fake_steps: int = 0
    """Further steps of the discriminator on fresh generated images alone, per step; they see no data."""

    def __post_init__(self) -> None:
        if not self.active:
            if self.epsilon:
                raise ConfigError("privacy.unit", expected="image or identity for a budget", got="none")
            return
        for name, least, most in PRIVACY_RANGES:
            value = getattr(self, name)
            if not least < value <= most:
                raise ConfigError(f"privacy.{name}", expected=f"{least:g} < x <= {most:g}", got=str(value))
        if not 0 <= self.noise_multiplier <= MAX_NOISE or not 0 <= self.fake_steps <= MAX_FAKE_STEPS:
            raise ConfigError(
                "privacy.noise_multiplier and privacy.fake_steps",
                expected=f"0..{MAX_NOISE:g} and 0..{MAX_FAKE_STEPS}",
                got=f"{self.noise_multiplier} and {self.fake_steps}",
            )

    @property
    def active(self) -> bool:
        """Whether training is differentially private."""
        return self.unit is not PrivacyUnit.NONE


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
    """Images shown to the discriminator when the run is over."""
    flip: bool
    ema_half_life_images: int
    """Half-life of the averaged generator; 0 switches the average off."""
    ema_ramp: float
    """Early half-life is at most this share of the images seen."""
    bf16: bool
    seed: int
    schedule_images: int = 0
    """Learning rate, penalty and β₂ reach their ends after so many images; 0: at the end of the run."""
    privacy: PrivacyConfig = PrivacyConfig()

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


def _doublings(family: Family, widths: tuple[int, ...]) -> int:
    return len(widths) - 1 if family is Family.RESIDUAL else len(widths)


def _check_layers(resolution: int, attention: tuple[int, ...], depth: int) -> None:
    for side in attention:
        if side >= resolution or side < BASE_RESOLUTION:
            raise ConfigError(
                "attention outside the network",
                expected=f"resolutions from {BASE_RESOLUTION} below {resolution}",
                got=str(side),
            )
    if not 1 <= depth <= MAX_DEPTH:
        raise ConfigError("residual blocks", expected=f"1..{MAX_DEPTH}", got=str(depth))


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
    """Read what `to_json` wrote, now or before fields with defaults came.

    Unknown fields and missing ones without a default raise `ConfigError`.
    """
    try:
        loaded: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError("configuration is not JSON", got=str(error)) from error
    return TrainingConfig(**read_fields(TrainingConfig, loaded))


def override(config: TrainingConfig, assignments: Sequence[str]) -> TrainingConfig:
    """Return `config` with fields replaced by `part.field=value`; values are JSON, or plain words.

    All are applied before the whole is checked, so that fields which depend on each other can change together.

    Raises:
        ConfigError: no assignment, no such field, or a value that does not fit.
    """
    fields: dict[str, Any] = json.loads(to_json(config))
    for assignment in assignments:
        path, separator, text = assignment.partition("=")
        if not separator:
            raise ConfigError("not an assignment", expected="FIELD=VALUE", got=assignment)
        *parts, last = path.strip().split(".")
        target: Any = fields
        for part in parts:
            target = target.get(part) if isinstance(target, dict) else None
        if not isinstance(target, dict) or last not in target or isinstance(target[last], dict):
            raise ConfigError("no such field", expected=", ".join(_flat(fields)), got=path)
        target[last] = _read_value(text)
    return from_json(json.dumps(fields))


def differences(before: DataclassInstance, now: DataclassInstance) -> str:
    """The fields in which two configurations differ, as `field: was X, now Y`, joined by semicolons."""
    was, now_is = (_flat(dataclasses.asdict(config)) for config in (before, now))
    return "; ".join(
        f"{name}: was {was[name]}, now {value}" for name, value in now_is.items() if was[name] != value
    )


def _flat(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in sorted(fields.items()):
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def _read_value(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def read_fields(kind: type, loaded: object) -> dict[str, Any]:
    """Arguments of the frozen dataclass `kind` from decoded JSON.

    Raises:
        ConfigError: a field is unknown, missing, or of another type.
    """
    if not isinstance(loaded, Mapping):
        raise ConfigError(f"{kind.__name__} must be an object", got=type(loaded).__name__)
    hints = get_type_hints(kind)
    optional = {item.name for item in dataclasses.fields(kind) if item.default is not dataclasses.MISSING}
    unknown = sorted(set(loaded) - set(hints))
    missing = sorted(set(hints) - set(loaded) - optional)
    if unknown or missing:
        raise ConfigError(
            f"fields of {kind.__name__}",
            expected=", ".join(sorted(hints)),
            got=f"unknown {unknown}, missing {missing}",
        )
    return {name: _value(name, hints[name], loaded[name]) for name in hints if name in loaded}


def _value(name: str, hint: object, value: object) -> object:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return hint(**read_fields(hint, value))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        try:
            return hint(str(value))
        except ValueError as error:
            raise ConfigError(name, expected=", ".join(hint), got=repr(value)) from error
    if hint in (bool, int, str):
        if type(value) is not hint:
            raise ConfigError(name, expected=hint.__name__, got=repr(value))
        return value
    if hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(name, expected="a number", got=repr(value))
        return float(value)
    if not isinstance(value, list) or not all(type(item) is int for item in value):
        raise ConfigError(name, expected="a list of integers", got=repr(value))
    return tuple(value)
