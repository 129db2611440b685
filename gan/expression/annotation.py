"""Predictions beside a produced batch: made from its images, bound to them by their hashes, checked on reading.

Off chain: nothing here is signed, anchored or submitted.
"""

from __future__ import annotations

from pathlib import Path

from ..device import Device
from ..errors import DatasetError
from .checkpoints import LoadedClassifier
from .faces import LabelledFaces
from .inference import predict
from .records import EXPRESSIONS_FILE, ExpressionTable, make_table, read_table, write_table
from .sources import batch_file_hashes, open_images


def annotate_batch(folder: Path, loaded: LoadedClassifier, device: Device) -> ExpressionTable:
    """Write `expressions.jsonl` into a batch folder; one that is there is replaced.

    Raises:
        DatasetError: the images are not those of the manifest.
    """
    faces = open_images([folder], resolution=loaded.config.classifier.resolution)
    check_whole(folder, faces)
    probabilities = predict(loaded.module, faces.images, device)
    table = make_table(faces.names, faces.file_hashes, probabilities, classifier=loaded.digest)
    write_table(folder / EXPRESSIONS_FILE, table)
    return table


def read_annotation(folder: Path) -> ExpressionTable:
    """Read the predictions of a batch folder, which must speak of exactly the images of its manifest."""
    return read_table(folder / EXPRESSIONS_FILE, file_hashes=batch_file_hashes(folder))


def check_whole(folder: Path, faces: LabelledFaces) -> None:
    """Refuse images that are not those of the folder's manifest, in its order."""
    expected = batch_file_hashes(folder)
    if faces.file_hashes != expected:
        raise DatasetError(
            f"{folder} is not as it was produced",
            expected=f"the {len(expected)} images of its manifest",
            got=f"{len(faces)} images, not all the same",
        )
