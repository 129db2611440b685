"""Folders and zip archives of images, read as untrusted input.

Owns which files there are and how their bytes are read: safe names only, no links out of the folder, bounded
in number and size, nothing written to disk. It does not look into the files; `batch_folder` does.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn, Protocol

from ..consensus.image import MAX_FILE_BYTES
from .bounded_files import read_bounded

FILES_MAX: Final = 2**21
"""Files in one source: twice the images of the largest batch part."""

GOT_CHARACTERS_MAX: Final = 300
"""What was got is shown up to here: an archive may hold anything."""

NAME_SHOWN_MAX: Final = 300
"""Characters of a member's name in an error; an archive may say 65,535."""

ARCHIVE_SUFFIX: Final = ".zip"
IGNORED_NAMES: Final = frozenset({"thumbs.db", "desktop.ini"})
IGNORED_FOLDERS: Final = frozenset({"__MACOSX"})

METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""Ways of packing that are taken. LZMA would reserve whatever size of dictionary, up to 4 GiB, a member claims."""

UNPACK_ERRORS: Final = (
    *(zipfile.BadZipFile, zlib.error, struct.error),
    *(EOFError, OSError, ValueError, NotImplementedError),
)
"""What the standard library raises for an archive or member that is damaged."""

_ENCRYPTED: Final = 0x1


class BatchRejected(Exception):
    """A folder, archive or file is not what a batch can be made of."""

    code: Final = "batch-rejected"

    def __init__(self, what: str, *, expected: str, got: str, advice: str | None = None) -> None:
        shown = got if len(got) <= GOT_CHARACTERS_MAX else got[:GOT_CHARACTERS_MAX] + "…"
        super().__init__(what, expected, shown)
        self.what = what
        self.expected = expected
        self.got = shown
        self.advice = advice

    def diagnostics(self) -> str:
        """Return the failure as one line for a person."""
        line = f"{self.what}: expected {self.expected}, got {self.got}"
        return line if self.advice is None else f"{line}; {self.advice}"

    def __str__(self) -> str:
        return self.diagnostics()


class Source(Protocol):
    """Named bytes."""

    @property
    def names(self) -> tuple[str, ...]:
        """Paths below the root with `/`, ascending."""
        ...

    def read(self, name: str, *, max_bytes: int = MAX_FILE_BYTES) -> bytes:
        """Return a file's bytes; BatchRejected when it is longer, gone or damaged."""
        ...

    def describe(self, name: str) -> str:
        """Return the name as a person finds it."""
        ...


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open a folder or a zip archive for reading; BatchRejected when it is neither."""
    if path.is_dir():
        yield FolderSource(path)
        return
    if not path.is_file():
        raise BatchRejected(str(path), expected="a folder or a zip archive", got="nothing there")
    try:
        archive = zipfile.ZipFile(path)
    except UNPACK_ERRORS as error:
        raise BatchRejected(str(path), expected="a folder or a zip archive", got=str(error)) from error
    with archive:
        yield ZipSource(path, archive)


class FolderSource:
    """A folder and what lies below it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.names = tuple(sorted(self._walk(root)))

    def _walk(self, root: Path) -> Iterator[str]:
        found = 0
        for folder, folders, files in os.walk(root, onerror=_refuse_folder):
            for path in (Path(folder, name) for name in (*folders, *files)):
                name = path.relative_to(root).as_posix()
                if is_ignored(name):
                    continue
                if path.is_symlink():
                    raise BatchRejected(
                        str(path),
                        expected="a file of this folder",
                        got="a link",
                        advice="copy the file instead",
                    )
                if path.is_dir():
                    continue
                if not path.is_file():
                    raise BatchRejected(str(path), expected="a plain file", got="a special one")
                found += 1
                check_count(root, found)
                yield name
            folders[:] = [name for name in folders if not is_ignored(name)]

    def read(self, name: str, *, max_bytes: int = MAX_FILE_BYTES) -> bytes:
        """See :class:`Source`."""
        try:
            with (self._root / name).open("rb") as file:
                data = read_bounded(file, max_bytes)
        except OSError as error:
            raise BatchRejected(
                self.describe(name), expected="a file that can be read", got=str(error.strerror)
            ) from error
        return _bounded(data, max_bytes, self.describe(name))

    def describe(self, name: str) -> str:
        """See :class:`Source`."""
        return str(self._root / name)


def _refuse_folder(error: OSError) -> NoReturn:
    """Leave nothing out in silence: half a batch would be registered as if it were whole."""
    raise BatchRejected(
        str(error.filename),
        expected="a folder that can be read",
        got=str(error.strerror),
        advice="check its owner and mode",
    ) from error


class ZipSource:
    """The members of a zip archive; never unpacked to disk."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path = path
        self._size_bytes = path.stat().st_size
        self._archive = archive
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in archive.infolist():
            if not member.filename:
                raise BatchRejected(str(path), expected="members with names", got="one without")
            if member.is_dir() or is_ignored(member.filename):
                continue
            self._check(member)
            self._members[member.filename] = member
            check_count(path, len(self._members))
        self.names = tuple(sorted(self._members))

    def _check(self, member: zipfile.ZipInfo) -> None:
        name = member.filename
        mode = member.external_attr >> 16
        problem = None
        if name.startswith("/") or "\\" in name or ":" in name or ".." in name.split("/"):
            problem = "a path that leads out of the archive"
        elif name in self._members:
            problem = "a name that is there twice"
        elif stat.S_ISLNK(mode):
            problem = "a link"
        elif member.flag_bits & _ENCRYPTED:
            problem = "an encrypted member"
        elif member.compress_size > self._size_bytes:
            # Reading reserves what the member claims.
            problem = "a size that the archive has not"
        elif member.compress_type not in METHODS:
            problem = "one packed by another method than deflate"
        if problem is not None:
            raise BatchRejected(self.describe(name), expected="a plain file below the archive", got=problem)

    def read(self, name: str, *, max_bytes: int = MAX_FILE_BYTES) -> bytes:
        """See :class:`Source`. What a member claims about its size is not believed."""
        try:
            with self._archive.open(self._members[name]) as file:
                data = file.read(max_bytes + 1)
        except UNPACK_ERRORS as error:
            raise BatchRejected(
                self.describe(name),
                expected="a member that unpacks",
                got=str(error) or "damaged data",
            ) from error
        return _bounded(data, max_bytes, self.describe(name))

    def describe(self, name: str) -> str:
        """See :class:`Source`."""
        return f"{self._path}/{name[:NAME_SHOWN_MAX]}"


class SubSource:
    """A source seen from one of its folders."""

    def __init__(self, inner: Source, prefix: str) -> None:
        self._inner = inner
        self._prefix = prefix
        self.names = tuple(name.removeprefix(prefix) for name in inner.names if name.startswith(prefix))

    def read(self, name: str, *, max_bytes: int = MAX_FILE_BYTES) -> bytes:
        """See :class:`Source`."""
        return self._inner.read(self._prefix + name, max_bytes=max_bytes)

    def describe(self, name: str) -> str:
        """See :class:`Source`."""
        return self._inner.describe(self._prefix + name)


def is_ignored(name: str) -> bool:
    """Tell whether a file is litter of an operating system: hidden, or one of the known names."""
    parts = name.split("/")
    hidden = any(part.startswith(".") and part not in {".", ".."} for part in parts)
    return hidden or not IGNORED_FOLDERS.isdisjoint(parts) or parts[-1].lower() in IGNORED_NAMES


def check_count(path: Path, count: int) -> None:
    """Refuse a source with too many files."""
    if count > FILES_MAX:
        raise BatchRejected(str(path), expected=f"at most {FILES_MAX} files", got="more")


def _bounded(data: bytes, max_bytes: int, what: str) -> bytes:
    if len(data) > max_bytes:
        raise BatchRejected(what, expected=f"at most {max_bytes} bytes", got="more")
    return data
