"""How fast a generator draws, per size of the call."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

import torch

from ..checkpoints import LoadedGenerator
from ..device import Device
from ..generation import Renderer

SIZES = (1, 8, 64, 256)
CALLS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """One micro-batch at a time, on one thread of a CPU or on a GPU."""

    batch: int
    latency_ms: float
    """Median of `CALLS` calls after a first one."""
    images_per_second: float


def measure_speed(loaded: LoadedGenerator, device: Device) -> list[Speed]:
    """Latency and throughput at each of `SIZES`."""
    found = []
    for size in SIZES:
        renderer = Renderer(loaded, seed=bytes(32), device=device, micro_batch=size)
        renderer.render_micro_batch(0)
        seconds = []
        for number in range(1, CALLS + 1):
            started = time.perf_counter()
            renderer.render_micro_batch(number)
            if device.torch_device.type == "cuda":
                torch.cuda.synchronize(device.torch_device)
            seconds.append(time.perf_counter() - started)
        middle = median(seconds)
        found.append(
            Speed(batch=size, latency_ms=round(middle * 1000, 3), images_per_second=round(size / middle, 1))
        )
    return found
