"""What waits for the chain's thread is taken in pieces, in order, and nobody reads on while too much waits."""

import asyncio

import pytest

from facechain.node import backlog as module
from facechain.node.backlog import Backlog
from facechain.node.protocol.actions import BlockReady, StatementReceived
from support.chain import SUBMITTER, ChainBuilder


def ready(builder: ChainBuilder) -> BlockReady:
    return BlockReady(peer=1, block=builder.mine([builder.batch(SUBMITTER, name=str(builder.height))]))


async def test_blocks_are_taken_in_order_and_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    builder = ChainBuilder()
    items = [ready(builder) for _ in range(5)]
    statement = StatementReceived(peer=1, statement=builder.batch(SUBMITTER, name="waits"))
    largest = max(item.block.body.byte_count() for item in items)
    monkeypatch.setattr(module, "TAKE_BYTES_MAX", 2 * largest)
    backlog = Backlog()
    for item in items:
        backlog.add(item)
    backlog.add(statement)
    assert await backlog.take() == (items[:2], [statement])
    assert await backlog.take() == (items[2:4], [])
    assert await backlog.take() == (items[4:], [])
    waiting = asyncio.create_task(backlog.take())
    await asyncio.sleep(0)
    assert not waiting.done()
    backlog.add(items[0])
    assert await waiting == ([items[0]], [])


async def test_a_block_waits_for_a_few_statements_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STATEMENTS_TAKEN", 2)
    builder, backlog = ChainBuilder(), Backlog()
    statements = [StatementReceived(peer=1, statement=builder.batch(name=str(n))) for n in range(5)]
    for item in statements:
        backlog.add(item)
    assert await backlog.take() == ([], statements[:2])
    block = ready(ChainBuilder())
    backlog.add(block)
    assert await backlog.take() == ([block], statements[2:4])
    assert await backlog.take() == ([], statements[4:])


async def test_one_block_is_taken_however_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TAKE_BYTES_MAX", 1)
    builder, backlog = ChainBuilder(), Backlog()
    items = [ready(builder) for _ in range(2)]
    for item in items:
        backlog.add(item)
    assert await backlog.take() == (items[:1], [])
    assert await backlog.take() == (items[1:], [])


async def test_readers_wait_while_too_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    builder, backlog = ChainBuilder(), Backlog()
    items = [ready(builder) for _ in range(2)]
    monkeypatch.setattr(module, "BACKLOG_BYTES_MAX", items[0].block.body.byte_count())
    monkeypatch.setattr(module, "TAKE_BYTES_MAX", 1)
    for item in items:
        backlog.add(item)
    reader = asyncio.create_task(backlog.room())
    await asyncio.sleep(0)
    assert not reader.done()
    await backlog.take()
    await reader


async def test_few_statements_wait_for_more_and_a_block_ends_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GATHER_SECONDS", 3_600.0)
    monkeypatch.setattr(module, "STATEMENTS_TAKEN", 3)
    builder, backlog = ChainBuilder(), Backlog()
    items = [StatementReceived(peer=1, statement=builder.batch(name=str(n))) for n in range(6)]
    backlog.add(items[0])
    assert await backlog.take() == ([], items[:1])
    waiting = asyncio.create_task(backlog.take())
    for item in items[1:3]:
        backlog.add(item)
        await asyncio.sleep(0)
        assert not waiting.done()
    block = ready(ChainBuilder())
    backlog.add(block)
    assert await waiting == ([block], items[1:3])
    for item in items[3:]:
        backlog.add(item)
    assert await backlog.take() == ([], items[3:])
