"""What can go wrong with a store: each failure one type, one code and one line that says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar


class StoreError(Exception):
    """The store could not do what was asked; nothing of the transaction was kept."""

    code: ClassVar[str] = "store-error"

    def diagnostics(self) -> str:
        """Return the failure as one line for a person."""
        return f"{self.code}: {self}"


class StoreMisuse(StoreError):
    """The caller broke the port's contract: a bad key, an unknown bucket, a nested transaction."""

    code = "store-misuse"


class StoreClosed(StoreMisuse):
    """The store, or the transaction that a reader belongs to, has ended."""

    code = "store-closed"


class StoreBusy(StoreError):
    """Readers stayed open for longer than the store waits for them."""

    code = "store-busy"


class StoreFull(StoreError):
    """The disk or the largest allowed map has no room. What was committed stays readable."""

    code = "store-full"


class StoreCorrupt(StoreError):
    """The file on disk is not a whole, sound store."""

    code = "store-corrupt"

    def __init__(self, path: Path, *, expected: str, got: str) -> None:
        super().__init__(
            f"{path}: expected {expected}, got {got}; restore a backup, or remove the folder and sync again"
        )


class StoreLocked(StoreError):
    """Another process, or this one already, has the store open."""

    code = "store-locked"

    def __init__(self, path: Path, *, holder: str) -> None:
        super().__init__(f"{path} is in use by {holder}; stop that node first, or choose another --data-dir")


class StoreSchema(StoreError):
    """The store was written by a facechain with another layout."""

    code = "store-schema"

    def __init__(self, path: Path, *, expected: int, got: int | None, oldest: int) -> None:
        if got is not None and got > expected:
            remedy = "install the newer facechain that wrote it"
        elif got is not None and got >= oldest:
            remedy = "start the node: it brings the store to this schema"
        else:
            remedy = "remove the folder and sync again"
        found = "none" if got is None else str(got)
        super().__init__(f"{path}: expected store schema {expected}, got {found}; {remedy}")
