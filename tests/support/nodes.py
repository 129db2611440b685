"""A bucket of tree nodes in a dict, with its reads and writes counted."""

from __future__ import annotations


class DictNodes:
    def __init__(self) -> None:
        self.stored: dict[bytes, bytes] = {}
        self.reads = 0
        self.writes = 0

    def get(self, key: bytes, /) -> bytes | None:
        self.reads += 1
        return self.stored.get(key)

    def put(self, key: bytes, value: bytes, /) -> None:
        self.writes += 1
        self.stored[key] = value

    def delete(self, key: bytes, /) -> None:
        self.writes += 1
        self.stored.pop(key, None)

    def forget_counts(self) -> None:
        self.reads = self.writes = 0
