"""Content-addressed image store over fsspec: a local folder by default, S3 and others by URL.

Object names are SHA-256 in hex; layout `HEX[0:2]/HEX`. What is read is hashed before it is
believed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from typing import Any

from .errors import MissingPackageError, StoreError

HASH_BYTES = 32
MAX_OBJECT_BYTES = 64 * 2**20


class ImageStore:
    """A store at a folder or URL.

    Args:
        url: local path, or any URL that fsspec has a file system for.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        try:
            filesystem, root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise MissingPackageError(
                "the file system of the image store is not installed",
                expected="its package, such as s3fs for s3://",
                got=f"{url}: {error}",
                hint="pip install 'facechain-node[s3]' for S3",
            ) from error
        except ValueError as error:
            raise StoreError(
                "cannot open the image store",
                expected="a folder or a URL fsspec knows",
                got=f"{url}: {error}",
            ) from error
        self.url = url
        self._files: Any = filesystem
        self._root = str(root).rstrip("/")

    def path(self, name: bytes) -> str:
        """Where an object lies inside the file system."""
        if len(name) != HASH_BYTES:
            raise StoreError("object name", expected=f"{HASH_BYTES} bytes", got=str(len(name)))
        text = name.hex()
        return f"{self._root}/{text[:2]}/{text}"

    def put(self, data: bytes) -> bytes:
        """Store bytes and return their name; storing the same bytes again changes nothing."""
        if len(data) > MAX_OBJECT_BYTES:
            raise StoreError("object too large", expected=f"{MAX_OBJECT_BYTES} bytes", got=str(len(data)))
        name = hashlib.sha256(data).digest()
        final = self.path(name)
        try:
            if self._files.exists(final) and self._files.size(final) == len(data):
                return name
            self._files.makedirs(final.rsplit("/", 1)[0], exist_ok=True)
            temporary = f"{final}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
            try:
                self._files.pipe_file(temporary, data)
                self._files.mv(temporary, final)
            except BaseException:
                with contextlib.suppress(OSError):
                    self._files.rm_file(temporary)
                raise
        except OSError as error:
            raise StoreError("cannot write to the image store", got=f"{self.url}: {error}") from error
        return name

    def get(self, name: bytes) -> bytes:
        """Read an object and verify it.

        Raises:
            StoreError: it is not there (`message` says *not available*) or its bytes were altered.
        """
        try:
            data: bytes = self._files.cat_file(self.path(name))
        except FileNotFoundError as error:
            raise StoreError("image not available in this store", got=name.hex()) from error
        except OSError as error:
            raise StoreError("cannot read the image store", got=f"{self.url}: {error}") from error
        actual = hashlib.sha256(data).digest()
        if actual != name:
            raise StoreError("stored object was altered", expected=name.hex(), got=actual.hex())
        return data
