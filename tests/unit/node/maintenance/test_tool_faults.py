"""The store dies at the n-th operation of a tool, for every n: what is left verifies, and the tool can be run again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from facechain.node.maintenance import prune as prune_module
from facechain.node.maintenance import rollback as rollback_module
from facechain.node.maintenance.progress import silent
from facechain.node.maintenance.prune import prune_store
from facechain.node.maintenance.rollback import roll_back_store
from facechain.node.maintenance.verify import Level, Verification, verify_reader
from facechain.node.runs import directory
from facechain.node.store.lmdb_store import LmdbStore
from facechain.node.store.memory import MemoryStore, Operation
from facechain.node.store.port import Store, Writer
from facechain.node.store.schema import BUCKETS
from support.stored_chain import fill_store


class Died(Exception):
    """The process ended here."""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> MemoryStore:
    """A store in memory with the rows of a filled one."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(directory, "FAN", 2)
        fill_store(folder, blocks=6, records=1)
    memory = MemoryStore.open()
    with LmdbStore.open(folder) as store, store.read() as reader:
        rows = {bucket: list(reader.scan(bucket)) for bucket in BUCKETS}

    def copy(writer: Writer) -> None:
        for bucket, items in rows.items():
            writer.put_many(bucket, items)

    memory.transact(copy)
    return memory


def rows_of(store: Store) -> dict[str, list[tuple[bytes, bytes]]]:
    with store.read() as reader:
        return {bucket: list(reader.scan(bucket)) for bucket in BUCKETS}


def dying_at(number: int) -> Callable[[Operation], None]:
    counter: Iterator[int] = iter(range(number))

    def hook(_: Operation) -> None:
        if next(counter, None) is None:
            raise Died

    return hook


@pytest.mark.parametrize(
    "tool",
    [
        lambda store: roll_back_store(store, 2),
        lambda store: roll_back_store(store, 2, refuse=True),
        lambda store: prune_store(store, 2),
    ],
    ids=["rollback", "rollback --refuse", "prune"],
)
def test_a_tool_that_dies_anywhere_leaves_a_sound_store_and_can_be_run_again(
    filled: MemoryStore, tool: Callable[[Store], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "FAN", 2)  # so that blocks merge runs, and going back splits them
    for module in (rollback_module, prune_module):
        monkeypatch.setattr(module, "GROUP_BLOCKS_MAX", 2)
    clean = filled.reopen()
    tool(clean)
    expected, seen = rows_of(clean), set()
    for number in range(10_000):
        store = filled.reopen(on_operation=dying_at(number))
        try:
            tool(store)
        except Died:
            left = store.reopen()
            content = rows_of(left)
            key = hash(str(content))
            if key not in seen:  # the same rows as after an earlier death need no second look
                seen.add(key)
                with left.read() as reader:
                    verify_reader(reader, Verification(level=Level.INDEXES), silent, name="memory")
                tool(left)
                assert rows_of(left) == expected
        else:
            break
    assert number > 20
    assert len(seen) > 2
