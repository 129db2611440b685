"""Several processes that train one model, as `torchrun` starts them.

Every process draws the random numbers of the whole step and takes its share of the batch; gradients are
averaged in one flat all-reduce per network. So the result is that of one process with the same batch, up to the order in
which sums are rounded (batch normalisation sees the share only, as in PyTorch's own data parallelism).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist

from .errors import ConfigError

LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
"""What `torchrun` puts into the environment of each process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """This process among those that train together; alone by default."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Rank on this host: the number of its GPU."""

    @property
    def leads(self) -> bool:
        """Whether this process writes the run folder and speaks."""
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """This process's part of a batch that is drawn as a whole."""
        if batch % self.size:
            raise ConfigError(
                "the batch cannot be shared evenly", expected=f"a multiple of {self.size}", got=str(batch)
            )
        part = batch // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace `tensors` by their means over all processes, in one message."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        means = torch.split(flat, [tensor.numel() for tensor in tensors])
        for kept, mean in zip(tensors, means, strict=True):
            kept.copy_(mean.view_as(kept))

    def average_gradients(self, weights: Iterable[Tensor]) -> None:
        """Average what `backward` left."""
        self.average([weight.grad for weight in weights if weight.grad is not None])

    def agree(self, value: bool, device: torch.device) -> bool:  # noqa: FBT001 - a vote, not an option
        """Whether any process says so; all of them get the same answer."""
        if self.size == 1:
            return value
        vote = torch.tensor([float(value)], device=device)
        dist.all_reduce(vote, op=dist.ReduceOp.MAX)
        return bool(vote.item() > 0)

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.size > 1:
            dist.barrier()


ALONE = Group()


@contextmanager
def open_group(*, cuda: bool) -> Iterator[Group]:
    """Join the processes that `torchrun` started, or be alone when it did not.

    Raises:
        ConfigError: the environment names a group but is not complete.
    """
    if not any(name in os.environ for name in LAUNCHED):
        yield ALONE
        return
    try:
        rank, size, local = (int(os.environ[name]) for name in LAUNCHED)
    except (KeyError, ValueError) as error:
        raise ConfigError(
            "incomplete launch of several processes",
            expected=f"{', '.join(LAUNCHED)} in the environment, as torchrun sets them",
            got=str(error),
        ) from error
    if size == 1:
        yield ALONE
        return
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Group(rank=rank, size=size, local_rank=local)
    finally:
        dist.destroy_process_group()
