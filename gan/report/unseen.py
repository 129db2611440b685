"""Picks photographs of held-out people for a page whose operator asked for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..checkpoints import GENERATOR_FILE, load_generator
from ..datasets import FaceSet, Pixels, split_by_identity
from ..documents import read_document
from ..errors import ReportError
from ..runs import DATASET_FILE, DEFAULT_HOLDOUT_SHARE


def unseen_faces(run: Path, open_faces: Callable[[int], FaceSet]) -> Pixels:
    """First face of each held-out person, in the data set's order.

    Args:
        run: the run folder; its `dataset.json` says which people were held out.
        open_faces: gives the data set at a resolution.

    Raises:
        ReportError: the run was trained on other data, or held nobody out.
    """
    side = load_generator(run / GENERATOR_FILE).config.generator.resolution
    faces = open_faces(side)
    known = read_document(run / DATASET_FILE) or {}
    if known.get("digest", faces.digest) != faces.digest:
        raise ReportError(
            "the run was trained on other data", expected=str(known["digest"]), got=faces.digest
        )
    share = float(known.get("heldout_share", DEFAULT_HOLDOUT_SHARE))
    _, held_out = split_by_identity(faces, holdout_share=share)
    if not len(held_out):
        raise ReportError(
            "nobody was held out", expected="a hold-out share with people in it", got=str(share)
        )
    _, first = np.unique(np.asarray(held_out.identities), return_index=True)
    return held_out.images[np.sort(first)]
