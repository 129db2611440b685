"""Data sets as one uint8 array in memory: from a folder, a zip archive or torchvision's CelebA.

Owns finding, decoding and resizing images. Refuses what is no image, by name.
"""

from __future__ import annotations

import csv
import hashlib
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from .errors import DatasetError

IMAGE_SUFFIXES = frozenset({".png", ".webp", ".jpg", ".jpeg", ".bmp"})
ARCHIVE_SUFFIX = ".zip"
ARRAY_SUFFIX = ".npy"
LABELS_NAME = "labels.csv"
CELEBA_IMAGES = "img_align_celeba"
CELEBA_IDENTITIES = "identity_CelebA.txt"
MAX_IMAGES = 1_000_000
MAX_NESTING = 3
MAX_ENTRY_BYTES = 32 * 2**20
MAX_NESTED_BYTES = 4 * 2**30
MAX_SOURCE_PIXELS = 4096 * 4096
RESIZER = "pillow-bicubic-antialias"

Pixels = NDArray[np.uint8]
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceSet:
    """A decoded data set.

    Attributes:
        images: (N, R, R, 3) uint8.
        names: path of each image inside its source, sorted.
        identities: person of each image, or "" where unknown.
        digest: SHA-256 over every name and file, hex; names the exact data.
        source: where it came from, the last path component only.
    """

    images: Pixels
    names: tuple[str, ...]
    identities: tuple[str, ...]
    digest: str
    source: str

    def __len__(self) -> int:
        return len(self.names)

    @property
    def resolution(self) -> int:
        """Side of the images, pixels."""
        return int(self.images.shape[1])

    def subset(self, chosen: NDArray[np.bool_]) -> FaceSet:
        """The images where `chosen` (N,) is true; the digest stays that of the whole."""
        keep = np.flatnonzero(chosen)
        return FaceSet(
            images=self.images[keep],
            names=tuple(self.names[i] for i in keep),
            identities=tuple(self.identities[i] for i in keep),
            digest=self.digest,
            source=self.source,
        )


def open_array(path: Path) -> FaceSet:
    """Map (N, H, W, 3) uint8 images from a NumPy file; pixels are read when they are needed.

    Raises:
        DatasetError: missing, no such array, or too many images.
    """
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(
            "cannot read the array", expected="a NumPy file", got=f"{path}: {error}"
        ) from error
    got = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[3:] != (3,):
        raise DatasetError("not an array of images", expected="uint8 (N, H, W, 3)", got=got)
    if not 1 <= len(images) <= MAX_IMAGES:
        raise DatasetError("number of images", expected=f"1..{MAX_IMAGES}", got=str(len(images)))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FaceSet(
        images=images,
        names=tuple(str(number) for number in range(len(images))),
        identities=("",) * len(images),
        digest=digest,
        source=path.name,
    )


def open_dataset(path: Path, *, resolution: int | None, progress: Progress | None = None) -> FaceSet:
    """Decode a folder, zip or CelebA root into memory, resized to `resolution`.

    Without a resolution the images keep their size, which must then be one and the same.

    Raises:
        DatasetError: the path is missing, has no image, or an image cannot be decoded.
    """
    if not path.exists():
        raise DatasetError("data set not found", expected="a folder or a zip archive", got=str(path))
    names: list[str] = []
    frames: list[Pixels] = []
    digest = hashlib.sha256()
    labels: dict[str, str] = _celeba_identities(path) if path.is_dir() else {}
    for name, data in read_entries(path):
        if PurePosixPath(name).name == LABELS_NAME:
            labels.update(_read_labels(name, data))
            continue
        if len(frames) >= MAX_IMAGES:
            raise DatasetError("too many images", expected=f"at most {MAX_IMAGES}", got="more")
        frames.append(decode_image(name, data, resolution))
        if frames[-1].shape != frames[0].shape:
            raise DatasetError(
                f"{name} differs in size", expected=str(frames[0].shape[:2]), got=str(frames[-1].shape[:2])
            )
        names.append(name)
        digest.update(f"{len(name)}:{name}".encode() + hashlib.sha256(data).digest())
        if progress is not None:
            progress(len(frames))
    if not frames:
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        raise DatasetError("no images in the data set", expected=kinds, got=f"none in {path}")
    return FaceSet(
        images=np.stack(frames),
        names=tuple(names),
        identities=tuple(_identity(labels, name) for name in names),
        digest=digest.hexdigest(),
        source=path.name,
    )


def split_by_identity(faces: FaceSet, *, holdout_share: float) -> tuple[FaceSet, FaceSet]:
    """Split into (training, held out) so that no person is in both.

    A person's side is the hash of the name alone, so it is the same in every run; an image
    without identity counts as a person of its own.
    """
    keys = [who or name for who, name in zip(faces.identities, faces.names, strict=True)]
    held = np.array([_unit_hash(key) < holdout_share for key in keys], dtype=np.bool_)
    return faces.subset(~held), faces.subset(held)


def _unit_hash(key: str) -> float:
    return int.from_bytes(hashlib.sha256(b"holdout/" + key.encode()).digest()[:6], "big") / 2**48


def read_entries(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the images and label tables in a folder or an archive, archives inside included.

    Raises:
        DatasetError: whatever way the archive is broken in, or an entry is larger than its limit.
    """
    try:
        yield from _entries(path)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DatasetError(
            "damaged or unreadable archive", expected="an unencrypted zip", got=f"{path}: {error}"
        ) from error


def _entries(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        yield from _folder_entries(path)
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from _zip_entries(archive, prefix="", depth=0)
    else:
        raise DatasetError("not a data set", expected="a folder or a zip archive", got=str(path))


def _wanted(name: str) -> bool:
    pure = PurePosixPath(name)
    if any(part.startswith((".", "__MACOSX")) for part in pure.parts):
        return False
    return pure.suffix.lower() in IMAGE_SUFFIXES or pure.name == LABELS_NAME


def _folder_entries(root: Path) -> Iterator[tuple[str, bytes]]:
    for file in sorted(root.rglob("*")):
        name = file.relative_to(root).as_posix()
        if not file.is_file():
            continue
        if _wanted(name):
            yield name, file.read_bytes()
        elif file.suffix.lower() == ARCHIVE_SUFFIX:
            with zipfile.ZipFile(file) as archive:
                yield from _zip_entries(archive, prefix=f"{name}/", depth=1)


def _zip_entries(archive: zipfile.ZipFile, *, prefix: str, depth: int) -> Iterator[tuple[str, bytes]]:
    for entry in sorted(archive.infolist(), key=lambda info: info.filename):
        name = entry.filename
        nested = name.lower().endswith(ARCHIVE_SUFFIX)
        if entry.is_dir() or not (nested or _wanted(name)):
            continue
        limit = MAX_NESTED_BYTES if nested else MAX_ENTRY_BYTES
        if entry.file_size > limit:
            raise DatasetError(
                f"{prefix}{name} is too large", expected=f"{limit} bytes", got=str(entry.file_size)
            )
        data = archive.read(entry)
        if not nested:
            yield prefix + name, data
        elif depth >= MAX_NESTING:
            raise DatasetError(
                "archives nested too deeply", expected=f"at most {MAX_NESTING}", got=prefix + name
            )
        else:
            with zipfile.ZipFile(io.BytesIO(data)) as inner:
                yield from _zip_entries(inner, prefix=f"{prefix}{name}/", depth=depth + 1)


def decode_image(name: str, data: bytes, resolution: int | None) -> Pixels:
    """One file as (H, W, 3) uint8; with a resolution its central square, resized.

    Raises:
        DatasetError: it is no image, or too large.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_SOURCE_PIXELS:
                raise DatasetError(
                    f"{name} is too large",
                    expected=f"at most {MAX_SOURCE_PIXELS} pixels",
                    got=f"{image.width}x{image.height}",
                )
            colour = image.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError) as error:
        got = "nothing that is an image" if isinstance(error, UnidentifiedImageError) else str(error)
        raise DatasetError(f"{name} cannot be decoded", got=got, hint="remove or repair this file") from error
    if resolution is None or colour.size == (resolution, resolution):
        return np.asarray(colour, dtype=np.uint8)
    return np.asarray(
        _square(colour).resize((resolution, resolution), Image.Resampling.BICUBIC), dtype=np.uint8
    )


def _square(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _read_labels(name: str, data: bytes) -> dict[str, str]:
    prefix = name[: -len(LABELS_NAME)]
    try:
        rows = csv.DictReader(io.StringIO(data.decode("utf-8")))
    except UnicodeDecodeError as error:
        raise DatasetError(f"{name} cannot be read", expected="UTF-8 text", got=str(error)) from error
    if rows.fieldnames is None or not {"file", "identity"} <= set(rows.fieldnames):
        return {}
    return {prefix + row["file"]: row["identity"] for row in rows}


def _celeba_identities(root: Path) -> dict[str, str]:
    for folder in (root, root / "celeba"):
        listing = folder / CELEBA_IDENTITIES
        if listing.is_file():
            pairs = (line.split() for line in listing.read_text(encoding="utf-8").splitlines())
            return {pair[0]: f"celeba_{pair[1]}" for pair in pairs if len(pair) == 2}
    return {}


def _identity(labels: dict[str, str], name: str) -> str:
    return labels.get(name) or labels.get(PurePosixPath(name).name, "")
