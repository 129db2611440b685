"""Faces without labels: image files, folders, zips, and produced batches, of which only the images count."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from ..batchfolder import BATCH_FILE, IMAGES
from ..datasets import IMAGE_SUFFIXES, MAX_ENTRY_BYTES, decode_image
from ..errors import DatasetError
from ..generation import MANIFEST_FILE
from ..stages import STAGE_FILE
from .faces import UNKNOWN_USAGE, UNLABELLED, LabelledFaces, open_faces, to_grey

PRODUCED_FILES: Final = (BATCH_FILE, MANIFEST_FILE, STAGE_FILE)
"""What the producer leaves beside faces that it rendered."""
MAX_MANIFEST_BYTES: Final = 2**28


def open_images(
    paths: Sequence[Path], *, resolution: int, progress: Callable[[int], object] = lambda _: None
) -> LabelledFaces:
    """Grey images of all `paths` in their order, prepared as the classifier wants them.

    Args:
        paths: image files, folders, zips; of a produced batch the folder `images`.
        resolution: side of the result.
        progress: told how many images were decoded since the last call.

    Raises:
        DatasetError: a path is missing or holds no image, or one cannot be decoded.
    """
    parts = [_open_one(path, resolution, progress) for path in paths]
    if not parts:
        raise DatasetError("no images named", expected="at least one path", got="none")
    digest = hashlib.sha256(b"".join(bytes.fromhex(part.digest) for part in parts)).hexdigest()
    return LabelledFaces(
        images=np.concatenate([part.images for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        usages=tuple(usage for part in parts for usage in part.usages),
        names=tuple(name for part in parts for name in part.names),
        file_hashes=tuple(item for part in parts for item in part.file_hashes),
        digest=digest if len(parts) > 1 else parts[0].digest,
        source=parts[0].source if len(parts) == 1 else f"{len(parts)} sources",
    )


def is_produced(path: Path) -> bool:
    """Whether the producer's own files lie beside the images of this folder or zip."""
    return any(name in _top_names(path) for name in PRODUCED_FILES)


def is_batch(path: Path) -> bool:
    """Whether this is a produced batch folder."""
    return (path / BATCH_FILE).is_file()


def batch_file_hashes(folder: Path) -> tuple[bytes, ...]:
    """File hashes of a batch folder's images, in the order of its manifest.

    Raises:
        DatasetError: the manifest is missing or damaged.
    """
    path = folder / MANIFEST_FILE
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise DatasetError(f"{path} is too large", expected=f"{MAX_MANIFEST_BYTES} bytes", got="more")
        return tuple(bytes.fromhex(item["name"]) for item in json.loads(path.read_bytes())["objects"])
    except OSError as error:
        raise DatasetError("cannot read the manifest", got=f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DatasetError(f"{path} is no manifest", got=f"{type(error).__name__}: {error}") from error


def _open_one(path: Path, resolution: int, progress: Callable[[int], object]) -> LabelledFaces:
    if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES:
        progress(1)
        return _open_file(path, resolution)
    root = path / IMAGES if is_batch(path) else path
    faces = open_faces(root, resolution=resolution, need_labels=False, progress=lambda _: progress(1))
    if root is path and path.is_file() and BATCH_FILE in _top_names(path):
        inside = np.array([name.startswith(f"{IMAGES}/") for name in faces.names], dtype=np.bool_)
        return faces.subset(inside)
    return faces


def _open_file(path: Path, resolution: int) -> LabelledFaces:
    if path.stat().st_size > MAX_ENTRY_BYTES:
        raise DatasetError(
            f"{path} is too large", expected=f"{MAX_ENTRY_BYTES} bytes", got=str(path.stat().st_size)
        )
    data = path.read_bytes()
    digest = hashlib.sha256(data)
    return LabelledFaces(
        images=to_grey(decode_image(str(path), data, resolution))[None],
        labels=np.array([UNLABELLED], dtype=np.int64),
        usages=(UNKNOWN_USAGE,),
        names=(path.name,),
        file_hashes=(digest.digest(),),
        digest=digest.hexdigest(),
        source=path.name,
    )


def _top_names(path: Path) -> frozenset[str]:
    if path.is_dir():
        return frozenset(name for name in PRODUCED_FILES if (path / name).is_file())
    if not zipfile.is_zipfile(path):
        return frozenset()
    try:
        with zipfile.ZipFile(path) as archive:
            return frozenset(archive.namelist()) & frozenset(PRODUCED_FILES)
    except zipfile.BadZipFile as error:
        raise DatasetError("damaged archive", expected="a zip", got=f"{path}: {error}") from error
