"""TensorBoard's view of a run: the rows of `stats.jsonl` and the sample grids, as event files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"
NOT_A_CURVE = ("step", "images_seen")


class EventLog:
    """Writes RUN/tensorboard; steps are images seen.

    Args:
        run: the run folder.
        images_seen: where the run goes on; what was written past it is hidden.
    """

    def __init__(self, run: Path, *, images_seen: int = 0) -> None:
        self._writer = SummaryWriter(str(run / FOLDER), purge_step=images_seen or None)

    def write_row(self, row: Mapping[str, float]) -> None:
        """Add one point to every curve."""
        for name, value in row.items():
            if name not in NOT_A_CURVE:
                self._writer.add_scalar(name, value, global_step=int(row["images_seen"]))
        self._writer.flush()

    def write_grid(self, grid: NDArray[np.uint8], *, images_seen: int) -> None:
        """Add one sample grid (H, W, 3)."""
        self._writer.add_image("samples", grid, global_step=images_seen, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """End the file."""
        self._writer.close()
