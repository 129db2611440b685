"""The slow link of the tests delays, keeps to its rate and breaks connections, and changes nothing of what passes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from netns.relay import Link, Relay
from support.deadline import eventually

FAST = Link(latency_seconds=0.0, bytes_per_second=1e9, break_every_seconds=1e6)
WAIT_SECONDS = 20.0


@asynccontextmanager
async def through(link: Link) -> AsyncIterator[tuple[Relay, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to an echo server by a relay."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4_096):
            writer.write(data)
            await writer.drain()
        writer.close()

    far = await asyncio.start_server(echo, "127.0.0.1", 0)
    relay = Relay(target=far.sockets[0].getsockname(), link=link)
    near = await asyncio.start_server(relay.on_connection, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*near.sockets[0].getsockname())
    try:
        async with far, near:
            yield relay, reader, writer
            writer.close()
            await eventually(lambda: not relay.writers, seconds=WAIT_SECONDS, what="the relay let go")
    finally:
        writer.close()


async def test_what_passes_is_not_changed_and_counted() -> None:
    async with through(FAST) as (relay, reader, writer):
        sent = bytes(range(256)) * 1_000
        writer.write(sent)
        assert await reader.readexactly(len(sent)) == sent
        assert relay.counts.passed_bytes == 2 * len(sent)
        assert relay.counts.connections == 1


@pytest.mark.parametrize(
    "link, bytes_sent, seconds_min",
    [
        (Link(latency_seconds=0.2, bytes_per_second=1e9, break_every_seconds=1e6), 1, 0.4),
        (Link(latency_seconds=0.0, bytes_per_second=50_000, break_every_seconds=1e6), 20_000, 0.4),
    ],
    ids=["latency", "rate"],
)
async def test_it_is_slow(link: Link, bytes_sent: int, seconds_min: float) -> None:
    async with through(link) as (_, reader, writer):
        loop = asyncio.get_running_loop()
        begin = loop.time()
        writer.write(bytes(bytes_sent))
        await reader.readexactly(bytes_sent)
        assert loop.time() - begin >= seconds_min


async def test_connections_break() -> None:
    link = Link(latency_seconds=0.0, bytes_per_second=1e9, break_every_seconds=0.01)
    async with through(link) as (relay, reader, _):
        await eventually(lambda: relay.writers, seconds=WAIT_SECONDS, what="a connection")
        breaking = asyncio.create_task(relay.break_connections())
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        breaking.cancel()
        assert relay.counts.broken > 0
