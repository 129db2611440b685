"""Nodes, messages and relays for the tests of the wire."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import ssl
from collections.abc import AsyncIterator, Callable
from enum import IntEnum
from pathlib import Path
from typing import Any

import aiohttp
from hypothesis import strategies as st

from facechain.consensus.signing import NodeKey
from facechain.node.wire.connection import Connection
from facechain.node.wire.faults import HandshakeError, WireError
from facechain.node.wire.fields import (
    Blobs,
    Choice,
    Field,
    Fixed,
    Flag,
    Packed,
    Rows,
    Text,
    Uint,
    fields_of,
)
from facechain.node.wire.handshake import Handshake, HandshakeDone, LocalNode
from facechain.node.wire.limits import ConnectionLimits, Timeouts
from facechain.node.wire.messages import BodyChunk, HandshakeRole, Message
from facechain.node.wire.tls import client_context, open_identity
from facechain.node.wire.transport import Listener, OnConnection, OnRefused

NETWORK_ID = hashlib.sha256(b"test network").digest()
OTHER_NETWORK_ID = hashlib.sha256(b"another network").digest()

QUICK = Timeouts(
    connect_seconds=10.0,
    handshake_seconds=10.0,
    ping_interval_seconds=30.0,
    idle_seconds=30.0,
    send_seconds=10.0,
    close_seconds=1.0,
)


def local_node(seed: int, **changes: Any) -> LocalNode:
    """Return a node whose key is that of `seed`."""
    node = LocalNode(
        key=NodeKey.from_seed(bytes([seed]) * 32), network_id=NETWORK_ID, user_agent=f"/test:{seed}/"
    )
    return dataclasses.replace(node, **changes)


def values(field: Field) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of a field's shape, kept small in number, not in kind."""
    match field:
        case Uint(bits):
            return st.integers(0, 2**bits - 1)
        case Fixed(size):
            return st.binary(min_size=size, max_size=size)
        case Packed(size, items):
            return st.lists(st.binary(min_size=size, max_size=size), max_size=min(items, 4)).map(tuple)
        case Blobs(_, items):
            return st.lists(st.binary(min_size=1, max_size=300), max_size=min(items, 4)).map(tuple)
        case Text(size):
            return st.text(max_size=size).filter(
                lambda text: text.isprintable() and len(text.encode()) <= size
            )
        case Flag():
            return st.booleans()
        case Choice(choices):
            return st.sampled_from(list(choices))
        case Rows(row, items):
            return st.lists(dataclass_values(row), max_size=min(items, 4)).map(tuple)
        case _:
            raise TypeError(f"no strategy for {field}")


def dataclass_values(cls: type[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of an annotated dataclass."""
    if cls is BodyChunk:
        bodies = st.sampled_from([{"leaves": ()}, {"leaves": (b"\x05" * 32,) * 8, "start": 3}])
        plain = {name: values(field) for name, field in fields_of(cls)}
        return st.builds(lambda body, **fields: BodyChunk(**{**fields, **body}), bodies, **plain)
    return st.builds(cls, **{name: values(field) for name, field in fields_of(cls)})


def largest(field: Field) -> Any:
    """Return the value of a field's shape that takes most bytes."""
    match field:
        case Uint(bits):
            return 2**bits - 1
        case Fixed(size):
            return b"\xff" * size
        case Packed(size, items):
            return (b"\xff" * size,) * items
        case Text(size):
            return "x" * size
        case Flag():
            return True
        case Choice(choices):
            return largest_choice(choices)
        case Rows(row, items):
            return (row(**{name: largest(inner) for name, inner in fields_of(row)}),) * items
        case _:
            raise TypeError(f"no largest value for {field}")


def largest_choice(choices: type[IntEnum]) -> IntEnum:
    return max(choices)


def largest_message(cls: type[Message]) -> Message:
    """Return the message of a type that takes most bytes."""
    made: Message = cls(**{name: largest(field) for name, field in fields_of(cls)})
    return made


@contextlib.asynccontextmanager
async def listening(
    directory: Path,
    on_connection: OnConnection,
    *,
    local: LocalNode | None = None,
    on_refused: OnRefused | None = None,
    limits: ConnectionLimits | None = None,
    timeouts: Timeouts = QUICK,
    admits_host: Callable[[str], bool] = lambda _host: True,
) -> AsyncIterator[Listener]:
    """Listen on a free port of loopback with a certificate kept in `directory`."""
    async with Listener(
        host="127.0.0.1",
        port=0,
        identity=open_identity(directory),
        local=local or local_node(1),
        on_connection=on_connection,
        on_refused=on_refused,
        admits_host=admits_host,
        limits=limits or ConnectionLimits(),
        timeouts=timeouts,
    ) as listener:
        yield listener


@contextlib.asynccontextmanager
async def tls_relay(context: ssl.SSLContext, client: ssl.SSLContext, target: int) -> AsyncIterator[int]:
    """A relay in the middle: ends TLS with a certificate of its own and passes every byte on; yields its port."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(
                "127.0.0.1", target, ssl=client, server_hostname="localhost"
            )
            await asyncio.gather(pump(reader, upstream_writer), pump(upstream_reader, writer))
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield int(server.sockets[0].getsockname()[1])


@contextlib.asynccontextmanager
async def raw_peer(port: int, seed: int = 2) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A proven peer that then sends and reads whatever the test wants, frame by frame."""
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client_context())) as session,
        session.ws_connect(
            f"wss://127.0.0.1:{port}/p2p", max_msg_size=0, autoping=False, autoclose=False
        ) as websocket,
    ):
        certificate = websocket.get_extra_info("ssl_object").getpeercert(binary_form=True)
        machine = Handshake(
            role=HandshakeRole.INITIATOR,
            local=local_node(seed),
            nonce=b"\x11" * 32,
            certificate_hash=hashlib.sha256(certificate).digest(),
        )
        events: list[object] = []
        while not any(isinstance(event, HandshakeDone) for event in events):
            for frame in machine.frames_to_send():
                await websocket.send_bytes(frame)
            events += machine.receive(await websocket.receive_bytes())
        yield websocket


class Failures:
    """Serves connections by receiving until they end, and keeps the errors that they ended with."""

    def __init__(self) -> None:
        self.seen: asyncio.Queue[WireError] = asyncio.Queue()
        self.refused: asyncio.Queue[HandshakeError] = asyncio.Queue()
        self.messages: asyncio.Queue[Message] = asyncio.Queue()

    async def serve(self, connection: Connection) -> None:
        try:
            while True:
                self.messages.put_nowait(await connection.receive())
        except WireError as error:
            self.seen.put_nowait(error)
            raise

    def on_refused(self, remote: tuple[str, int], error: HandshakeError) -> None:
        self.refused.put_nowait(error)
