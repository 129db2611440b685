"""What changes in the course of a run, as a function of the images seen."""

from __future__ import annotations

from dataclasses import dataclass

from .config import TrainingConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Values of one step."""

    learning_rate: float
    betas: tuple[float, float]
    penalty_weight: float
    """γ of R1 + R2."""


def settings_at(config: TrainingConfig, images_seen: int) -> Settings:
    """Straight lines from the starting values to the end values, then constant."""
    length = config.schedule_images or config.total_images
    share = min(1.0, images_seen / length)
    optimizer, loss = config.optimizer, config.loss
    beta2_end = optimizer.beta2_end or optimizer.beta2
    return Settings(
        learning_rate=_between(optimizer.learning_rate, optimizer.learning_rate_end, share),
        betas=(optimizer.beta1, _between(optimizer.beta2, beta2_end, share)),
        penalty_weight=_between(loss.penalty_start, loss.penalty_end, share),
    )


def _between(start: float, end: float, share: float) -> float:
    return start + (end - start) * share
