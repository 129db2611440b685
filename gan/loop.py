"""The loop around the training step: when to report, when to save, when to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .training import Trainer

TICK_STEPS = 50
MIN_SECONDS = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Means since the last tick."""

    step: int
    images_seen: int
    seconds: float
    """Wall time spent training since the last tick."""
    images_per_second: float
    values: Mapping[str, float]


def train(
    trainer: Trainer,
    *,
    on_tick: Callable[[Tick], None],
    on_checkpoint: Callable[[], None],
    checkpoint_images: int,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Run to the end of the schedule, or until `stop`; a checkpoint is written in both cases."""
    every = max(1, checkpoint_images // trainer.config.batch)
    meter = _Meter(trainer, on_tick)
    saved_step = -1
    where = trainer.device.torch_device
    while trainer.step < trainer.last_step and not trainer.group.agree(stop(), where):
        trainer.run_step()
        if trainer.step % every == 0:
            meter.tick()
            on_checkpoint()
            saved_step = trainer.step
            meter.restart()
        elif trainer.step % TICK_STEPS == 0:
            meter.tick()
    if saved_step != trainer.step:
        meter.tick()
        on_checkpoint()


class _Meter:
    """Measures the steps since the last tick; time spent on checkpoints is left out."""

    def __init__(self, trainer: Trainer, on_tick: Callable[[Tick], None]) -> None:
        self._trainer = trainer
        self._on_tick = on_tick
        self.restart()

    def restart(self) -> None:
        """Start measuring here."""
        self._step, self._time = self._trainer.step, time.monotonic()

    def tick(self) -> None:
        """Report and restart; raises `TrainingDivergedError`, says nothing after no steps."""
        trainer = self._trainer
        steps = trainer.step - self._step
        if steps == 0:
            return
        values = trainer.take_moments()
        trainer.device.synchronize()
        seconds = time.monotonic() - self._time
        self._on_tick(
            Tick(
                step=trainer.step,
                images_seen=trainer.images_seen,
                seconds=seconds,
                images_per_second=steps * trainer.config.batch / max(seconds, MIN_SECONDS),
                values=values,
            )
        )
        self.restart()
