"""Labelled faces as one grey uint8 array: from a folder or zip with class folders, `labels.csv`, or both.

Owns what counts as a label. Refuses classes that it does not know and labels that contradict each other.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..datasets import LABELS_NAME, MAX_IMAGES, Pixels, decode_image, read_entries
from ..errors import DatasetError
from .classes import CLASS_NUMBERS, CLASSES

UNLABELLED: Final = -1
TRAINING: Final = "Training"
SELECTION: Final = "PublicTest"
UNKNOWN_USAGE: Final = ""
ALIASES: Final = {
    "anger": "angry",
    "disgusted": "disgust",
    "fearful": "fear",
    "happiness": "happy",
    "sadness": "sad",
    "surprised": "surprise",
}
"""Other words for the classes, as data sets in the same layout use them."""
PREPARATION: Final = "central square, pillow-bicubic-antialias, grey by ITU-R 601 luma"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledFaces:
    """Grey faces with their classes.

    Attributes:
        images: (N, R, R) uint8.
        labels: (N,) class numbers; `UNLABELLED` where nothing says.
        usages: what the set says each image is for, or "".
        names: path of each image inside its source.
        file_hashes: SHA-256 of each file, 32 bytes.
        digest: SHA-256 over every name and file, hex.
        source: last component of where it came from.
    """

    images: Pixels
    labels: NDArray[np.int64]
    usages: tuple[str, ...]
    names: tuple[str, ...]
    file_hashes: tuple[bytes, ...]
    digest: str
    source: str

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, chosen: NDArray[np.bool_]) -> LabelledFaces:
        """The images where `chosen` (N,) is true; the digest stays that of the whole."""
        keep = np.flatnonzero(chosen)
        return LabelledFaces(
            images=self.images[keep],
            labels=self.labels[keep],
            usages=tuple(self.usages[i] for i in keep),
            names=tuple(self.names[i] for i in keep),
            file_hashes=tuple(self.file_hashes[i] for i in keep),
            digest=self.digest,
            source=self.source,
        )

    def of_usage(self, *usages: str) -> LabelledFaces:
        """The images for one of these uses."""
        return self.subset(np.array([usage in usages for usage in self.usages], dtype=np.bool_))

    def copies_of(self, others: LabelledFaces) -> NDArray[np.bool_]:
        """Which images (N,) have, pixel for pixel, a copy among `others`."""
        known = {hashlib.sha256(image.tobytes()).digest() for image in others.images}
        return np.array(
            [hashlib.sha256(image.tobytes()).digest() in known for image in self.images], dtype=np.bool_
        )

    def class_counts(self) -> dict[str, int]:
        """Number of images of each class, in class order."""
        return {name: int((self.labels == number).sum()) for name, number in CLASS_NUMBERS.items()}

    def usage_counts(self) -> dict[str, int]:
        """Number of images of each use, sorted by its name."""
        return dict(sorted(Counter(self.usages).items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One line of a label table."""

    label: int
    usage: str


def open_faces(
    path: Path,
    *,
    resolution: int,
    need_labels: bool = True,
    progress: Callable[[int], object] = lambda _: None,
) -> LabelledFaces:
    """Decode a folder or zip into grey images of one size, with their labels.

    Args:
        path: folder or zip; class folders (`happy/…`), a `labels.csv` (file, name or label, usage), or both.
        resolution: side of the result; other sizes are resized, see `PREPARATION`.
        need_labels: whether an image without a class is an error; otherwise labels are not looked for.
        progress: told how many images are decoded.

    Raises:
        DatasetError: nothing there, an image or table cannot be read, a class is unknown or missing.
    """
    if not path.exists():
        raise DatasetError("data set not found", expected="a folder or a zip archive", got=str(path))
    names: list[str] = []
    hashes: list[bytes] = []
    frames: list[Pixels] = []
    table: dict[str, _Row] = {}
    digest = hashlib.sha256()
    for name, data in read_entries(path):
        if PurePosixPath(name).name == LABELS_NAME:
            if need_labels:
                table.update(_read_table(name, data))
            continue
        if len(frames) >= MAX_IMAGES:
            raise DatasetError("too many images", expected=f"at most {MAX_IMAGES}", got="more")
        frames.append(to_grey(decode_image(name, data, resolution)))
        names.append(name)
        hashes.append(hashlib.sha256(data).digest())
        digest.update(f"{len(name)}:{name}".encode() + hashes[-1])
        progress(len(frames))
    if not frames:
        raise DatasetError("no images in the data set", expected="PNG, WebP, JPEG or BMP", got=str(path))
    rows = [_row_of(name, table, need_labels=need_labels) for name in names]
    return LabelledFaces(
        images=np.stack(frames),
        labels=np.array([row.label for row in rows], dtype=np.int64),
        usages=tuple(row.usage for row in rows),
        names=tuple(names),
        file_hashes=tuple(hashes),
        digest=digest.hexdigest(),
        source=path.name,
    )


def to_grey(pixels: Pixels) -> Pixels:
    """(H, W, 3) to (H, W) by ITU-R 601 luma; grey stays what it is."""
    return np.asarray(Image.fromarray(pixels).convert("L"), dtype=np.uint8)


def class_number(word: str) -> int | None:
    """Number of a class by name, other name or number, whatever the case; None for no class."""
    lowered = word.strip().lower()
    if lowered.isascii() and lowered.isdigit():
        number = int(lowered) if len(lowered) < 3 else len(CLASSES)
        return number if number < len(CLASSES) else None
    return CLASS_NUMBERS.get(ALIASES.get(lowered, lowered))


def _row_of(name: str, table: Mapping[str, _Row], *, need_labels: bool) -> _Row:
    if not need_labels:
        return _Row(label=UNLABELLED, usage=UNKNOWN_USAGE)
    folder = PurePosixPath(name).parent.name
    by_folder = class_number(folder)
    row = table.get(name)
    if row is None:
        if by_folder is None:
            raise DatasetError(
                f"{name} has no known class",
                expected=f"a folder called {', '.join(CLASSES)}, or a row of {LABELS_NAME}",
                got=f"folder {folder!r}",
            )
        return _Row(label=by_folder, usage=UNKNOWN_USAGE)
    if by_folder is not None and by_folder != row.label:
        raise DatasetError(
            f"{name} has two classes",
            expected=f"{CLASSES[by_folder]}, its folder",
            got=f"{CLASSES[row.label]} in {LABELS_NAME}",
        )
    return row


def _read_table(name: str, data: bytes) -> dict[str, _Row]:
    prefix = name[: -len(LABELS_NAME)]
    try:
        rows = csv.DictReader(io.StringIO(data.decode("utf-8"), newline=""), strict=True)
        fields = set(rows.fieldnames or ())
        if "file" not in fields or not fields & {"name", "label"}:
            raise DatasetError(
                f"{name} is no table of expressions",
                expected="columns file and name or label",
                got=", ".join(sorted(fields)),
            )
        return {prefix + str(row["file"]): _parse_row(name, rows.line_num, row) for row in rows}
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{name} cannot be read", expected="CSV in UTF-8", got=str(error)) from error


def _parse_row(name: str, line: int, row: Mapping[str, str | None]) -> _Row:
    words = [word for word in (row.get("name"), row.get("label")) if word]
    numbers = {class_number(word) for word in words}
    number = numbers.pop() if len(numbers) == 1 else None
    if number is None:
        raise DatasetError(
            f"{name} line {line}: class", expected=f"one of {', '.join(CLASSES)}", got=" and ".join(words)
        )
    return _Row(label=number, usage=(row.get("usage") or UNKNOWN_USAGE).strip())
