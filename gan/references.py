"""The release filter of a data set, built the same way wherever a batch is computed."""

from __future__ import annotations

from pathlib import Path

from threadpoolctl import threadpool_limits

from .datasets import FaceSet, open_dataset, split_by_identity
from .filter import ReferenceFilter


def open_reference_filter(
    path: Path, *, resolution: int, holdout_share: float, false_match_rate: float
) -> ReferenceFilter:
    """Decode a data set and calibrate a filter on it."""
    faces = open_dataset(path, resolution=resolution)
    return calibrate_filter(faces, holdout_share=holdout_share, false_match_rate=false_match_rate)


def calibrate_filter(faces: FaceSet, *, holdout_share: float, false_match_rate: float) -> ReferenceFilter:
    """Calibrate a filter on one thread: sums split by thread would differ in the last bits."""
    training, held_out = split_by_identity(faces, holdout_share=holdout_share)
    with threadpool_limits(limits=1):
        return ReferenceFilter(training, held_out, false_match_rate=false_match_rate)
