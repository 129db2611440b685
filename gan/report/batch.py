"""What a page shows of a batch: its faces with the blocks that hold them, one image's trail, predicted expressions."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from ...consensus.records import NO_CLUSTER, Record, Records
from ..batchfolder import IMAGES, RECORDS_FILE
from ..datasets import Pixels
from ..documents import DOCUMENT_BYTES_MAX, PICTURE_BYTES_MAX, read_bounded
from ..errors import ReportError
from ..expression.annotation import read_annotation
from ..expression.distribution import Distribution, distribution
from ..expression.records import EXPRESSIONS_FILE
from ..generation import image_name
from ..sheets import RegisteredFace, contact_sheet
from ..stages import StageRecord
from .belonging import identity

SHEET_FACES: Final = 24
SHEET_COLUMNS: Final = 6
RECORDS_BYTES_MAX: Final = DOCUMENT_BYTES_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A part of the batch as the receipt places it."""

    images: int
    statement: str
    height: int | None
    level: str


def placed_parts(receipt: Mapping[str, Any]) -> tuple[Placed, ...]:
    """The receipt's parts in order; those that no node has are left out.

    Raises:
        ReportError: it is no receipt.
    """
    try:
        return tuple(
            Placed(
                images=int(item["images"]),
                statement=str(item["id"]),
                height=None if item["height"] is None else int(item["height"]),
                level=str(item["level"]),
            )
            for item in receipt.get("parts", ())
            if item["id"] is not None
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ReportError("no receipt", expected="what submit --json printed", got=repr(error)) from error


def registered_sheet(folder: Path, parts: Sequence[Placed]) -> bytes | None:
    """PNG of faces spread over the batch, each with block and hash (the paper's figure 10); None before any is sealed."""
    records = read_records(folder)
    count = min(SHEET_FACES, len(records))
    places = np.linspace(0, len(records) - 1, count).astype(int).tolist() if count else []
    faces = []
    for place in places:
        part = _part_of(place, parts)
        if part is not None and part.height is not None:
            record = records[place]
            faces.append(
                RegisteredFace(
                    pixels=_image(folder, record), block_height=part.height, pixel_hash=record.pixel_hash
                )
            )
    return contact_sheet(faces, columns=SHEET_COLUMNS) if faces else None


def trail(
    folder: Path,
    parts: Sequence[Placed],
    stages: Sequence[StageRecord],
    anchored: Mapping[str, Mapping[str, Any]],
) -> tuple[tuple[str, str], ...]:
    """Where the first image of the batch stands, from its pixels to the data set (the paper's figure 11)."""
    records = read_records(folder)
    part = _part_of(0, parts)
    if not len(records) or part is None:
        return ()
    record = records[0]
    cluster = "none" if record.cluster == NO_CLUSTER else str(record.cluster)
    block = "not sealed" if part.height is None else f"block {part.height}"
    steps = [
        ("image", f"generator index {record.generator_index}, cluster {cluster}"),
        ("pixels, SHA-256", record.pixel_hash.hex()),
        ("file, SHA-256", record.file_hash.hex()),
        ("record", f"0 of {len(records)}"),
        ("batch statement", f"{part.statement}, {block} ({part.level})"),
    ]
    for stage in reversed(stages):
        item = anchored.get(identity(stage))
        where = "not anchored" if item is None else f"{item['id']}, {_height(item)}"
        steps.append((f"{stage.stage_type.label}: {stage.name}", where))
    return tuple(steps)


def expressions(folder: Path) -> Distribution | None:
    """The predicted expressions beside the batch; None where there are none.

    Raises:
        DatasetError: the file speaks of other images.
    """
    if not (folder / EXPRESSIONS_FILE).is_file():
        return None
    return distribution(read_annotation(folder).probabilities())


def read_images(folder: Path, most: int) -> Pixels:
    """The first images of the batch, at most `most` of them, as (N, H, W, 3) uint8."""
    records = read_records(folder)
    return np.stack([_image(folder, records[place]) for place in range(min(most, len(records)))])


def _height(item: Mapping[str, Any]) -> str:
    height = item.get("height")
    return str(item.get("level", "")) if height is None else f"block {height}"


def read_records(folder: Path) -> Records:
    """The batch's records, in order."""
    return Records(read_bounded(folder / RECORDS_FILE, RECORDS_BYTES_MAX))


def _part_of(place: int, parts: Sequence[Placed]) -> Placed | None:
    end = 0
    for part in parts:
        end += part.images
        if place < end:
            return part
    return None


def _image(folder: Path, record: Record) -> Pixels:
    data = read_bounded(folder / IMAGES / image_name(record.generator_index), PICTURE_BYTES_MAX)
    with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
        return np.asarray(picture.convert("RGB"))
