"""A local folder of images by file hash, so that the explorer has something to show.

Owns the folder and its quota. It is a cache of public images, no part of the chain: an image that is not here
is `object-not-available`, which says nothing about whether it is registered. Calls do file I/O; make them in
an executor.
"""

from __future__ import annotations

import os
import secrets
import threading
from pathlib import Path
from typing import Final

from ...consensus.hashing import sha256
from ...consensus.image import decode_image
from .limits import OBJECT_BYTES_MAX, OBJECT_QUOTA_BYTES
from .problems import ApiProblem

FOLDER_MODE: Final = 0o700


class ObjectFolder:
    """Images by SHA-256 of their bytes, in sub-folders by the first two digits."""

    def __init__(self, root: Path, *, quota_bytes: int = OBJECT_QUOTA_BYTES) -> None:
        self._root = root
        self._quota_bytes = quota_bytes
        self._lock = threading.Lock()
        self.size_bytes = 0
        self.count = 0

    @classmethod
    def open(cls, root: Path, *, quota_bytes: int = OBJECT_QUOTA_BYTES) -> ObjectFolder:
        """Make the folder if it is missing, remove unfinished files, and count what is in it."""
        folder = cls(root, quota_bytes=quota_bytes)
        root.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        for path in root.glob("??/*"):
            if path.name.startswith("."):
                path.unlink(missing_ok=True)
            else:
                folder.size_bytes += path.stat().st_size
                folder.count += 1
        return folder

    def _path(self, digest: bytes) -> Path:
        name = digest.hex()
        return self._root / name[:2] / name

    def get(self, digest: bytes) -> bytes | None:
        """Return an image's bytes, None when it is not held."""
        try:
            return self._path(digest).read_bytes()
        except FileNotFoundError:
            return None

    def __contains__(self, digest: bytes) -> bool:
        return self._path(digest).exists()

    def put(self, digest: bytes, data: bytes) -> bool:
        """Keep an image; False when it was here already.

        Raises:
            ApiProblem: 413 `oversized`, 422 `object-mismatch`, 507 `object-quota`.
            ImageRejected: the bytes are no image that can be registered.
        """
        if len(data) > OBJECT_BYTES_MAX:
            raise ApiProblem(
                413,
                "oversized",
                f"expected an image of at most {OBJECT_BYTES_MAX} bytes, got {len(data)}",
                expected=OBJECT_BYTES_MAX,
                got=len(data),
            )
        if sha256(data) != digest:
            raise ApiProblem(
                422,
                "object-mismatch",
                "the body does not hash to the name it was sent under",
                expected=digest.hex(),
                got=sha256(data).hex(),
            )
        decode_image(data)
        with self._lock:
            return self._write(digest, data)

    def _write(self, digest: bytes, data: bytes) -> bool:
        path = self._path(digest)
        if path.exists():
            return False
        if self.size_bytes + len(data) > self._quota_bytes:
            raise ApiProblem(
                507,
                "object-quota",
                f"expected at most {self._quota_bytes} bytes of images here, got {self.size_bytes} already",
                expected=self._quota_bytes,
                got=self.size_bytes + len(data),
            )
        path.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
        scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            scratch.write_bytes(data)
            os.replace(scratch, path)  # noqa: PTH105 - atomic, and a cache needs no sync
        finally:
            scratch.unlink(missing_ok=True)
        self.size_bytes += len(data)
        self.count += 1
        return True


def media_type(data: bytes) -> str:
    """Return the media type of a held image, which is a PNG or a WebP."""
    return "image/webp" if data[:4] == b"RIFF" else "image/png"
