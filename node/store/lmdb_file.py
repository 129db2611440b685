"""What an LMDB data file says about itself, read without LMDB: is it whole?

LMDB maps the file, so a file that lost its tail does not fail with an error: it kills the process with
SIGBUS. Hence the file's length is compared with its newest meta page before LMDB sees it. Owns that check
and the walk over all pages; repairs nothing. Layout: LMDB 0.9, `struct MDB_meta`, 64 bit, native order.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .errors import StoreCorrupt

DATA_NAME: Final = "data.mdb"

_MAGIC: Final = 0xBEEFC0DE
_PAGE_HEADER_BYTES: Final = 16
_META: Final = struct.Struct("=IIQQ48s48sQQ")
"""magic, version, address, map size, two MDB_db records, last page, transaction id."""
_PAGE_SIZE: Final = struct.Struct("=I")
"""First field of the first MDB_db record: the page size is kept in `md_pad` of the free list's."""
_PAGE_BYTES: Final = frozenset(1 << power for power in range(8, 17))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Meta:
    page_bytes: int
    last_page: int
    transaction: int


def check_file(folder: Path) -> None:
    """Raise StoreCorrupt when `folder` holds a data file that LMDB must not be given. No file is fine."""
    path = folder / DATA_NAME
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return
    if size == 0:  # created, and nothing written yet: LMDB begins it again
        return
    with path.open("rb") as file:
        first = _meta(path, file.read(_PAGE_HEADER_BYTES + _META.size))
        file.seek(first.page_bytes)
        second = _meta(path, file.read(_PAGE_HEADER_BYTES + _META.size))
    newest = max(first, second, key=lambda meta: meta.transaction)
    needed = (newest.last_page + 1) * newest.page_bytes
    if size < needed and (problem := find_damage(folder)):
        raise StoreCorrupt(path, expected=f"a file of {needed} bytes", got=f"{size} bytes ({problem})")


def find_damage(folder: Path) -> str | None:
    """Walk every page of the data file (about 4 s per GB) and return the first fault, None when it is sound."""
    from lmdb import verify  # noqa: PLC0415 - one slow path needs it

    try:
        problems: list[str] = verify.verify(str(folder))  # type: ignore[no-untyped-call]
    except verify.VerifyError as error:
        return str(error)
    return problems[0] if problems else None


def _meta(path: Path, page: bytes) -> _Meta:
    if len(page) < _PAGE_HEADER_BYTES + _META.size:
        raise StoreCorrupt(path, expected="two meta pages", got="a file that ends before them")
    magic, _, _, _, free, _, last_page, transaction = _META.unpack_from(page, _PAGE_HEADER_BYTES)
    (page_bytes,) = _PAGE_SIZE.unpack_from(free)
    if magic != _MAGIC or page_bytes not in _PAGE_BYTES:
        raise StoreCorrupt(path, expected="an LMDB data file", got="other content")
    return _Meta(page_bytes=page_bytes, last_page=last_page, transaction=transaction)
