"""The chain runner: groups of blocks, a store that fails and recovers, cancelled callers, and orphans."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator

import pytest

from facechain.consensus.block import Block, Body
from facechain.consensus.kinds import Role
from facechain.consensus.payloads import Cancel, RoleApproval
from facechain.consensus.statement import Statement
from facechain.node import chainstate
from facechain.node.chain_runner import ChainRunner, StorePaused
from facechain.node.chain_update import ChainUpdate
from facechain.node.chainstate import ChainState
from facechain.node.store.errors import StoreFull
from facechain.node.store.memory import MemoryStore, Operation
from facechain.node.store.schema import Table
from support.chain import ADMIN, STRANGER, SUBMITTER, ChainBuilder, make_genesis, make_stage
from support.statements import grant

NOW_MS = 2 * make_genesis().time_ms


class FaultyDisk:
    """A fault hook: commits fail while `full`, and wait while `held`."""

    def __init__(self) -> None:
        self.full = False
        self.full_after: int | None = None
        """Commits that still succeed before the disk is full."""
        self.commits = 0
        self.open = threading.Event()
        self.open.set()
        self.waiting = threading.Event()

    def __call__(self, operation: Operation) -> None:
        if operation is not Operation.COMMIT:
            return
        self.waiting.set()
        assert self.open.wait(20)
        if self.full_after is not None:
            self.full_after -= 1
            if self.full_after < 0:
                self.full = True
        if self.full:
            raise StoreFull("no space left on device")
        self.commits += 1


@pytest.fixture
def builder() -> ChainBuilder:
    return ChainBuilder(make_genesis())


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk()


@pytest.fixture
async def runner(builder: ChainBuilder, disk: FaultyDisk) -> AsyncIterator[ChainRunner]:
    store = MemoryStore.open(on_operation=disk)
    async with ChainRunner.open(ChainState.open(store, builder.genesis), lambda: NOW_MS) as started:
        yield started


def nobody(_block: Block) -> None:
    """Relay to nobody."""


def works(runner: ChainRunner) -> bool:
    return runner.trouble is None


def notes(builder: ChainBuilder, count: int) -> list[Statement]:
    return [builder.statement(SUBMITTER, Cancel(note=str(number))) for number in range(count)]


async def test_blocks_that_come_together_are_one_transaction(
    builder: ChainBuilder, runner: ChainRunner, disk: FaultyDisk
) -> None:
    blocks = builder.mine_many(20)
    before = disk.commits
    update, refused = await runner.add_blocks(blocks, nobody)
    assert update.connected == tuple(blocks)
    assert not refused
    assert disk.commits == before + 1


async def test_a_full_disk_is_told_and_work_goes_on_when_there_is_room(
    builder: ChainBuilder, runner: ChainRunner, disk: FaultyDisk, caplog: pytest.LogCaptureFixture
) -> None:
    statements = notes(builder, 2)
    block = builder.mine(statements[:1])
    disk.full = True
    with pytest.raises(StoreFull):
        await runner.add_blocks([block], nobody)
    with pytest.raises(StoreFull):
        await runner.submit(statements)
    with pytest.raises(StoreFull):
        await runner.retry()
    assert works(runner) is False
    assert len([record for record in caplog.records if record.levelname == "CRITICAL"]) == 1
    with runner.chain.snapshot() as reader:
        assert reader.block_hash(0) is not None
    disk.full = False
    await runner.retry()
    assert works(runner)
    assert runner.chain.tree.tip.hash == block.hash
    assert [answer.queued for answer in await runner.submit(statements[1:])] == [True]


async def test_what_was_connected_before_the_disk_was_full_is_followed(
    builder: ChainBuilder, runner: ChainRunner, disk: FaultyDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chainstate, "GROUP_BLOCKS_MAX", 3)
    statements = notes(builder, 6)
    assert all(answer.queued for answer in await runner.submit(statements))
    blocks = [builder.mine([statement]) for statement in statements]
    told: list[ChainUpdate] = []
    runner.subscribe(lambda update, _drops: told.append(update))
    disk.full_after = 1
    with pytest.raises(StoreFull):
        await runner.add_blocks(blocks, nobody)
    assert runner.chain.tree.tip.height == 3
    assert [block for update in told for block in update.connected] == blocks[:3]
    disk.full, disk.full_after = False, None
    await runner.retry()
    assert [block for update in told for block in update.connected] == blocks
    assert not runner.mempool.pool.leaves()


async def test_a_mempool_that_could_not_follow_does_so_later(
    builder: ChainBuilder, runner: ChainRunner, disk: FaultyDisk
) -> None:
    statements = notes(builder, 3)
    block = builder.mine(statements[:2])
    told: list[ChainUpdate] = []
    runner.subscribe(lambda update, _drops: told.append(update))

    def fails(**_blocks: object) -> None:
        raise StoreFull("no space left on device")

    followed = runner.mempool.on_update
    runner.mempool.on_update = fails  # type: ignore[assignment,method-assign]
    with pytest.raises(StoreFull):
        await runner.add_blocks([block], nobody)
    assert [update.connected for update in told] == [(block,)], "the block is durable: it was told of"
    runner.mempool.on_update = followed  # type: ignore[method-assign]
    assert [answer.queued for answer in await runner.submit(statements[2:])] == [True]
    assert len(told) == 1


async def test_a_listener_that_fails_keeps_nobody_else_from_hearing(
    builder: ChainBuilder, runner: ChainRunner
) -> None:
    told: list[ChainUpdate] = []

    def broken(*_details: object) -> None:
        raise KeyError("a fault of the listener")

    runner.subscribe(broken)
    runner.subscribe(lambda update, _drops: told.append(update))
    block = builder.mine()
    await runner.add_blocks([block], broken)
    assert told[0].connected == (block,)


async def test_a_change_is_finished_when_its_caller_is_cancelled(
    builder: ChainBuilder, runner: ChainRunner, disk: FaultyDisk
) -> None:
    block = builder.mine(notes(builder, 1))
    disk.waiting.clear()
    disk.open.clear()
    caller = asyncio.create_task(runner.add_blocks([block], nobody))
    assert await asyncio.to_thread(disk.waiting.wait, 20)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    disk.open.set()
    await runner.call(lambda: None)
    assert runner.chain.tree.tip.hash == block.hash
    with runner.chain.snapshot() as reader:
        assert reader.tip_hash() == block.hash
    assert runner.mempool.next_sequence(SUBMITTER.public) == 1


async def test_leaving_waits_for_changes_whose_callers_are_gone(
    builder: ChainBuilder, disk: FaultyDisk
) -> None:
    store = MemoryStore.open(on_operation=disk)
    block = builder.mine()
    async with ChainRunner.open(ChainState.open(store, builder.genesis), lambda: NOW_MS) as runner:
        disk.waiting.clear()
        disk.open.clear()
        caller = asyncio.create_task(runner.add_blocks([block], nobody))
        assert await asyncio.to_thread(disk.waiting.wait, 20)
        caller.cancel()
        asyncio.get_running_loop().call_later(0.05, disk.open.set)
    assert runner.chain.tree.tip.hash == block.hash


async def test_a_bad_block_of_an_earlier_call_is_named_when_it_is_found_out(
    builder: ChainBuilder, runner: ChainRunner
) -> None:
    first = builder.mine()
    bad = builder.forge(state_root=bytes(32))
    for block in (first, bad):
        runner.chain.accept_header(block.sealed, now_ms=NOW_MS)
    assert await runner.add_blocks([bad], nobody) == (ChainUpdate(), [])
    update, refused = await runner.add_blocks([first], nobody)
    assert update.connected == (first,)
    assert [(block_hash, error.code) for block_hash, error in refused] == [(bad.hash, "bad-state-root")]


async def test_a_wrong_body_in_a_group_keeps_no_other_block_out(
    builder: ChainBuilder, runner: ChainRunner
) -> None:
    one, other = notes(builder, 1)[0], builder.statement(SUBMITTER, Cancel(note="other"), sequence=0)
    first = builder.mine()
    second = builder.forge([one])
    wrong = Block(second.sealed, Body((other,)))
    update, refused = await runner.add_blocks([first, wrong], nobody)
    assert update.connected == (first,)
    assert [(block_hash, error.code) for block_hash, error in refused] == [(second.hash, "bad-merkle-root")]
    assert (await runner.add_blocks([second], nobody))[0].connected == (second,)


@pytest.mark.parametrize("seed", range(5))
async def test_statements_of_one_author_in_any_order_all_come_in(
    builder: ChainBuilder, runner: ChainRunner, seed: int
) -> None:
    statements = notes(builder, 60)
    shuffled = random.Random(seed).sample(statements, len(statements))
    taken = []
    for start in range(0, 60, 7):
        taken += [item for item, error in await runner.relay(shuffled[start : start + 7]) if error is None]
    assert taken == statements
    assert not len(runner.intake.orphans)


async def test_an_orphan_comes_in_when_a_block_brings_what_it_follows(
    builder: ChainBuilder, runner: ChainRunner
) -> None:
    statements = notes(builder, 3)
    told: list[Statement] = []
    runner.on_relayed = lambda results: told.extend(item for item, error in results if error is None)
    await runner.relay(statements[1:])
    assert len(runner.intake.orphans) == 2
    await runner.add_blocks([builder.mine(statements[:1])], nobody)
    assert told == statements[1:]


async def test_an_orphan_comes_in_when_a_submitter_brings_what_it_follows(
    builder: ChainBuilder, runner: ChainRunner
) -> None:
    statements = notes(builder, 3)
    await runner.relay(statements[1:])
    await runner.submit(statements[:1])
    assert set(runner.mempool.pool.leaves()) == {item.leaf for item in statements}


async def test_a_statement_that_names_one_on_its_way_waits_for_it(
    builder: ChainBuilder, runner: ChainRunner
) -> None:
    proposal = builder.statement(ADMIN, grant(Role.SUBMITTER, STRANGER))
    stage = builder.statement(SUBMITTER, make_stage())
    after = builder.statement(ADMIN, RoleApproval(proposal=proposal.id))
    later = builder.statement(SUBMITTER, make_stage(name="later"))
    for statement in (after, later, proposal, stage):
        await runner.relay([statement])
    assert {proposal.leaf, stage.leaf, later.leaf} <= set(runner.mempool.pool.leaves())


async def test_statements_of_keys_without_a_role_or_signature_are_not_kept(
    builder: ChainBuilder, runner: ChainRunner
) -> None:
    stranger = builder.statement(STRANGER, Cancel(note="nobody"), sequence=1)
    signed = builder.statement(SUBMITTER, Cancel(note="true"), sequence=1)
    forged = Statement(signed.header_bytes, bytes(64), signed.payload)
    swapped = Statement(signed.header_bytes, signed.signature, signed.payload[:-1] + b"x")
    far = builder.statement(SUBMITTER, Cancel(note="far"), sequence=10**9)
    await runner.relay([stranger, forged, swapped, far])
    assert not len(runner.intake.orphans)


async def test_trouble_is_told_once_and_new_work_waits_for_its_end(
    builder: ChainBuilder, runner: ChainRunner, disk: FaultyDisk
) -> None:
    told: list[bool] = []
    runner.on_trouble = lambda: told.append(works(runner))
    runner.check_works()
    disk.full = True
    for statement in notes(builder, 2):
        with pytest.raises(StoreFull):
            await runner.submit([statement])
    assert runner.trouble_since_ms == NOW_MS
    with pytest.raises(StorePaused, match="store-full: no space left on device"):
        runner.check_works()
    waiting = asyncio.create_task(runner.until_it_works())
    with pytest.raises(StoreFull):
        await runner.retry()
    assert (told, waiting.done()) == ([False], False)
    disk.full = False
    await runner.retry()
    await waiting
    runner.check_works()
    assert told == [False, True]


async def test_the_probe_leaves_nothing(runner: ChainRunner, disk: FaultyDisk, builder: ChainBuilder) -> None:
    disk.full = True
    with pytest.raises(StoreFull):
        await runner.submit(notes(builder, 1))
    disk.full = False
    with runner.chain.store.read() as reader:
        before = list(reader.scan(Table.META))
    await runner.retry()
    with runner.chain.store.read() as reader:
        assert list(reader.scan(Table.META)) == before
