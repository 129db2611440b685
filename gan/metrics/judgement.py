"""The discriminator's verdict on held-out real faces and fresh fakes: every figure from one confusion matrix.

A discriminator that is fooled half of the time says that the generator has caught up with *it*, not that the faces are
realistic; the figures are reported because the paper reports them.

A relativistic loss looks at differences of scores alone, so that no score means "real" by itself. The threshold of its matrix is
then set where both kinds of errors are equally frequent on one half of the images, and the matrix counts the other half.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from ..datasets import Pixels
from ..device import Device
from ..training import HALF_RANGE
from .measure import around, wilson

BATCH = 256
ROC_POINTS = 101
AT_ZERO = "score 0"
AT_EQUAL_ERRORS = "equal errors on the other half of the images: the loss is relativistic"

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Verdicts at `threshold`; real is the positive class."""

    true_real: int
    false_fake: int
    """Real faces taken for fakes."""
    false_real: int
    """Fakes taken for real faces."""
    true_fake: int
    auc: float
    auc_interval: tuple[float, float]
    """Of 95% (Hanley and McNeil 1982), over `scored` images."""
    scored: tuple[int, int]
    """Real faces and fakes behind `auc` and `roc`."""
    threshold: float
    threshold_method: str
    roc: tuple[tuple[float, float], ...]
    """False and true positive rates at `ROC_POINTS` thresholds."""

    def to_json(self) -> dict[str, object]:
        """Matrix and what follows from it, with intervals of 95% (Wilson) for shares."""
        real, fake = self.true_real + self.false_fake, self.false_real + self.true_fake
        told_real, right = self.true_real + self.false_real, self.true_real + self.true_fake
        precision, recall = _share(self.true_real, told_real), _share(self.true_real, real)
        return {
            "held_out_real": real,
            "fresh_fakes": fake,
            "confusion": {
                "real": {"real": self.true_real, "fake": self.false_fake},
                "fake": {"real": self.false_real, "fake": self.true_fake},
            },
            "accuracy": _with_interval(right, real + fake),
            "precision": _with_interval(self.true_real, told_real),
            "recall": _with_interval(self.true_real, real),
            "f1": round(2 * precision * recall / (precision + recall), 4) if precision + recall > 0 else 0.0,
            "auc": {
                "value": round(self.auc, 4),
                "interval": [round(bound, 4) for bound in self.auc_interval],
                "real": self.scored[0],
                "fakes": self.scored[1],
            },
            "threshold": round(self.threshold, 4),
            "threshold_method": self.threshold_method,
            "roc": [[round(x, 4), round(y, 4)] for x, y in self.roc],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave; KeyError, TypeError or ValueError where it is something else."""
        matrix = value["confusion"]
        return cls(
            true_real=int(matrix["real"]["real"]),
            false_fake=int(matrix["real"]["fake"]),
            false_real=int(matrix["fake"]["real"]),
            true_fake=int(matrix["fake"]["fake"]),
            auc=float(value["auc"]["value"]),
            auc_interval=(float(value["auc"]["interval"][0]), float(value["auc"]["interval"][1])),
            scored=(int(value["auc"]["real"]), int(value["auc"]["fakes"])),
            threshold=float(value["threshold"]),
            threshold_method=str(value["threshold_method"]),
            roc=tuple((float(x), float(y)) for x, y in value["roc"]),
        )


def judge(on_real: Scores, on_fake: Scores, *, relativistic: bool = False) -> Judgement:
    """Judge by scores (N,) of real faces and (M,) of fakes.

    Score 0 is the threshold, unless the loss was `relativistic`: then every second image of each kind sets it and the
    matrix counts the others. Area and curve need no threshold and take all images.
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    truth = np.concatenate([np.ones(len(on_real)), np.zeros(len(on_fake))])
    scores = np.concatenate([on_real, on_fake])
    false_rate, true_rate, _ = roc_curve(truth, scores)
    grid = np.linspace(0, 1, ROC_POINTS)
    at = np.searchsorted(false_rate, grid, side="right") - 1
    auc = float(roc_auc_score(truth, scores))
    threshold, method = 0.0, AT_ZERO
    counted = (on_real, on_fake)
    if relativistic:
        threshold, method = equal_errors(on_real[::2], on_fake[::2]), AT_EQUAL_ERRORS
        counted = (on_real[1::2], on_fake[1::2])
    real, fake = (int((values > threshold).sum()) for values in counted)
    return Judgement(
        true_real=real,
        false_fake=len(counted[0]) - real,
        false_real=fake,
        true_fake=len(counted[1]) - fake,
        auc=auc,
        auc_interval=_around_area(auc, len(on_real), len(on_fake)),
        scored=(len(on_real), len(on_fake)),
        threshold=threshold,
        threshold_method=method,
        roc=tuple(zip(grid.tolist(), true_rate[at].tolist(), strict=True)),
    )


def equal_errors(on_real: Scores, on_fake: Scores) -> float:
    """The threshold at which as large a share of the real faces lies below it as of the fakes above it."""
    candidates = np.unique(np.concatenate([on_real, on_fake]))
    missed = np.searchsorted(np.sort(on_real), candidates, side="right") / len(on_real)
    passed = 1 - np.searchsorted(np.sort(on_fake), candidates, side="right") / len(on_fake)
    return float(candidates[np.abs(missed - passed).argmin()])


def _around_area(area: float, real: int, fakes: int) -> tuple[float, float]:
    """Hanley and McNeil's interval, which knows the area and both numbers only."""
    above, below = area / (2 - area), 2 * area**2 / (1 + area)
    spread = (area * (1 - area) + (real - 1) * (above - area**2) + (fakes - 1) * (below - area**2)) / (
        real * fakes
    )
    low, high = around(area, math.sqrt(max(spread, 0.0)))
    return max(0.0, low), min(1.0, high)


@torch.inference_mode()
def discriminator_scores(discriminator: torch.nn.Module, images: Pixels, device: Device) -> Scores:
    """Scores (N,) of (N, H, W, 3) uint8 images; positive means real."""
    found = []
    for start in range(0, len(images), BATCH):
        batch = torch.from_numpy(np.ascontiguousarray(images[start : start + BATCH].transpose(0, 3, 1, 2)))
        scaled = batch.to(device.torch_device).float().div_(HALF_RANGE).sub_(1.0)
        found.append(discriminator(scaled).double().cpu().numpy())
    return np.concatenate(found)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _with_interval(part: int, whole: int) -> dict[str, object]:
    low, high = wilson(part, whole)
    return {"value": round(_share(part, whole), 4), "interval": [round(low, 4), round(high, 4)]}
