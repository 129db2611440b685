"""Key-value views of the chain state: the ports that stores fill, an overlay of changes, and their undo.

Owns the names of the state's buckets and the canonical form of a change set. It knows nothing about what
the buckets hold, and keeps nothing on disk: a store hands in a `StateReader` and takes away a `Delta`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Final, NamedTuple, Protocol

from .encoding import as_array, as_bytes, as_list, pack, unpack
from .errors import DecodeError

MAX_KEY_BYTES: Final = 256
"""Longest key of a bucket; LMDB allows 511 bytes, of which a store may need some itself."""

_CHANGE_FIELDS: Final = 4


class Bucket(StrEnum):
    """Named parts of the chain state. A `*_TREE` bucket holds the nodes of the sparse tree over its sibling."""

    ROLES = "roles"
    ROLES_TREE = "roles-tree"
    SEQUENCES = "sequences"
    SEQUENCES_TREE = "sequences-tree"
    STAGES = "stages"
    STAGES_TREE = "stages-tree"
    PARAMETERS = "parameters"
    PARAMETERS_TREE = "parameters-tree"
    HISTORY = "history"
    META_STATE = "meta-state"


_BUCKET_NAMES: Final = frozenset(bucket.value for bucket in Bucket)


class MissingNode(LookupError):
    """A tree's stored node is not there: the store is damaged, or belongs to another state. Nobody's fault."""


class Nodes(Protocol):
    """One bucket, or anything else that keeps bytes under bytes."""

    def get(self, key: bytes, /) -> bytes | None:
        """Return the value under `key`, None when there is none."""
        ...

    def put(self, key: bytes, value: bytes, /) -> None:
        """Keep `value` under `key`."""
        ...

    def delete(self, key: bytes, /) -> None:
        """Forget `key`; nothing happens when it is not there."""
        ...


class StateReader(Protocol):
    """Read access to all buckets at one moment of the chain."""

    def get(self, bucket: Bucket, key: bytes, /) -> bytes | None:
        """Return the value under `key` in `bucket`, None when there is none."""
        ...


class Change(NamedTuple):
    """One key of one bucket before and after; None means absent. A tuple, since a block makes many."""

    bucket: Bucket
    key: bytes
    old: bytes | None
    new: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What a block changed: real changes only, in ascending order of (bucket name, key), each key once."""

    changes: tuple[Change, ...]

    def __iter__(self) -> Iterator[Change]:
        return iter(self.changes)

    def __len__(self) -> int:
        return len(self.changes)

    def inverse(self) -> Delta:
        """Return the change set that takes this one back (the block's undo data)."""
        return Delta(
            changes=tuple(Change(bucket=c.bucket, key=c.key, old=c.new, new=c.old) for c in self.changes)
        )

    def encode(self) -> bytes:
        """Return canonical MessagePack: an array of [bucket str, key bin, old bin|nil, new bin|nil]."""
        return pack([[c.bucket, c.key, c.old, c.new] for c in self.changes])

    @classmethod
    def decode(cls, data: bytes) -> Delta:
        """Read what `encode` wrote; DecodeError on anything else, including another order or encoding."""
        rows = as_list(unpack(data, max_bytes=len(data), max_items=len(data)), "delta", max_items=len(data))
        changes = tuple(_change_from(row) for row in rows)
        _check_order(changes)
        return cls(changes=changes)


def _change_from(row: object) -> Change:
    name, key, old, new = as_array(row, "delta row", _CHANGE_FIELDS)
    if not isinstance(name, str) or name not in _BUCKET_NAMES:
        raise DecodeError("delta bucket", expected="the name of a bucket", got=repr(name)[:40])
    change = Change(
        bucket=Bucket(name),
        key=as_bytes(key, "delta key", max_size=MAX_KEY_BYTES),
        old=None if old is None else as_bytes(old, "delta old value"),
        new=None if new is None else as_bytes(new, "delta new value"),
    )
    if change.old == change.new:
        raise DecodeError("delta row", expected="a real change", got="the same value before and after")
    return change


def _check_order(changes: tuple[Change, ...]) -> None:
    for before, after in pairwise(changes):
        if (before.bucket, before.key) >= (after.bucket, after.key):
            raise DecodeError(
                "delta order", expected="ascending (bucket, key)", got="out of order or repeated"
            )


class Overlay:
    """Changes on top of a reader that is left as it is.

    Reads see the changes first. Each key of the reader is read at most once more when the delta is made.
    An overlay is itself a reader, so another one can lie on top of it, and be taken in (`take`) or thrown away.
    """

    def __init__(self, reader: StateReader) -> None:
        """Start without changes over `reader`."""
        self._reader = reader
        self._changed: defaultdict[Bucket, dict[bytes, bytes | None]] = defaultdict(dict)

    def get(self, bucket: Bucket, key: bytes, /) -> bytes | None:
        """Return the value under `key` as changed here, else as the reader has it."""
        changed = self._changed[bucket]
        return changed[key] if key in changed else self._reader.get(bucket, key)

    def put(self, bucket: Bucket, key: bytes, value: bytes, /) -> None:
        """Keep `value` under `key`; ValueError on a key longer than `MAX_KEY_BYTES`."""
        if len(key) > MAX_KEY_BYTES:
            raise ValueError(f"key: expected at most {MAX_KEY_BYTES} bytes, got {len(key)}")
        self._changed[bucket][key] = value

    def delete(self, bucket: Bucket, key: bytes, /) -> None:
        """Forget `key`; nothing happens when it is not there."""
        self._changed[bucket][key] = None

    def bucket(self, name: Bucket) -> BucketView:
        """Return one bucket of this overlay as `Nodes`; it stays live."""
        return BucketView(self, name)

    def apply(self, changes: Iterable[Change]) -> None:
        """Write the `new` side of every change. ValueError when the `old` side is not what is there."""
        for change in changes:
            if self.get(change.bucket, change.key) != change.old:
                raise ValueError(
                    f"{change.bucket}/{change.key.hex()}: expected the value that the change replaces, "
                    "got another; the change set belongs to a different state"
                )
            self._changed[change.bucket][change.key] = change.new

    def changed(self) -> Iterator[tuple[Bucket, bytes, bytes | None]]:
        """Yield what was written, in no order; a value may be the one that was there before."""
        for bucket, entries in self._changed.items():
            for key, new in entries.items():
                yield bucket, key, new

    def take(self, upper: Overlay) -> None:
        """Take in the changes of an overlay that lies on this one."""
        for bucket, entries in upper._changed.items():
            self._changed[bucket].update(entries)

    def delta(self) -> Delta:
        """Return the real changes (old differs from new) since the start, sorted by (bucket name, key)."""
        found = []
        for bucket, entries in sorted(self._changed.items()):
            for key in sorted(entries):
                old, new = self._reader.get(bucket, key), entries[key]
                if old != new:
                    found.append(Change(bucket=bucket, key=key, old=old, new=new))
        return Delta(changes=tuple(found))


class BucketView:
    """One bucket of an `Overlay`, as the tree modules want it (`Nodes`)."""

    __slots__ = ("_name", "_overlay")

    def __init__(self, overlay: Overlay, name: Bucket) -> None:
        """Look at bucket `name` of `overlay`."""
        self._overlay = overlay
        self._name = name

    def get(self, key: bytes, /) -> bytes | None:
        """Return the value under `key`, None when there is none."""
        return self._overlay.get(self._name, key)

    def put(self, key: bytes, value: bytes, /) -> None:
        """Keep `value` under `key`."""
        self._overlay.put(self._name, key, value)

    def delete(self, key: bytes, /) -> None:
        """Forget `key`; nothing happens when it is not there."""
        self._overlay.delete(self._name, key)
