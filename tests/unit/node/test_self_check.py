"""The start-up self-check: each kind of damage that it claims to find is found, and a sound store passes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from facechain.consensus.kv import Bucket
from facechain.node import self_check
from facechain.node.chain_index import HEADER_FLAG_INVALID, TIP_KEY
from facechain.node.chainstate import ChainState
from facechain.node.maintenance.prune import prune
from facechain.node.meta_keys import BASE_KEY, CHECKPOINT_KEY, GENESIS_KEY, NETWORK_KEY, PRUNED_KEY
from facechain.node.self_check import StoreUnsound
from facechain.node.store.lmdb_store import LmdbStore
from facechain.node.store.memory import MemoryStore
from facechain.node.store.port import Writer
from facechain.node.store.schema import Table, height_key
from support.chain import make_genesis
from support.stored_chain import StoredChain, fill_store, stored_rows

Rows = dict[str, dict[bytes, bytes]]
Damage = Callable[[Rows, StoredChain], None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StoredChain]:
    folder = tmp_path_factory.mktemp("whole") / "store"
    return folder, fill_store(folder)


def opened(rows: Rows, stored: StoredChain) -> ChainState:
    """Open a chain on a store that holds exactly these rows."""
    store = MemoryStore.open()

    def fill(writer: Writer) -> None:
        for table, items in rows.items():
            writer.put_many(table, items.items())

    store.transact(fill)
    return ChainState.open(store, stored.builder.genesis)


def drop(table: str, key: Callable[[StoredChain], bytes]) -> Damage:
    def damage(rows: Rows, stored: StoredChain) -> None:
        del rows[table][key(stored)]

    return damage


def put(table: str, key: Callable[[StoredChain], bytes], value: Callable[[StoredChain], bytes]) -> Damage:
    def damage(rows: Rows, stored: StoredChain) -> None:
        rows[table][key(stored)] = value(stored)

    return damage


def flip(table: str, key: Callable[[StoredChain], bytes], at: int) -> Damage:
    def damage(rows: Rows, stored: StoredChain) -> None:
        value = bytearray(rows[table][key(stored)])
        value[at] ^= 4
        rows[table][key(stored)] = bytes(value)

    return damage


def row(height: int) -> Callable[[StoredChain], bytes]:
    return lambda _: height_key(height)


def name(key: bytes) -> Callable[[StoredChain], bytes]:
    return lambda _: key


def block(height: int) -> Callable[[StoredChain], bytes]:
    return lambda stored: stored.active[height - 1].hash


def side(stored: StoredChain) -> bytes:
    return stored.side[0].hash


def first_key(table: str) -> Damage:
    """Lose the root of a tree of the state: the node under the shortest, lowest key."""

    def damage(rows: Rows, _stored: StoredChain) -> None:
        del rows[table][min(rows[table], key=lambda key: (len(key), key))]

    return damage


DAMAGES: dict[str, tuple[Damage, str]] = {
    "row of block 0 lost": (drop(Table.ACTIVE, row(0)), "height 0: expected block 0"),
    "row of block 0 names another": (put(Table.ACTIVE, row(0), block(1)), "height 0: expected block 0"),
    "row in the middle lost": (drop(Table.ACTIVE, row(4)), "height 4: expected the block's hash"),
    "last row lost": (drop(Table.ACTIVE, row(8)), "meta 'tip': expected"),
    "row too many": (put(Table.ACTIVE, row(9), block(8)), "height 9: expected a child of block"),
    "row names a side block": (put(Table.ACTIVE, row(5), side), "height 6: expected a child of block"),
    "row names nothing": (put(Table.ACTIVE, row(5), name(b"")), "height 5: expected the block's hash"),
    "row names an unknown block": (put(Table.ACTIVE, row(5), name(bytes(32))), "expected the header of this"),
    "row above a gap": (put(Table.ACTIVE, row(11), block(8)), "height 9: expected the block's hash"),
    "header of block 0 lost": (
        lambda rows, stored: drop(Table.HEADERS, lambda _: stored.builder.genesis_block.hash)(rows, stored),
        "expected the header of this hash",
    ),
    "header lost": (drop(Table.HEADERS, block(3)), "expected the header of this hash.* got nothing"),
    "bit of a header flipped": (flip(Table.HEADERS, block(3), 100), "expected the header of this hash"),
    "active header without body flag": (flip(Table.HEADERS, block(3), -1), "and flags 06"),
    "active header marked refused": (
        lambda rows, stored: rows[Table.HEADERS].update(
            {
                stored.active[2].hash: rows[Table.HEADERS][stored.active[2].hash][:-1]
                + bytes([HEADER_FLAG_INVALID])
            }
        ),
        "and flags 01",
    ),
    "header cut short": (
        put(Table.HEADERS, block(3), name(b"\x00" * 200)),
        "expected the header of this hash",
    ),
    "bit of a side header flipped": (flip(Table.HEADERS, side, 100), "expected the header of this hash"),
    "side header with unknown flags": (flip(Table.HEADERS, side, -1), "and flags 06"),
    "tip lost": (drop(Table.META, name(TIP_KEY)), "meta 'tip': expected .* got nothing"),
    "tip of before": (put(Table.META, name(TIP_KEY), block(7)), "meta 'tip': expected"),
    "network id lost": (drop(Table.META, name(NETWORK_KEY)), "meta 'network': expected .* got nothing"),
    "genesis lost": (drop(Table.META, name(GENESIS_KEY)), "meta 'genesis': expected what was written"),
    "genesis of another network": (
        put(Table.META, name(GENESIS_KEY), lambda _: make_genesis(name="other").encode()),
        "meta 'genesis': expected network",
    ),
    "checkpoint too short": (
        put(Table.META, name(CHECKPOINT_KEY), name(b"\x01")),
        "'checkpoint': expected a",
    ),
    "checkpoint above the tip": (put(Table.META, name(CHECKPOINT_KEY), row(9)), "'checkpoint': expected a"),
    "checkpoint forgotten": (drop(Table.META, name(CHECKPOINT_KEY)), "in force: .* height 0 remembered"),
    "pruned above the tip": (
        put(Table.META, name(PRUNED_KEY), row(9)),
        "'pruned': expected a height up to 8",
    ),
    "pruned without what stays": (
        put(Table.META, name(PRUNED_KEY), row(3)),
        "table 'pruned': expected 2 rows",
    ),
    "base above the tip": (put(Table.META, name(BASE_KEY), row(9)), "meta 'base': expected a height up to 8"),
    "base below undo data": (put(Table.META, name(BASE_KEY), row(3)), "table 'undo': expected 5 rows, got 9"),
    "undo data of the tip lost": (drop(Table.UNDO, block(8)), "table 'undo': expected 9 rows, got 8"),
    "undo data misplaced": (
        lambda rows, stored: rows[Table.UNDO].update(
            {bytes(32): rows[Table.UNDO].pop(stored.active[7].hash)}
        ),
        "undo data of block .* at height 8: expected it",
    ),
    "undo data garbled": (put(Table.UNDO, block(7), name(b"\xc1")), "undo data of block .* at height 7"),
    "body of the tip lost": (drop(Table.BODIES, block(8)), "body of block .* at height 8: expected it"),
    "body of an earlier block lost": (drop(Table.BODIES, block(2)), "body of block .* at height 2"),
    "body garbled": (put(Table.BODIES, block(8), name(b"\xc1")), "height 8: expected what was written"),
    "body of another block": (
        lambda rows, stored: rows[Table.BODIES].update(
            {stored.active[7].hash: rows[Table.BODIES][stored.active[6].hash]}
        ),
        "height 8: expected body root",
    ),
    "roles lost": (first_key(Bucket.ROLES_TREE), "state at height 8"),
    "sequences lost": (first_key(Bucket.SEQUENCES_TREE), "state at height 8"),
    "stages lost": (first_key(Bucket.STAGES_TREE), "state at height 8"),
    "parameters lost": (first_key(Bucket.PARAMETERS_TREE), "state at height 8"),
    "state of before": (lambda rows, _: rows[Bucket.HISTORY].clear(), "state at height 8"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damage_is_found_and_named(whole: tuple[Path, StoredChain], case: str) -> None:
    folder, stored = whole
    damage, message = DAMAGES[case]
    rows = stored_rows(folder)
    assert opened(rows, stored).tree.tip.hash == stored.active[-1].hash
    damage(rows, stored)
    with pytest.raises(StoreUnsound, match=message) as caught:
        opened(rows, stored)
    line = caught.value.diagnostics()
    assert line.startswith("store-damaged: ")
    for advice in ("facechain db verify", "facechain db reindex", "facechain db snapshot import"):
        assert advice in line


def test_what_is_remembered_of_a_checkpoint_must_be_of_this_chain(whole: tuple[Path, StoredChain]) -> None:
    """The state names block 1; a chain whose block 1 is another cannot be built, so the state is bent instead."""
    folder, stored = whole
    rows = stored_rows(folder)
    key = next(
        key
        for key, value in rows[Bucket.PARAMETERS].items()
        if value == height_key(1) + stored.active[0].hash
    )
    for wrong in (height_key(1) + stored.active[1].hash, height_key(77) + stored.active[0].hash):
        rows[Bucket.PARAMETERS][key] = wrong
        with pytest.raises(StoreUnsound, match="checkpoint in force: expected block"):
            opened(rows, stored)


def test_only_the_last_blocks_are_read(
    whole: tuple[Path, StoredChain], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, stored = whole
    monkeypatch.setattr(self_check, "CHECKED_BLOCKS", 3)
    for height, found in ((8, True), (6, True), (5, False)):
        rows = stored_rows(folder)
        rows[Table.BODIES][block(height)(stored)] = b"\xc1"
        assert is_refused(rows, stored) == found, height


def test_large_bodies_end_the_check_early(
    whole: tuple[Path, StoredChain], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, stored = whole
    rows = stored_rows(folder)
    last = len(rows[Table.BODIES][block(8)(stored)])
    rows[Table.BODIES][block(7)(stored)] = b"\xc1"
    monkeypatch.setattr(self_check, "CHECKED_BODY_BYTES", last)
    assert is_refused(rows, stored)
    monkeypatch.setattr(self_check, "CHECKED_BODY_BYTES", last - 1)
    assert not is_refused(rows, stored)


def is_refused(rows: Rows, stored: StoredChain) -> bool:
    try:
        opened(rows, stored)
    except StoreUnsound:
        return True
    return False


def test_side_header_whose_parent_is_gone_is_passed_over(whole: tuple[Path, StoredChain]) -> None:
    folder, stored = whole
    rows = stored_rows(folder)
    assert side(stored) in opened(rows, stored).tree.nodes
    child = stored.builder.forge(parent=stored.side[0])
    rows[Table.HEADERS][child.hash] = child.sealed.encode() + bytes([0])
    chain = opened(rows, stored)
    assert chain.tree.nodes[child.hash].parent is chain.tree.nodes[side(stored)]
    del rows[Table.HEADERS][side(stored)]
    chain = opened(rows, stored)
    assert child.hash not in chain.tree.nodes
    assert chain.tree.tip.hash == stored.active[-1].hash


def test_pruned_store_is_checked_by_what_was_kept(whole: tuple[Path, StoredChain], tmp_path: Path) -> None:
    folder, stored = whole
    shutil.copytree(folder, tmp_path / "store")
    prune(tmp_path / "store", keep=3)
    rows = stored_rows(tmp_path / "store")
    chain = opened(rows, stored)
    assert chain.pruned_below > 1
    assert chain.tree.tip.hash == stored.active[-1].hash
    for value, message in ((b"\xc1", "height 2: expected what was written"), (b"\x90", "height 2")):
        rows[Table.PRUNED][block(2)(stored)] = value
        with pytest.raises(StoreUnsound, match=message):
            opened(rows, stored)
    del rows[Table.PRUNED][block(2)(stored)]
    with pytest.raises(StoreUnsound, match="table 'pruned'"):
        opened(rows, stored)


def test_damage_on_disk_is_found_as_well(whole: tuple[Path, StoredChain], tmp_path: Path) -> None:
    folder, stored = whole
    shutil.copytree(folder, tmp_path / "store")
    with LmdbStore.open(tmp_path / "store") as store:
        ChainState.open(store, stored.builder.genesis)
        store.transact(lambda writer: writer.delete(Table.UNDO, stored.active[-1].hash))
        with pytest.raises(StoreUnsound, match="table 'undo'"):
            ChainState.open(store, stored.builder.genesis)
