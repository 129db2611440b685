"""Statistics of the bare pixels, as the paper tabulates them, with effect sizes.

UACI (unified average changing intensity, Wu et al. 2011) is the mean absolute difference of two images, in percent
of the range. The paper gives it for pairs of one kind as if it spoke for privacy; beside each other the three kinds of pairs
show what it can say.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..datasets import Pixels
from .measure import NORMAL_QUANTILE, Measure, around

LEVELS = 256
LEVEL_MAX = 255
PAIRS = 10_000

Floats = NDArray[np.float64]


def image_statistics(images: Pixels) -> dict[str, Floats]:
    """Mean, deviation, skewness, kurtosis (excess) and entropy (bits) of each image's grey levels, (N,) each."""
    levels = images.reshape(len(images), -1).astype(np.float64)
    mean = levels.mean(axis=1)
    centred = levels - mean[:, None]
    variance = (centred**2).mean(axis=1)
    deviation = np.sqrt(np.maximum(variance, 1e-12))
    counts = np.stack([np.bincount(row, minlength=LEVELS) for row in images.reshape(len(images), -1)])
    shares = counts / counts.sum(axis=1, keepdims=True)
    entropy = -(shares * np.log2(np.where(shares > 0, shares, 1))).sum(axis=1)
    return {
        "mean": mean,
        "deviation": deviation,
        "skewness": (centred**3).mean(axis=1) / deviation**3,
        "kurtosis": (centred**4).mean(axis=1) / deviation**4 - 3,
        "entropy": entropy,
    }


def compare_statistics(generated: Pixels, real: Pixels) -> list[Measure]:
    """Means over generated images of each statistic, and the effect size against real ones."""
    ours, theirs = image_statistics(generated), image_statistics(real)
    measures = []
    for name, values in ours.items():
        for kind, of, sample in (("generated", values, generated), ("real", theirs[name], real)):
            low, high = around(float(of.mean()), float(of.std(ddof=1)) / math.sqrt(len(of)))
            measures.append(
                Measure(
                    name=f"pixel_{name}",
                    value=float(of.mean()),
                    low=low,
                    high=high,
                    method="normal",
                    left=f"{kind} ({len(sample)})",
                )
            )
        measures.append(
            _effect(
                f"effect_{name}",
                values,
                theirs[name],
                f"generated ({len(values)})",
                f"real ({len(real)})",
            )
        )
    return measures


def compare_pairs(generated: Pixels, real: Pixels, *, seed: int) -> list[Measure]:
    """UACI of random real-real, real-fake and fake-fake pairs, and effect sizes against real-real."""
    draw = np.random.Generator(np.random.Philox(seed))
    kinds = {
        "real-real": (real, real),
        "real-fake": (real, generated),
        "fake-fake": (generated, generated),
    }
    found = {kind: _uaci(*pair, draw) for kind, pair in kinds.items()}
    measures = []
    for kind, values in found.items():
        low, high = around(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values)))
        measures.append(
            Measure(
                name="uaci",
                value=float(values.mean()),
                low=low,
                high=high,
                method="normal",
                left=f"{kind} pairs ({len(values)})",
                seed=str(seed),
            )
        )
    base = f"real-real pairs ({len(found['real-real'])})"
    for kind in ("real-fake", "fake-fake"):
        label = f"{kind} pairs ({len(found[kind])})"
        measures.append(_effect("effect_uaci", found[kind], found["real-real"], label, base))
    return measures


def _uaci(left: Pixels, right: Pixels, draw: np.random.Generator) -> Floats:
    """Percent, of `PAIRS` pairs of different images."""
    first = draw.integers(len(left), size=PAIRS)
    if left is right:
        second = (first + draw.integers(1, len(right), size=PAIRS)) % len(right)
    else:
        second = draw.integers(len(right), size=PAIRS)
    values = np.empty(PAIRS)
    for number, (i, j) in enumerate(zip(first, second, strict=True)):
        values[number] = np.abs(left[i].astype(np.int16) - right[j]).mean() / LEVEL_MAX * 100
    return values


def _effect(name: str, ours: Floats, theirs: Floats, left: str, right: str) -> Measure:
    """Cohen's d with its large-sample interval (Hedges and Olkin 1985)."""
    n, m = len(ours), len(theirs)
    pooled = math.sqrt(((n - 1) * ours.var(ddof=1) + (m - 1) * theirs.var(ddof=1)) / (n + m - 2))
    value = float(ours.mean() - theirs.mean()) / max(pooled, 1e-12)
    half = NORMAL_QUANTILE * math.sqrt((n + m) / (n * m) + value**2 / (2 * (n + m)))
    return Measure(
        name=name,
        value=value,
        low=value - half,
        high=value + half,
        method="Cohen's d",
        left=left,
        right=right,
    )
