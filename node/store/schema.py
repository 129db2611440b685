"""The layout of the store: bucket names, composite keys, limits and the version of all that.

Owns names and sizes only. Heights, sizes and indexes inside keys are big-endian, so that the order of the
bytes is the order of the numbers; hashes and ids are 32 bytes.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from ...consensus.kv import Bucket
from .errors import StoreMisuse

SCHEMA_VERSION: Final = 2
"""Raised with every change to the meaning of a bucket, key or value.

An older store is migrated when it is opened (`node/migrations`), a newer one is refused.
"""

OLDEST_SCHEMA: Final = 1
"""The oldest version that is migrated."""

SCHEMA_KEY: Final = b"schema"
"""Key in `Table.META` whose value is the schema version as u32."""
PROBE_KEY: Final = b"probe"
"""In META: what a node writes and removes again to find out whether a store that failed works again."""
LEFT_TIP_KEY: Final = b"left-tip"
"""In META: hash of the tip that a deep reorganisation left, until the mempool holds what it took off."""

KEY_BYTES_MAX: Final = 511
"""Longest key: LMDB's compiled-in limit."""

VALUE_BYTES_MAX: Final = 1 << 30
"""Longest value; far above any genesis parameter's body limit, far below LMDB's 4 GiB."""


class Table(StrEnum):
    """Named buckets of the node: first those of the chain state (`consensus.kv.Bucket`), then its own."""

    ROLES = Bucket.ROLES.value
    ROLES_TREE = Bucket.ROLES_TREE.value
    SEQUENCES = Bucket.SEQUENCES.value
    SEQUENCES_TREE = Bucket.SEQUENCES_TREE.value
    STAGES = Bucket.STAGES.value
    STAGES_TREE = Bucket.STAGES_TREE.value
    PARAMETERS = Bucket.PARAMETERS.value
    PARAMETERS_TREE = Bucket.PARAMETERS_TREE.value
    HISTORY = Bucket.HISTORY.value
    META_STATE = Bucket.META_STATE.value
    META = "meta"
    """name -> value: schema version, network id, tip"""
    HEADERS = "headers"
    """block hash -> header record"""
    BODIES = "bodies"
    """block hash -> encoded body; prunable"""
    PRUNED = "pruned"
    """block hash -> statements of a body that was dropped, those of batches without payload"""
    UNDO = "undo"
    """block hash -> encoded delta"""
    ACTIVE = "active"
    """height u64 -> block hash of the active chain"""
    STATEMENTS = "statements"
    """statement id -> height u64 ‖ statement index u32 on the active chain"""
    BATCHES = "batches"
    """author ‖ records root ‖ height u64 ‖ statement index u32 -> statement id"""
    PIXELS = "pixels"
    """schema 1: pixel hash ‖ height u64 ‖ statement index u32 ‖ record index u32 -> empty; no rows since"""
    FILES = "files"
    """schema 1: file hash ‖ height u64 ‖ statement index u32 ‖ record index u32 -> empty; no rows since"""
    RUNS = "runs"
    """directory of the runs, see `node/runs/directory.py`"""
    PIXEL_RUNS = "pixel-runs"
    """first height u64 of a run ‖ last row of a chunk -> the chunk's rows, in order, each of 48 bytes:
    pixel hash ‖ height u64 ‖ statement index u32 ‖ record index u32"""
    FILE_RUNS = "file-runs"
    """the same with the file hash"""
    LOOKS = "looks"
    """height u64 ‖ statement index u32 -> perceptual column"""
    REFERENCES = "references"
    """named statement id ‖ height u64 ‖ statement index u32 -> kind u8 of the statement that names it"""
    MEMPOOL = "mempool"
    """statement leaf -> statement that was acknowledged and is not in a block yet"""
    PEERS = "peers"
    """address -> what is known about it"""
    BANS = "bans"
    """address or node key -> reason and expiry"""
    TESTS = "tests"
    """scratch bucket of the self-check and the tests; never read by the node"""


RETIRED: Final = (Table.PIXELS, Table.FILES)
"""Buckets of an older schema. They are empty; rows that a migration left are removed when the store is opened."""

BUCKETS: Final[tuple[str, ...]] = tuple(sorted({*map(str, Bucket), *map(str, Table)}))
"""Every bucket that a store has; a bucket that the rules add is here without being named above."""

_NAMES: Final = frozenset(BUCKETS)


def check_bucket(bucket: str) -> None:
    """Refuse a bucket that no store has (StoreMisuse)."""
    if bucket not in _NAMES:
        raise StoreMisuse(f"bucket: expected a name in schema.BUCKETS, got {bucket!r}")


def check_key(key: bytes) -> None:
    """Refuse an empty or over-long key (StoreMisuse)."""
    if not 0 < len(key) <= KEY_BYTES_MAX:
        raise StoreMisuse(f"key: expected 1 to {KEY_BYTES_MAX} bytes, got {len(key)}")


def check_value(value: bytes) -> None:
    """Refuse an over-long value (StoreMisuse)."""
    if len(value) > VALUE_BYTES_MAX:
        raise StoreMisuse(f"value: expected at most {VALUE_BYTES_MAX} bytes, got {len(value)}")


def check_bounds(start: bytes, stop: bytes | None, limit: int | None) -> None:
    """Refuse scan bounds that no key can have, and a negative limit (StoreMisuse)."""
    for name, bound in (("start", start), ("stop", stop)):
        if bound is not None and len(bound) > KEY_BYTES_MAX:
            raise StoreMisuse(f"scan {name}: expected at most {KEY_BYTES_MAX} bytes, got {len(bound)}")
    if limit is not None and limit < 0:
        raise StoreMisuse(f"scan limit: expected 0 or more, got {limit}")


def height_key(height: int) -> bytes:
    """Return `height` as the 8 bytes that sort like the number."""
    return height.to_bytes(8, "big")


def prefix_stop(prefix: bytes) -> bytes | None:
    """Return the first key after all those that begin with `prefix`; None when nothing comes after them."""
    head = prefix.rstrip(b"\xff")
    return head[:-1] + bytes([head[-1] + 1]) if head else None
