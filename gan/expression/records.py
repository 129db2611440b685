"""The file of predictions: one header line, then one JSON line per image (layout: docs/expression.md).

Off-chain metadata: a produced batch may carry it as `expressions.jsonl`. Whoever reads it compares it with the
images that it speaks of. Needs no torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..checkpoints import write_atomically
from ..datasets import MAX_IMAGES
from ..errors import DatasetError
from ..generation import canonical_json
from .classes import CLASSES

FORMAT: Final = "facechain-expressions-1"
EXPRESSIONS_FILE: Final = "expressions.jsonl"
MAX_LINE_BYTES: Final = 8192
DECIMALS: Final = 4
SUM_TOLERANCE: Final = 0.001
"""Seven probabilities rounded to four decimals sum to 1 within 0.00035."""
HASH_DIGITS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageExpression:
    """What the classifier says of one image."""

    name: str
    file_hash: bytes
    """SHA-256 of the image file, 32 bytes: what binds the line to a record of the batch."""
    probabilities: tuple[float, ...]
    """In class order, rounded."""

    @property
    def expression(self) -> str:
        """The most probable class."""
        return CLASSES[self.probabilities.index(max(self.probabilities))]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpressionTable:
    """All predictions of one classifier for one set of images."""

    classifier: bytes
    """SHA-256 of the classifier's file."""
    images: tuple[ImageExpression, ...]

    def probabilities(self) -> NDArray[np.float32]:
        """(N, 7), as rounded in the file."""
        return np.array([image.probabilities for image in self.images], dtype=np.float32)


def make_table(
    names: Sequence[str],
    file_hashes: Sequence[bytes],
    probabilities: NDArray[np.float32],
    *,
    classifier: bytes,
) -> ExpressionTable:
    """Put predictions (N, 7) beside the images that they are of."""
    return ExpressionTable(
        classifier=classifier,
        images=tuple(
            ImageExpression(
                name=name,
                file_hash=file_hash,
                probabilities=tuple(round(float(value), DECIMALS) for value in row),
            )
            for name, file_hash, row in zip(names, file_hashes, probabilities, strict=True)
        ),
    )


def write_table(path: Path, table: ExpressionTable) -> None:
    """Write the file; the same predictions give the same bytes."""
    head = {
        "format": FORMAT,
        "classes": list(CLASSES),
        "classifier_sha256": table.classifier.hex(),
        "count": len(table.images),
        "labels": "predicted",
    }
    lines = [canonical_json(head), *(canonical_json(_line(image)) for image in table.images)]
    write_atomically(path, lambda temporary: temporary.write_bytes(b"".join(lines)))


def read_table(path: Path, *, file_hashes: Sequence[bytes] | None = None) -> ExpressionTable:
    """Read and check a file of predictions.

    Args:
        path: the file.
        file_hashes: of the images that it must speak of, in order; None where they are not at hand.

    Raises:
        DatasetError: a line is damaged or out of range, or the file speaks of other images.
    """
    lines = _lines(path)
    head = next(lines, {})
    if head.get("format") != FORMAT or head.get("classes") != list(CLASSES):
        raise DatasetError(
            f"{path} is no table of expressions",
            expected=f"{FORMAT} with classes {', '.join(CLASSES)}",
            got=str(head)[:MAX_LINE_BYTES],
        )
    images = tuple(_image(path, number, line) for number, line in enumerate(lines, start=2))
    if head.get("count") != len(images):
        raise DatasetError(f"{path}: images", expected=str(head.get("count")), got=str(len(images)))
    if file_hashes is not None:
        _check_images(path, images, file_hashes)
    return ExpressionTable(classifier=_hash(path, 1, head.get("classifier_sha256")), images=images)


def _line(image: ImageExpression) -> dict[str, object]:
    return {
        "file": image.name,
        "file_sha256": image.file_hash.hex(),
        "expression": image.expression,
        "confidence": max(image.probabilities),
        "probabilities": list(image.probabilities),
    }


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            for number in range(1, MAX_IMAGES + 2):
                line = file.readline(MAX_LINE_BYTES + 1)
                if not line:
                    return
                yield _decode(path, number, line)
            if file.read(1):
                raise DatasetError(f"{path}: images", expected=f"at most {MAX_IMAGES}", got="more")
    except OSError as error:
        raise DatasetError("cannot read the predictions", got=f"{path}: {error.strerror}") from error


def _decode(path: Path, number: int, line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE_BYTES:
        raise _bad(path, number, f"at most {MAX_LINE_BYTES} bytes", "a longer line")
    try:
        content: object = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _bad(path, number, "JSON", str(error)) from error
    if not isinstance(content, dict):
        raise _bad(path, number, "an object", type(content).__name__)
    return content


def _image(path: Path, number: int, line: dict[str, Any]) -> ImageExpression:
    name, values = line.get("file"), line.get("probabilities")
    if not isinstance(name, str) or not name:
        raise _bad(path, number, "the name of a file", repr(name))
    if not isinstance(values, list) or len(values) != len(CLASSES) or not all(map(_is_share, values)):
        raise _bad(path, number, f"{len(CLASSES)} probabilities from 0 to 1", repr(values))
    if abs(sum(values) - 1.0) > SUM_TOLERANCE:
        raise _bad(path, number, "probabilities with sum 1", str(sum(values)))
    image = ImageExpression(
        name=name,
        file_hash=_hash(path, number, line.get("file_sha256")),
        probabilities=tuple(float(value) for value in values),
    )
    said = (line.get("expression"), line.get("confidence"))
    if said != (image.expression, max(image.probabilities)):
        raise _bad(path, number, f"{image.expression} with {max(image.probabilities)}", str(said))
    return image


def _is_share(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and 0.0 <= value <= 1.0
    )


def _hash(path: Path, number: int, value: object) -> bytes:
    text = value if isinstance(value, str) else ""
    if len(text) != HASH_DIGITS or set(text) - set("0123456789abcdef"):
        raise _bad(path, number, "64 lower-case hex digits", repr(value))
    return bytes.fromhex(text)


def _check_images(path: Path, images: Sequence[ImageExpression], file_hashes: Sequence[bytes]) -> None:
    if len(images) != len(file_hashes):
        raise DatasetError(
            f"{path} speaks of other images", expected=f"{len(file_hashes)} images", got=str(len(images))
        )
    for image, expected in zip(images, file_hashes, strict=True):
        if image.file_hash != expected:
            raise DatasetError(
                f"{path} speaks of another {image.name}", expected=expected.hex(), got=image.file_hash.hex()
            )


def _bad(path: Path, number: int, expected: str, got: str) -> DatasetError:
    return DatasetError(f"{path} line {number}", expected=expected, got=got)
