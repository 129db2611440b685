"""Charts as PNG: loss curves, cluster scatter, cluster sizes. No display, no global state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 100
LOSS_NAMES = ("d_loss", "g_loss")
SCORE_NAMES = ("d_real", "d_fake", "penalty")


def loss_curves(stats: Sequence[Mapping[str, float]], path: Path) -> None:
    """Losses and scores over images seen, from the rows of `stats.jsonl`."""
    figure, (upper, lower) = _figure(2)
    seen = [row["images_seen"] for row in stats]
    for axes, names in ((upper, LOSS_NAMES), (lower, SCORE_NAMES)):
        for name in (name for name in names if all(name in row for row in stats)):
            axes.plot(seen, [row[name] for row in stats], label=name, linewidth=1)
        axes.set_xlabel("images seen")
        axes.legend(loc="upper right")
    figure.savefig(path, format="png")


def cluster_scatter(
    points: NDArray[np.float32],
    labels: NDArray[np.int64],
    path: Path,
    *,
    axes_names: tuple[str, str] = ("principal component 1", "principal component 2"),
) -> None:
    """Points in the plane (N, 2), by default the first two principal components, coloured by cluster."""
    figure, (axes,) = _figure(1)
    axes.scatter(points[:, 0], points[:, 1], c=labels, cmap="nipy_spectral", s=4, linewidths=0)
    axes.set_xlabel(axes_names[0])
    axes.set_ylabel(axes_names[1])
    axes.set_title(f"{len(points)} faces, {len(np.unique(labels))} clusters")
    figure.savefig(path, format="png")


def size_histogram(sizes: NDArray[np.int64], path: Path) -> None:
    """How many clusters have how many members."""
    figure, (axes,) = _figure(1)
    axes.hist(sizes, bins=min(40, max(1, int(sizes.max() - sizes.min()) + 1)))
    axes.set_xlabel("faces in the cluster")
    axes.set_ylabel("clusters")
    axes.set_title(f"sizes {sizes.min()} to {sizes.max()}, median {np.median(sizes):.0f}")
    figure.savefig(path, format="png")


def _figure(rows: int) -> tuple[Figure, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4 * rows), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(rows, 1, row + 1) for row in range(rows)]


def roc_curve(points: Sequence[tuple[float, float]], area: float, path: Path) -> None:
    """Receiver operating characteristic from (false, true) positive rates."""
    figure, (axes,) = _figure(1)
    axes.plot([x for x, _ in points], [y for _, y in points], linewidth=1.5)
    axes.plot([0, 1], [0, 1], linewidth=0.8, linestyle="--", color="grey")
    axes.set_xlabel("fakes taken for real faces")
    axes.set_ylabel("held-out real faces recognised")
    axes.set_title(f"area under the curve {area:.3f}")
    figure.savefig(path, format="png")


def histogram_comparison(generated: NDArray[np.uint8], real: NDArray[np.uint8], path: Path) -> None:
    """Share of each grey level, per colour, in two sets of images (N, H, W, 3)."""
    figure, rows = _figure(3)
    for channel, axes in enumerate(rows):
        for name, images in (("generated", generated), ("held-out people", real)):
            counts = np.bincount(images[..., channel].ravel(), minlength=256)
            axes.plot(counts / counts.sum(), label=f"{name} ({len(images)})", linewidth=1)
        axes.set_xlabel(("red", "green", "blue")[channel])
        axes.legend(loc="upper right")
    figure.savefig(path, format="png")
