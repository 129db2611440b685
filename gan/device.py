"""One place that chooses where tensors live and in which precision they are multiplied."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from .errors import ConfigError

CHOICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Where a run computes."""

    torch_device: torch.device
    bf16: bool

    @property
    def name(self) -> str:
        """What the run says it computed on."""
        if self.torch_device.type == "cuda":
            return torch.cuda.get_device_name(self.torch_device)
        return f"cpu, {torch.get_num_threads()} threads"

    def autocast(self) -> AbstractContextManager[object]:
        """bf16 where the device gains from it, nothing otherwise."""
        if not self.bf16:
            return nullcontext()
        return torch.autocast(self.torch_device.type, dtype=torch.bfloat16)

    def synchronize(self) -> None:
        """Wait for queued work, so that a measured time is a time."""
        if self.torch_device.type == "cuda":
            torch.cuda.synchronize(self.torch_device)


def open_device(name: str, *, bf16: bool, number: int = 0) -> Device:
    """Resolve `auto`, `cpu` or `cuda` (GPU `number`); bf16 only where the hardware multiplies it."""
    if name not in CHOICES:
        raise ConfigError("unknown device", expected=", ".join(CHOICES), got=name)
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise ConfigError(
            "no CUDA device", expected="a GPU and its driver", got="none", hint="use --device cpu"
        )
    kind = "cuda" if has_cuda and name != "cpu" else "cpu"
    where = torch.device(kind, number) if kind == "cuda" else torch.device(kind)
    return Device(torch_device=where, bf16=bf16 and _multiplies_bf16(kind))


def _multiplies_bf16(kind: str) -> bool:
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001 - no public form
