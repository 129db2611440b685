"""Blocks go before statements, and statements are not passed over for ever."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

from facechain.node.turns import GIVEN_WAY_MAX, Turns


class Queue:
    """Changes that tell when they had their turn."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.done: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def add(self, name: str, turn: AbstractAsyncContextManager[None]) -> None:
        """Begin a change, as far as it gets by itself."""

        async def change() -> None:
            async with turn:
                self.done.append(name)
                await asyncio.sleep(0)

        self._tasks.append(asyncio.create_task(change()))
        await asyncio.sleep(0)

    async def finish(self) -> list[str]:
        await asyncio.gather(*self._tasks)
        return self.done


async def test_a_block_goes_before_statements_that_came_first() -> None:
    queue = Queue()
    async with queue.turns.of_statements():
        assert queue.turns.taken
        for number in range(3):
            await queue.add(f"statements {number}", queue.turns.of_statements())
        await queue.add("block", queue.turns.of_blocks())
    assert await queue.finish() == ["block", "statements 0", "statements 1", "statements 2"]
    assert not queue.turns.taken


async def test_blocks_keep_their_order() -> None:
    queue = Queue()
    async with queue.turns.of_blocks():
        for number in range(3):
            await queue.add(str(number), queue.turns.of_blocks())
    assert await queue.finish() == ["0", "1", "2"]


async def test_statements_have_their_turn_although_blocks_never_end() -> None:
    queue = Queue()
    await queue.add("block", queue.turns.of_blocks())
    await queue.add("statements", queue.turns.of_statements())
    for _ in range(10 * GIVEN_WAY_MAX):
        await queue.add("block", queue.turns.of_blocks())
        await queue.add("block", queue.turns.of_blocks())
        if "statements" in queue.done:
            break
    assert "statements" in queue.done


async def test_a_cancelled_change_lets_go() -> None:
    turns = Turns()
    async with turns.of_blocks():
        waiting = [asyncio.create_task(_enter(turn)) for turn in (turns.of_blocks(), turns.of_statements())]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    await asyncio.wait_for(_enter(turns.of_statements()), 5)
    assert not turns.taken


async def _enter(turn: AbstractAsyncContextManager[None]) -> None:
    async with turn:
        await asyncio.sleep(0)
