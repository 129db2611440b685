"""Generated faces beside the training faces they are nearest to: numbers for everybody, faces for the operator."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..datasets import FaceSet, Pixels
from ..generation import encode_png
from ..sheets import BACKGROUND, CAPTION_HEIGHT, FACE_SIDE, FONT_SIZE, INK, MARGIN
from .attacks import choose_people, nearest_images

FOLDER = "operator-only"
SHEET_FILE = "nearest-training-faces.png"
PAIRS = 24
PAIR_COLUMNS = 4
WARNING = "FOR THE OPERATOR ONLY: every right-hand face is a real person of the training set. Do not publish or pass on."
CAPTION = (
    "left: generated; right: nearest training face, which may be mirrored; difference in grey levels (rms)"
)
_RED = (180, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Distances of generated faces to training faces and, for scale, to as many faces nobody trained on."""

    rms: np.ndarray[tuple[int], np.dtype[np.float64]]
    """To the nearest of all training faces, per generated face."""
    index: np.ndarray[tuple[int], np.dtype[np.int64]]
    nearer_to_training: float
    """Share of generated faces nearer to the training faces than to held-out ones, equally many; 0.5 is chance."""
    compared: int
    """Faces on each side of that comparison."""

    def facts(self) -> dict[str, object]:
        """Aggregates only."""
        low, middle = np.quantile(self.rms, [0.01, 0.5])
        return {
            "nearest_training_face_rms_least": round(float(self.rms.min()), 3),
            "nearest_training_face_rms_1_percent": round(float(low), 3),
            "nearest_training_face_rms_median": round(float(middle), 3),
            "nearer_to_training_than_to_held_out": round(self.nearer_to_training, 4),
            "nearer_compared_faces": self.compared,
        }


def find_neighbours(generated: Pixels, training: FaceSet, held_out: FaceSet) -> Neighbours:
    """Compare every generated face with every training face, and with held-out ones."""
    found = nearest_images(generated, training.images)
    count = min(len(training), len(held_out))
    inside = choose_people(training, images=count).images[:count]
    seen = nearest_images(generated, inside).rms
    unseen = nearest_images(generated, held_out.images[:count]).rms
    return Neighbours(
        rms=found.rms,
        index=found.index,
        nearer_to_training=float((seen < unseen).mean() + 0.5 * (seen == unseen).mean()),
        compared=count,
    )


def write_sheet(run: Path, generated: Pixels, training: FaceSet, neighbours: Neighbours) -> Path:
    """Write the closest pairs to RUN/operator-only, readable by its owner alone."""
    closest = np.argsort(neighbours.rms, kind="stable")[:PAIRS]
    rows = -(-len(closest) // PAIR_COLUMNS)
    cell = (2 * FACE_SIDE + 2 * MARGIN, FACE_SIDE + CAPTION_HEIGHT)
    top = 2 * CAPTION_HEIGHT
    sheet = Image.new("RGB", (PAIR_COLUMNS * cell[0] + MARGIN, top + rows * cell[1] + MARGIN), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=FONT_SIZE)
    draw.text((MARGIN, MARGIN), WARNING, fill=_RED, font=font)
    draw.text((MARGIN, CAPTION_HEIGHT), CAPTION, fill=INK, font=font)
    for number, which in enumerate(closest.tolist()):
        row, column = divmod(number, PAIR_COLUMNS)
        left, upper = MARGIN + column * cell[0], top + row * cell[1]
        for shift, face in ((0, generated[which]), (FACE_SIDE, training.images[neighbours.index[which]])):
            picture = Image.fromarray(face).resize((FACE_SIDE, FACE_SIDE), Image.Resampling.NEAREST)
            sheet.paste(picture, (left + shift, upper))
        draw.text((left, upper + FACE_SIDE + 1), f"{neighbours.rms[which]:.1f}", fill=INK, font=font)
    folder = run / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / SHEET_FILE
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(encode_png(np.asarray(sheet, dtype=np.uint8)))
    return path
