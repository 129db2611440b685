"""Made faces with an expression: seven patterns that a small network tells apart in seconds."""

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facechain.gan.datasets import Pixels
from facechain.gan.expression.classes import CLASSES

Files = dict[str, bytes]


def made_expression(label: int, draw: np.random.Generator, *, side: int = 24) -> Pixels:
    """(side, side) uint8: stripes and blobs that stay the same when mirrored, some noise."""
    rows, columns = np.mgrid[0:side, 0:side] / side
    across = np.abs(columns - 0.5)
    patterns: tuple[NDArray[np.float64], ...] = (
        np.sin(rows * 25),
        np.sin(across * 50),
        np.sin((rows - across) * 30),
        np.where(rows > 0.5, 1.0, -1.0),
        np.where(across > 0.25, 1.0, -1.0),
        np.where((rows - 0.5) ** 2 + across**2 < 0.1, 1.0, -1.0),
        rows * 0.0,
    )
    noise = draw.normal(size=(side, side)) * 15
    return (128 + patterns[label] * draw.uniform(50, 90) + noise).clip(0, 255).astype(np.uint8)


def expression_files(*, per_class: int, selection: int = 2, side: int = 24, seed: int = 0) -> Files:
    """Class folders of PNGs and a labels.csv; the first `selection` of each class are PublicTest."""
    draw = np.random.default_rng(seed)
    files: Files = {}
    rows = [["file", "label", "name", "usage"]]
    for number in range(per_class):
        for label, name in enumerate(CLASSES):
            path = f"{name}/{number:04d}_{label}.png"
            files[path] = grey_png(made_expression(label, draw, side=side))
            rows.append([path, str(label), name, "PublicTest" if number < selection else "Training"])
    files["labels.csv"] = table(rows)
    return files


def grey_png(pixels: Pixels) -> bytes:
    """PNG bytes of an (H, W) uint8 image."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def table(rows: list[list[str]]) -> bytes:
    """CSV bytes."""
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue().encode()


def zipped(files: Files, path: Path) -> Path:
    """Write files into a zip archive."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def unpacked(files: Files, root: Path) -> Path:
    """Write files into a folder."""
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root
