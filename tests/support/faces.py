"""Made faces: smooth random patterns, one per person, with some variation per image."""

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facechain.gan.datasets import FaceSet, Pixels

Floats = NDArray[np.float64]


def made_faces(*, people: int, per_person: int, side: int = 16, seed: int = 0) -> FaceSet:
    """A data set of `people * per_person` images with identities."""
    draw = np.random.default_rng(seed)
    images, names, identities = [], [], []
    for person in range(people):
        base = _smooth(draw.normal(size=(4, 4, 3)), side) * 60
        for number in range(per_person):
            variation = _smooth(draw.normal(size=(4, 4, 3)), side) * 25
            grain = draw.normal(size=(side, side, 3)) * 6
            images.append((128 + base + variation + grain).clip(0, 255).astype(np.uint8))
            names.append(f"{person:04d}/{number:03d}.png")
            identities.append(f"person_{person}")
    return FaceSet(
        images=np.stack(images),
        names=tuple(names),
        identities=tuple(identities),
        digest="00" * 32,
        source="made",
    )


def write_folder(faces: FaceSet, root: Path) -> Path:
    """Write a data set as PNG files with labels.csv."""
    for name, image in zip(faces.names, faces.images, strict=True):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))
    (root / "labels.csv").write_text(_labels(faces))
    return root


def write_zip(faces: FaceSet, path: Path) -> Path:
    """Write a data set as a zip archive with labels.csv."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, image in zip(faces.names, faces.images, strict=True):
            archive.writestr(name, png(image))
        archive.writestr("labels.csv", _labels(faces))
    return path


def png(image: Pixels) -> bytes:
    """PNG bytes of an (H, W, 3) image."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def _labels(faces: FaceSet) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["file", "identity"])
    writer.writerows(zip(faces.names, faces.identities, strict=True))
    return buffer.getvalue()


def _smooth(coarse: Floats, side: int) -> Floats:
    steps = np.linspace(0, coarse.shape[0] - 1, side)
    low = np.floor(steps).astype(int).clip(0, coarse.shape[0] - 2)
    share = steps - low
    rows = coarse[low] * (1 - share)[:, None, None] + coarse[low + 1] * share[:, None, None]
    smooth: Floats = rows[:, low] * (1 - share)[None, :, None] + rows[:, low + 1] * share[None, :, None]
    return smooth
