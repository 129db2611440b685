"""Writes a produced batch as a folder (layout: docs/producer.md, "Batch folder").

The folder is built under another name and renamed, so one that exists is complete.
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..consensus.image import Pixels as DecodedImage
from ..consensus.image import pixel_hash
from ..consensus.perceptual import perceptual_hashes
from ..consensus.records import Record, Records
from .datasets import Pixels
from .errors import BatchFolderError
from .generation import (
    MANIFEST_FILE,
    PNG_MEDIA_TYPE,
    ImageObject,
    canonical_json,
    describe_object,
    encode_png,
    image_name,
    manifest_bytes,
)
from .stages import StageRecord, extend

FORMAT = "facechain-batch-1"
BATCH_FILE = "batch.json"
RECORDS_FILE = "records.bin"
PERCEPTUAL_FILE = "perceptual.bin"
IMAGES = "images"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedImages:
    """Images with everything that is hashed of them, in ascending order of the index."""

    indices: tuple[int, ...]
    width: int
    height: int
    files: tuple[bytes, ...]
    objects: tuple[ImageObject, ...]
    pixel_hashes: tuple[bytes, ...]
    perceptual: tuple[bytes, ...]

    def records(self, labels: Sequence[int]) -> Records:
        """Packed records with each image's cluster."""
        rows = zip(self.pixel_hashes, self.objects, self.indices, labels, strict=True)
        return Records.of(
            Record(pixel_hash=pixel, file_hash=item.file_hash, generator_index=index, cluster=int(label))
            for pixel, item, index, label in rows
        )

    def manifest(self) -> bytes:
        """The manifest's bytes."""
        return manifest_bytes(self.objects)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFacts:
    """What `batch.json` says beyond what follows from the images."""

    public: bool
    seed: bytes
    micro_batch: int
    stages: tuple[StageRecord, ...]
    model: str | None
    clustering: str | None
    filter: str | None
    store: str | None


def encode_images(
    indices: Sequence[int], images: Pixels, *, on_image: Callable[[], object] = lambda: None
) -> EncodedImages:
    """Encode (N, H, W, 3) uint8 images as PNG and hash files, pixels and looks."""
    files: list[bytes] = []
    hashes: list[bytes] = []
    height, width = images.shape[1:3]
    for pixels in images:
        files.append(encode_png(pixels))
        hashes.append(
            pixel_hash(
                DecodedImage(width=width, height=height, rgb=pixels.tobytes(), media_type=PNG_MEDIA_TYPE)
            )
        )
        on_image()
    return EncodedImages(
        indices=tuple(indices),
        width=width,
        height=height,
        files=tuple(files),
        objects=tuple(describe_object(data) for data in files),
        pixel_hashes=tuple(hashes),
        perceptual=tuple(perceptual_hashes(images)),
    )


def join_encoded(parts: Sequence[EncodedImages]) -> EncodedImages:
    """Images that were encoded in parts, as if at once."""
    return EncodedImages(
        indices=tuple(itertools.chain.from_iterable(part.indices for part in parts)),
        width=parts[0].width,
        height=parts[0].height,
        files=tuple(itertools.chain.from_iterable(part.files for part in parts)),
        objects=tuple(itertools.chain.from_iterable(part.objects for part in parts)),
        pixel_hashes=tuple(itertools.chain.from_iterable(part.pixel_hashes for part in parts)),
        perceptual=tuple(itertools.chain.from_iterable(part.perceptual for part in parts)),
    )


def check_new(path: Path) -> None:
    """Refuse a place where something is already."""
    if path.exists():
        raise BatchFolderError(
            "the batch folder exists", expected="a new name", got=str(path), hint="choose another --out"
        )


def write_batch(
    path: Path,
    encoded: EncodedImages,
    *,
    labels: Sequence[int],
    facts: BatchFacts,
    fill: Callable[[Path], object] = lambda _: None,
) -> Path:
    """Write the folder; `fill` may add files of its own before it appears under its name.

    Raises:
        BatchFolderError: `path` exists already, or the batch is empty.
    """
    check_new(path)
    if not encoded.files:
        raise BatchFolderError("an empty batch", expected="at least one image", got="none")
    building = path.with_name(f".{path.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    (building / IMAGES).mkdir(parents=True)
    for index, data in zip(encoded.indices, encoded.files, strict=True):
        (building / IMAGES / image_name(index)).write_bytes(data)
    manifest = encoded.manifest()
    (building / MANIFEST_FILE).write_bytes(manifest)
    (building / RECORDS_FILE).write_bytes(encoded.records(labels).packed)
    if facts.public:
        (building / PERCEPTUAL_FILE).write_bytes(b"".join(encoded.perceptual))
    (building / BATCH_FILE).write_bytes(canonical_json(_describe(encoded, manifest, facts)))
    fill(building)
    building.rename(path)
    return path


def _describe(encoded: EncodedImages, manifest: bytes, facts: BatchFacts) -> dict[str, object]:
    return {
        "format": FORMAT,
        "count": len(encoded.files),
        "width": encoded.width,
        "height": encoded.height,
        "public": facts.public,
        "seed": facts.seed.hex() if facts.public else None,
        "micro_batch": facts.micro_batch,
        "manifest_sha256": hashlib.sha256(manifest).hexdigest(),
        "stages": [record.to_json() for record in extend(facts.stages)],
        "model": facts.model,
        "clustering": facts.clustering,
        "filter": facts.filter,
        "store": facts.store,
    }
