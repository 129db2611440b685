"""A slow, unreliable link: passes TCP on with delay and a limited rate, and breaks all connections now and then.

    python relay.py --listen HOST:PORT --to HOST:PORT --latency-ms 100 --bytes-per-second 65536 --break-every 5

It prints its port to stderr once it listens, and on SIGTERM what it did as JSON to stdout, and ends. It reads nothing of what passes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

READ_BYTES = 8_192
QUEUED_CHUNKS = 64
CONNECT_SECONDS = 10.0

Chunk = tuple[float, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What the link is like, in each direction of each connection."""

    latency_seconds: float
    bytes_per_second: float
    break_every_seconds: float


@dataclass(slots=True)
class Counts:
    """What passed."""

    connections: int = 0
    passed_bytes: int = 0
    broken: int = 0


@dataclass(slots=True)
class Relay:
    """Passes connections on to `target`."""

    target: tuple[str, int]
    link: Link
    counts: Counts = field(default_factory=Counts)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                far_reader, far_writer = await asyncio.open_connection(*self.target)
        except OSError:  # also TimeoutError
            writer.transport.abort()
            return
        self.counts.connections += 1
        both = {writer, far_writer}
        self.writers |= both
        ways = [
            asyncio.create_task(self._pass(reader, far_writer)),
            asyncio.create_task(self._pass(far_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self.writers -= both
            for end in both:
                end.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        queue: asyncio.Queue[Chunk | None] = asyncio.Queue(QUEUED_CHUNKS)
        reading = asyncio.create_task(self._read(reader, queue))
        try:
            with suppress(OSError):
                await self._write(queue, writer)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, reader: asyncio.StreamReader, queue: asyncio.Queue[Chunk | None]) -> None:
        """Take chunks no faster than the link's rate, and note when each is due at the other end."""
        loop = asyncio.get_running_loop()
        free_at = loop.time()
        with suppress(OSError):
            while data := await reader.read(READ_BYTES):
                free_at = max(free_at, loop.time()) + len(data) / self.link.bytes_per_second
                await queue.put((free_at + self.link.latency_seconds, data))
                await asyncio.sleep(free_at - loop.time())
        await queue.put(None)

    async def _write(self, queue: asyncio.Queue[Chunk | None], writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while (chunk := await queue.get()) is not None:
            due, data = chunk
            await asyncio.sleep(due - loop.time())
            writer.write(data)
            await writer.drain()
            self.counts.passed_bytes += len(data)

    async def break_connections(self) -> None:
        """Reset everything now and then, for ever."""
        while True:
            await asyncio.sleep(self.link.break_every_seconds)
            self.counts.broken += bool(self.writers)
            for writer in self.writers:
                writer.transport.abort()


async def serve(listen: tuple[str, int], relay: Relay) -> None:
    """Pass connections on until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = await asyncio.start_server(relay.on_connection, *listen)
    breaking = asyncio.create_task(relay.break_connections())
    async with server:
        sys.stderr.write(f"{server.sockets[0].getsockname()[1]}\n")
        await stop.wait()
        breaking.cancel()


def endpoint(text: str) -> tuple[str, int]:
    """Read HOST:PORT."""
    host, _, port = text.rpartition(":")
    return host, int(port)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--listen", type=endpoint, required=True)
    parser.add_argument("--to", type=endpoint, required=True)
    parser.add_argument("--latency-ms", type=float, default=100.0)
    parser.add_argument("--bytes-per-second", type=float, default=65_536.0)
    parser.add_argument("--break-every", type=float, default=5.0, help="seconds")
    options: Any = parser.parse_args(arguments)
    link = Link(
        latency_seconds=options.latency_ms / 1_000,
        bytes_per_second=options.bytes_per_second,
        break_every_seconds=options.break_every,
    )
    relay = Relay(target=options.to, link=link)
    asyncio.run(serve(options.listen, relay))
    sys.stdout.write(json.dumps(asdict(relay.counts)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
