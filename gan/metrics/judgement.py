"""The discriminator's verdict on held-out real faces and fresh fakes: every figure from one confusion matrix.

A discriminator that is fooled half of the time says that the generator has caught up with *it*, not that the faces are
realistic; the figures are reported because the paper reports them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..datasets import Pixels
from ..device import Device
from ..training import HALF_RANGE
from .measure import wilson

BATCH = 256
ROC_POINTS = 101

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Verdicts at score 0; real is the positive class."""

    true_real: int
    false_fake: int
    """Real faces taken for fakes."""
    false_real: int
    """Fakes taken for real faces."""
    true_fake: int
    auc: float
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
            "auc": round(self.auc, 4),
            "roc": [[round(x, 4), round(y, 4)] for x, y in self.roc],
        }


def judge(on_real: Scores, on_fake: Scores) -> Judgement:
    """Compare scores (N,) of real faces and (M,) of fakes with 0."""
    from sklearn.metrics import roc_auc_score, roc_curve

    truth = np.concatenate([np.ones(len(on_real)), np.zeros(len(on_fake))])
    scores = np.concatenate([on_real, on_fake])
    false_rate, true_rate, _ = roc_curve(truth, scores)
    grid = np.linspace(0, 1, ROC_POINTS)
    at = np.searchsorted(false_rate, grid, side="right") - 1
    return Judgement(
        true_real=int((on_real > 0).sum()),
        false_fake=int((on_real <= 0).sum()),
        false_real=int((on_fake > 0).sum()),
        true_fake=int((on_fake <= 0).sum()),
        auc=float(roc_auc_score(truth, scores)),
        roc=tuple(zip(grid.tolist(), true_rate[at].tolist(), strict=True)),
    )


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
