"""When the miner mines, waits and gives up, on real blocks and with a clock moved by hand."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from facechain.consensus.block import Block, Body, Header
from facechain.consensus.errors import RuleViolation
from facechain.consensus.kinds import Role
from facechain.node.mining.controller import TEMPLATE_SECONDS_MAX, MinerController
from support.deadline import eventually
from support.ledger import ADMIN, EASY, GENESIS_TIME_MS, PRODUCER, Ledger, ledger_key
from support.mining import EndlessSearch, InlineSearch, LedgerChain, ManualClock, miner

A = ledger_key(11)
HEARTBEAT_MS = EASY.heartbeat_ms


@pytest.fixture
def chain() -> LedgerChain:
    return LedgerChain(Ledger(authors=(A,)))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(GENESIS_TIME_MS + 1)


@asynccontextmanager
async def running(controller: MinerController) -> AsyncIterator[None]:
    task = asyncio.create_task(controller.run())
    try:
        yield
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object], what: str) -> None:
    await eventually(lambda: bool(condition()), seconds=10, what=what)


async def settled() -> None:
    """Give the loop enough turns for everything that needs no clock to happen."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_an_idle_chain_gets_an_empty_block_when_the_heartbeat_is_due(
    chain: LedgerChain, clock: ManualClock
) -> None:
    async with running(miner(chain, InlineSearch(), clock)):
        await until(clock.sleeping_ms, "the miner sleeps")
        assert clock.sleeping_ms() == [HEARTBEAT_MS - 1]
        assert chain.templates == 0
        clock.advance(HEARTBEAT_MS - 1)
        await until(lambda: chain.submitted, "a block")
    (block,) = chain.submitted
    assert block.body.statements == ()
    assert block.header.time_ms == GENESIS_TIME_MS + HEARTBEAT_MS


async def test_statements_are_mined_at_once(chain: LedgerChain, clock: ManualClock) -> None:
    async with running(miner(chain, InlineSearch(), clock)):
        await until(clock.sleeping_ms, "the miner sleeps")
        statement = chain.ledger.note(A, 0)
        chain.receive(statement)
        await until(lambda: chain.submitted, "a block")
    assert chain.submitted[0].body.statements == (statement,)
    assert len(chain.pool) == 0


async def test_statements_that_wait_already_are_mined_block_after_block(clock: ManualClock) -> None:
    chain = LedgerChain(Ledger(authors=(A,), params=replace(EASY, max_statements=1)))
    for sequence in range(3):
        chain.receive(chain.ledger.note(A, sequence))
    controller = miner(chain, InlineSearch(), clock)
    async with running(controller):
        await until(lambda: len(chain.submitted) == 3, "three blocks")
    assert [block.header.height for block in chain.submitted] == [1, 2, 3]
    assert controller.blocks_sealed == 3


async def test_the_block_s_time_is_after_the_median_when_the_clock_is_behind(chain: LedgerChain) -> None:
    clock = ManualClock(GENESIS_TIME_MS - 3_600_000)
    chain.receive(chain.ledger.note(A, 0))
    async with running(miner(chain, InlineSearch(), clock)):
        await until(lambda: chain.submitted, "a block")
    assert chain.submitted[0].header.time_ms == GENESIS_TIME_MS + 1


async def test_a_new_tip_ends_the_search_and_the_next_one_builds_on_it(
    chain: LedgerChain, clock: ManualClock
) -> None:
    search = EndlessSearch()
    chain.receive(chain.ledger.note(A, 0))
    chain.receive(chain.ledger.note(A, 1))
    async with running(miner(chain, search, clock)):
        await until(lambda: search.running, "a search")
        block = chain.somebody_else_mines(chain.ledger.note(A, 0))
        await until(lambda: len(search.prefixes) == 2, "a second search")
        assert search.running == 1
    assert search.running == 0
    assert Header.decode(search.prefixes[1] + bytes(8)).previous == block.hash


async def test_hearing_of_the_tip_that_is_mined_on_ends_nothing(
    chain: LedgerChain, clock: ManualClock
) -> None:
    search = EndlessSearch()
    chain.receive(chain.ledger.note(A, 0))
    controller = miner(chain, search, clock)
    async with running(controller):
        await until(lambda: search.running, "a search")
        controller.on_new_tip(chain.ledger.tip().hash)
        controller.on_statements()
        await settled()
        assert len(search.prefixes) == 1


async def test_an_old_template_is_built_anew_with_the_present_time(
    chain: LedgerChain, clock: ManualClock
) -> None:
    search = EndlessSearch()
    chain.receive(chain.ledger.note(A, 0))
    async with running(miner(chain, search, clock)):
        await until(lambda: search.running and clock.sleeping_ms(), "a search")
        chain.receive(chain.ledger.note(A, 1))
        clock.advance(round(TEMPLATE_SECONDS_MAX * 1_000))
        await until(lambda: len(search.prefixes) == 2, "a second search")
    first, second = (Header.decode(prefix + bytes(8)) for prefix in search.prefixes)
    assert second.time_ms == first.time_ms + TEMPLATE_SECONDS_MAX * 1_000
    assert second.body_root != first.body_root


async def test_an_empty_block_in_the_making_gives_way_to_statements(
    chain: LedgerChain, clock: ManualClock
) -> None:
    search = EndlessSearch()
    clock.advance(HEARTBEAT_MS)
    async with running(miner(chain, search, clock)):
        await until(lambda: search.running, "a search")
        note = chain.ledger.note(A, 0)
        chain.receive(note)
        await until(lambda: len(search.prefixes) == 2, "a second search")
    roots = [Header.decode(prefix + bytes(8)).body_root for prefix in search.prefixes]
    assert roots == [Body(()).root(), Body((note,)).root()]


async def test_a_key_that_is_no_producer_waits_says_so_once_and_starts_when_granted(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    other = ledger_key(3)
    ledger = Ledger(producers=(other,))
    chain = LedgerChain(ledger)
    caplog.set_level(logging.WARNING)
    async with running(miner(chain, InlineSearch(), clock)):
        await until(lambda: chain.situations, "a look at the chain")
        proposal = ledger.proposal(ADMIN, 0, subject=PRODUCER, role=Role.PRODUCER)
        for statements in ((), (proposal,)):
            block = ledger.mine(*statements, producer=other)
            seen = chain.situations
            chain.miner_hears_of(block)
            await until(lambda seen=seen: chain.situations > seen, "another look")  # type: ignore[misc]
        clock.advance(100 * HEARTBEAT_MS)
        await until(lambda: chain.submitted, "a block")
    assert [record.message.count("may not seal") for record in caplog.records] == [1]


async def test_a_key_that_used_up_its_share_waits(clock: ManualClock) -> None:
    params = replace(EASY, producer_share=1, producer_window=2)
    chain = LedgerChain(Ledger(authors=(A,), params=params))
    chain.receive(chain.ledger.note(A, 0))
    async with running(miner(chain, InlineSearch(), clock)):
        await until(lambda: chain.submitted, "a block")
        chain.receive(chain.ledger.note(A, 1))
        await settled()
    assert len(chain.submitted) == 1


async def test_a_refused_block_is_logged_and_not_tried_in_a_hot_loop(
    chain: LedgerChain, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(block: Block) -> None:
        raise RuleViolation("max-reorg", expected="a block here", got=f"height {block.header.height}")

    chain.submit_block = refuse  # type: ignore[method-assign]
    chain.receive(chain.ledger.note(A, 0))
    async with running(miner(chain, InlineSearch(), clock)):
        await until(lambda: "our block 1 was refused: max-reorg" in caplog.text, "a log line")
        await settled()
        assert chain.templates == 1
        clock.advance(round(TEMPLATE_SECONDS_MAX * 1_000))
        await until(lambda: chain.templates == 2, "a second try")


async def test_a_failure_of_the_search_is_not_swallowed(chain: LedgerChain, clock: ManualClock) -> None:
    class Broken(InlineSearch):
        async def mine(self, prefix: bytes, target: int) -> int:
            raise OSError("no workers")

    chain.receive(chain.ledger.note(A, 0))
    with pytest.raises(OSError, match="no workers"):
        await miner(chain, Broken(), clock).run()
