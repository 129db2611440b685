"""Both stores, under one fixture."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from facechain.node.store.lmdb_store import LmdbStore
from facechain.node.store.memory import MemoryStore
from facechain.node.store.port import Store


@pytest.fixture(params=["memory", "lmdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened: Store = MemoryStore.open() if request.param == "memory" else LmdbStore.open(tmp_path / "store")
    with opened:
        yield opened
