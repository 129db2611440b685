"""The chain state over both stores: connecting, reorganising, refusing, restarting, indexes and templates."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from facechain.consensus.block import Block, Body
from facechain.consensus.errors import ConsensusError, RuleViolation, Temporary
from facechain.consensus.payloads import Cancel, Checkpoint, Retract
from facechain.node.chain_index import Place, RecordPlace
from facechain.node.chainstate import ChainMismatch, ChainPolicy, ChainState
from facechain.node.store.lmdb_store import LmdbStore
from facechain.node.store.memory import MemoryStore
from facechain.node.store.port import Store
from facechain.node.store.schema import BUCKETS, SCHEMA_KEY, Table
from support.chain import ADMIN, PRODUCER, STRANGER, SUBMITTER, ChainBuilder, make_genesis, make_stage

NOW_MS = 2 * make_genesis().time_ms


@pytest.fixture(params=["memory", "lmdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened: MemoryStore | LmdbStore = (
        MemoryStore.open() if request.param == "memory" else LmdbStore.open(tmp_path / "store")
    )
    with opened:
        yield opened


@pytest.fixture
def builder() -> ChainBuilder:
    return ChainBuilder(make_genesis())


def contents(store: Store) -> dict[str, dict[bytes, bytes]]:
    """Return all rows but those of blocks that are kept for a later reorganisation, and the schema version."""
    kept = {Table.HEADERS, Table.BODIES}
    with store.read() as reader:
        rows = {bucket: dict(reader.scan(bucket)) for bucket in BUCKETS if bucket not in kept}
    rows[Table.META].pop(SCHEMA_KEY, None)
    return rows


def accept_all(chain: ChainState, blocks: list[Block]) -> None:
    for block in blocks:
        chain.accept_block(block, now_ms=NOW_MS)


def busy_blocks(
    builder: ChainBuilder, count: int, *, parent: Block | None = None, tag: str = ""
) -> list[Block]:
    """Mine blocks with a stage and a batch each."""
    blocks: list[Block] = []
    for number in range(count):
        parent = blocks[-1] if blocks else parent
        name = f"{tag}{number}"
        stage = builder.statement(SUBMITTER, make_stage(name=name), parent=parent)
        batch = builder.batch(SUBMITTER, 3, name=name) if parent is None else None
        statements = [stage] if batch is None else [stage, batch]
        blocks.append(builder.mine(statements, parent=parent))
    return blocks


def test_connects_blocks_and_answers_from_the_indexes(store: Store, builder: ChainBuilder) -> None:
    chain = ChainState.open(store, builder.genesis)
    first = builder.batch(SUBMITTER, 3, name="first")
    again = builder.batch(PRODUCER, 3, name="first")
    blocks = [builder.mine([first]), builder.mine([again])]
    accept_all(chain, blocks)
    record = builder.blocks[blocks[0].hash].body.statements[0].decode_payload().records[1]  # type: ignore[union-attr]
    with chain.snapshot() as reader:
        assert reader.tip_hash() == blocks[1].hash
        assert reader.statement(first.id) == (Place(1, 0), first)
        claims = (RecordPlace(1, 0, 1), RecordPlace(2, 0, 1))
        assert reader.claims_of_pixels(record.pixel_hash, limit=10) == claims
        assert reader.claims_of_file(record.file_hash, limit=1) == claims[:1]
        assert reader.batches_of(SUBMITTER.public, first.header.batch.records_root) == (first.id,)  # type: ignore[union-attr]
        assert [place for place, _ in reader.looks()] == [Place(1, 0), Place(2, 0)]


def test_references_lead_to_the_statements_that_name_one(store: Store, builder: ChainBuilder) -> None:
    chain = ChainState.open(store, builder.genesis)
    stage = builder.statement(SUBMITTER, make_stage())
    accept_all(chain, [builder.mine([stage])])
    retract = builder.statement(ADMIN, Retract(target=stage.id, record=None, reason="mistake"))
    accept_all(chain, [builder.mine([retract])])
    with chain.snapshot() as reader:
        assert tuple(reader.naming(stage.id, retract.kind)) == (Place(2, 0),)


def test_a_reorganisation_leaves_exactly_what_a_clean_node_has(store: Store, builder: ChainBuilder) -> None:
    common = busy_blocks(builder, 3, tag="common")
    short = busy_blocks(builder, 3, parent=common[-1], tag="short")
    long = busy_blocks(builder, 5, parent=common[-1], tag="long")
    chain = ChainState.open(store, builder.genesis)
    accept_all(chain, [*common, *short])
    assert chain.tree.tip.hash == short[-1].hash
    for block in long[:-1]:
        chain.accept_block(block, now_ms=NOW_MS)
    update = chain.accept_block(long[-1], now_ms=NOW_MS)
    assert chain.tree.tip.hash == long[-1].hash
    clean = MemoryStore.open()
    accept_all(ChainState.open(clean, builder.genesis), [*common, *long])
    assert contents(store) == contents(clean)
    assert not update.refused


def test_a_reorganisation_reports_blocks_oldest_first(builder: ChainBuilder) -> None:
    common = builder.mine_many(1)
    short = busy_blocks(builder, 2, parent=common[-1], tag="s")
    long = busy_blocks(builder, 3, parent=common[-1], tag="l")
    chain = ChainState.open(MemoryStore.open(), builder.genesis)
    accept_all(chain, [*common, *short, *long[:2]])
    update = chain.accept_block(long[2], now_ms=NOW_MS)
    assert update.disconnected == tuple(short)
    assert update.connected == tuple(long)


@pytest.mark.parametrize("seed", range(10))
def test_any_order_of_arrival_ends_at_the_same_place(builder: ChainBuilder, seed: int) -> None:
    trunk = builder.mine_many(4)
    left = builder.mine_many(3, parent=trunk[1])
    right = [builder.mine(parent=trunk[2], time_ms=trunk[2].header.time_ms + 11_000)]
    right += builder.mine_many(4, parent=right[-1])
    blocks = [*trunk, *left, *right]
    random.Random(seed).shuffle(blocks)
    chain = ChainState.open(MemoryStore.open(), builder.genesis)
    waiting = blocks
    while waiting:
        later = []
        for block in waiting:
            try:
                chain.accept_block(block, now_ms=NOW_MS)
            except Temporary:
                later.append(block)
        assert len(later) < len(waiting)
        waiting = later
    assert chain.tree.tip.hash == right[-1].hash
    clean = MemoryStore.open()
    accept_all(ChainState.open(clean, builder.genesis), [*trunk[:3], *right])
    assert contents(chain.store) == contents(clean)


def test_an_invalid_block_in_a_better_chain_is_refused_and_the_tip_stays(
    store: Store, builder: ChainBuilder
) -> None:
    chain = ChainState.open(store, builder.genesis)
    good = builder.mine()
    accept_all(chain, [good])
    bad = builder.forge(state_root=bytes(32))
    update = chain.accept_block(bad, now_ms=NOW_MS)
    assert [(block_hash, error.code) for block_hash, error in update.refused] == [
        (bad.hash, "bad-state-root")
    ]
    assert chain.tree.tip.hash == good.hash
    with pytest.raises(RuleViolation) as caught:
        chain.accept_block(bad, now_ms=NOW_MS)
    assert caught.value.code == "bad-prevblk"


def test_a_refused_block_stays_refused_after_a_restart(tmp_path: Path, builder: ChainBuilder) -> None:
    bad = builder.forge(state_root=bytes(32))
    with LmdbStore.open(tmp_path / "store") as store:
        assert ChainState.open(store, builder.genesis).accept_block(bad, now_ms=NOW_MS).refused
    with LmdbStore.open(tmp_path / "store") as store:
        chain = ChainState.open(store, builder.genesis)
        assert chain.tree.nodes[bad.hash].invalid
        assert chain.tree.tip.height == 0


def test_a_body_of_another_block_says_nothing_about_the_header(builder: ChainBuilder) -> None:
    chain = ChainState.open(MemoryStore.open(), builder.genesis)
    block = builder.forge([builder.statement(SUBMITTER, Cancel(note="right"))])
    wrong = Block(block.sealed, Body((builder.statement(SUBMITTER, Cancel(note="wrong"), sequence=0),)))
    with pytest.raises(RuleViolation) as caught:
        chain.accept_block(wrong, now_ms=NOW_MS)
    assert caught.value.code == "bad-merkle-root"
    assert chain.accept_block(block, now_ms=NOW_MS).connected == (block,)


def test_restarts_where_it_was(tmp_path: Path, builder: ChainBuilder) -> None:
    blocks = busy_blocks(builder, 6)
    side = builder.mine(parent=blocks[2], time_ms=blocks[2].header.time_ms + 12_000)
    with LmdbStore.open(tmp_path / "store") as store:
        accept_all(ChainState.open(store, builder.genesis), [*blocks, side])
        before = contents(store)
    with LmdbStore.open(tmp_path / "store") as store:
        chain = ChainState.open(store, builder.genesis)
        assert chain.tree.tip.hash == blocks[-1].hash
        assert [node.hash for node in chain.tree.active[1:]] == [block.hash for block in blocks]
        assert contents(store) == before
        assert chain.block(blocks[3].hash) == blocks[3]


def test_a_store_of_another_network_is_refused(store: Store, builder: ChainBuilder) -> None:
    ChainState.open(store, builder.genesis)
    with pytest.raises(ChainMismatch, match=builder.network_id.hex()):
        ChainState.open(store, make_genesis(name="another"))


def test_nothing_is_reorganised_below_a_checkpoint_that_administrators_made(builder: ChainBuilder) -> None:
    chain = ChainState.open(MemoryStore.open(), builder.genesis)
    trunk = builder.mine_many(3)
    vouched = Checkpoint(height=2, block_hash=trunk[1].hash)
    trunk.append(builder.mine([builder.statement(ADMIN, vouched)]))
    accept_all(chain, trunk)
    assert chain.checkpoint_height == 2
    heavier = [builder.mine(parent=trunk[0], time_ms=trunk[0].header.time_ms + 11_000)]
    heavier += builder.mine_many(5, parent=heavier[-1])
    accept_all(chain, heavier)
    assert chain.tree.tip.hash == trunk[-1].hash
    above = [builder.mine(parent=trunk[2], time_ms=trunk[2].header.time_ms + 11_000)]
    above += builder.mine_many(3, parent=above[-1])
    accept_all(chain, above)
    assert chain.tree.tip.hash == above[-1].hash, (
        "the reorganisation took the checkpoint's block off, not its force"
    )
    assert ChainState.open(chain.store, builder.genesis).checkpoint_height == 2


def test_nothing_is_reorganised_deeper_than_the_operator_allows(builder: ChainBuilder) -> None:
    chain = ChainState.open(MemoryStore.open(), builder.genesis, ChainPolicy(max_reorg=2))
    trunk = builder.mine_many(5)
    accept_all(chain, trunk)
    deep = [builder.mine(parent=trunk[1], time_ms=trunk[1].header.time_ms + 11_000)]
    deep += builder.mine_many(5, parent=deep[-1])
    accept_all(chain, deep)
    assert chain.tree.tip.hash == trunk[-1].hash
    assert chain.tree.refused_candidates(checkpoint_height=0, max_reorg=2)


def test_a_pinned_block_keeps_other_chains_out(builder: ChainBuilder) -> None:
    block, other = builder.forge(), builder.forge(time_ms=builder.genesis.time_ms + 12_000)
    chain = ChainState.open(MemoryStore.open(), builder.genesis, ChainPolicy(pinned={1: block.hash}))
    with pytest.raises(RuleViolation) as caught:
        chain.accept_block(other, now_ms=NOW_MS)
    assert caught.value.code == "below-checkpoint"
    assert chain.accept_block(block, now_ms=NOW_MS).connected


def test_a_block_from_the_future_is_temporary(builder: ChainBuilder) -> None:
    chain = ChainState.open(MemoryStore.open(), builder.genesis)
    block = builder.forge()
    early = block.header.time_ms - builder.params.future_limit_ms - 1
    with pytest.raises(Temporary) as caught:
        chain.accept_block(block, now_ms=early)
    assert caught.value.code == "time-too-new"
    assert chain.accept_block(block, now_ms=early + 1).connected


def test_a_template_becomes_a_valid_block_without_what_the_rules_refuse(
    store: Store, builder: ChainBuilder
) -> None:
    chain = ChainState.open(store, builder.genesis)
    good = builder.statement(SUBMITTER, Cancel(note="good"))
    stranger = builder.statement(STRANGER, Cancel(note="no role"))
    template = chain.make_template([good, stranger], producer=PRODUCER.public, now_ms=NOW_MS)
    assert template.body.statements == (good,)
    assert [(item, error.code) for item, error in template.dropped] == [(stranger, "unauthorized-author")]
    block = builder.seal(template.header, template.body)
    assert chain.accept_block(block, now_ms=NOW_MS).connected == (block,)


def test_a_key_without_the_role_gets_no_template(builder: ChainBuilder) -> None:
    chain = ChainState.open(MemoryStore.open(), builder.genesis)
    with pytest.raises(RuleViolation) as caught:
        chain.make_template([], producer=STRANGER.public, now_ms=NOW_MS)
    assert caught.value.code == "unauthorized-producer"


def run_until_operation(number: int, work: Callable[[MemoryStore], None]) -> MemoryStore:
    """Run work on a store that fails at its n-th operation; return the store as a crash would leave it."""
    seen = 0

    def hook(*_details: object) -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            raise OSError("power failed")

    store = MemoryStore.open(on_operation=hook)
    with contextlib.suppress(OSError):
        work(store)
    return store.reopen()


def test_a_crash_at_any_store_operation_of_a_reorganisation_leaves_a_chain_that_goes_on(
    builder: ChainBuilder,
) -> None:
    common = busy_blocks(builder, 1, tag="c")
    short = busy_blocks(builder, 1, parent=common[-1], tag="s")
    long = busy_blocks(builder, 2, parent=common[-1], tag="l")
    blocks = [*common, *short, *long]
    clean = MemoryStore.open()
    accept_all(ChainState.open(clean, builder.genesis), [*common, *long])
    wanted = contents(clean)

    def work(store: MemoryStore) -> None:
        accept_all(ChainState.open(store, builder.genesis), blocks)

    number = 0
    while True:
        number += 7
        store = run_until_operation(number, work)
        chain = ChainState.open(store, builder.genesis)
        finished = chain.tree.tip.hash == long[-1].hash
        for block in blocks:
            try:
                chain.accept_block(block, now_ms=NOW_MS)
            except ConsensusError as error:
                raise AssertionError(f"after a crash at operation {number}") from error
        assert contents(store) == wanted, f"after a crash at operation {number}"
        if finished:
            return
