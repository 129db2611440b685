"""Names and composite keys of the store."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facechain.consensus.kv import MAX_KEY_BYTES, Bucket
from facechain.node.store.schema import BUCKETS, KEY_BYTES_MAX, SCHEMA_VERSION, Table, height_key, prefix_stop


def test_every_state_bucket_is_a_table() -> None:
    assert {bucket.value for bucket in Bucket} <= {table.value for table in Table}


def test_buckets_are_all_tables_once() -> None:
    assert sorted(Table) == list(BUCKETS)
    assert len(set(BUCKETS)) == len(BUCKETS)


def test_longest_state_key_fits() -> None:
    assert MAX_KEY_BYTES <= KEY_BYTES_MAX


def test_the_page_describes_every_table_once_and_this_schema() -> None:
    page = (Path(__file__).parents[4] / "docs" / "operations.md").read_text()
    layout = page.split("## Key layout")[1].split("\n## ")[0]
    first = [line.split("|")[1] for line in layout.splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"`([a-z-]+)`", " ".join(first))) == sorted(BUCKETS)
    versions = page.split("## A store of an older version")[1].split("\n## ")[0]
    assert re.findall(r"^\| (\d+) \|", versions, re.MULTILINE)[-1] == str(SCHEMA_VERSION)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_height_keys_sort_like_heights(one: int, other: int) -> None:
    assert (one < other) == (height_key(one) < height_key(other))


@pytest.mark.parametrize(
    "prefix, stop",
    [(b"a", b"b"), (b"a\xff", b"b"), (b"a\xff\x01", b"a\xff\x02"), (b"\xff\xff", None), (b"", None)],
)
def test_prefix_stop(prefix: bytes, stop: bytes | None) -> None:
    assert prefix_stop(prefix) == stop


@given(st.binary(max_size=4), st.binary(max_size=4))
def test_prefix_stop_bounds_exactly_the_prefix(prefix: bytes, key: bytes) -> None:
    stop = prefix_stop(prefix)
    assert key.startswith(prefix) == (prefix <= key and (stop is None or key < stop))
