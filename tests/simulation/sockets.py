"""Sockets of simulated processes: what `wire.transport` opens in a node, on the simulated network.

Real from here upwards is `wire.Connection` with its queues, pings and deadlines, and the peer port's places
(`wire.Listener`). Not here are TLS, WebSocket framing and the exchange of the identity handshake: its result is
what both hosts say, after the time that it takes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, cast

from aiohttp import WSMessage, WSMsgType

from facechain.node.wire.connection import Connection, WebSocket
from facechain.node.wire.faults import ConnectFailed, Reason, SelfConnection
from facechain.node.wire.handshake import HandshakeResult, LocalNode
from facechain.node.wire.limits import ConnectionLimits, Timeouts
from facechain.node.wire.messages import HandshakeRole, Service
from facechain.node.wire.tls import TlsIdentity
from facechain.node.wire.transport import DEFAULT_TIMEOUTS, Listener

from .process import ProcessLoop

if TYPE_CHECKING:
    from .links import Side
    from .nodes import SimNode

PORT: Final = 9735
"""Where every host listens."""

_END: Final = WSMessage(WSMsgType.CLOSED, None, None)


class SimSocket:
    """One end of a connection: what aiohttp gives for a WebSocket, and the socket beneath it."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self._frames: deque[bytes] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._writers: list[asyncio.Future[None]] = []

    # What the network does.

    def push(self, frame: bytes) -> None:
        """A frame is there."""
        self._frames.append(frame)
        self.wake()

    def wake(self) -> None:
        """Something changed: whoever waits has to look again."""
        for future in (*self._writers, *((self._reader,) if self._reader else ())):
            if not future.done():
                future.set_result(None)

    # What a `Connection` does.

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return not self.side.open

    def get_extra_info(self, _name: str) -> SimSocket:
        """Return the socket."""
        return self

    def shutdown(self, _how: int) -> None:
        """Cut the connection."""
        self.side.close()
        self.wake()

    async def receive(self) -> WSMessage:
        """Return the next frame, or the end once all are read."""
        while not self._frames:
            if not self.side.open:
                return _END
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        frame = self._frames.popleft()
        self.side.consume(len(frame))
        return WSMessage(WSMsgType.BINARY, frame, None)

    async def send_bytes(self, frame: bytes) -> None:
        """Send a frame; waits while the other end does not read."""
        if not self.side.open:
            raise ConnectionResetError("the connection is closed")
        self.side.send(frame)
        while self.side.is_full:
            writer = asyncio.get_running_loop().create_future()
            self._writers.append(writer)
            try:
                await writer
            finally:
                self._writers.remove(writer)

    async def close(self) -> None:
        """End the stream after what was sent."""
        self.side.close()
        self.wake()


def connection_of(
    side: Side, socket: SimSocket, *, local: LocalNode, limits: ConnectionLimits, timeouts: Timeouts
) -> Connection:
    """Return a proven connection; needs the running loop of the side's host."""
    other = side.other.host
    return Connection(
        websocket=cast("WebSocket", socket),
        peer=HandshakeResult(
            node_key=side.other.key,
            version=min(local.versions[1], other.wire_version),
            user_agent="simulated",
            services=Service.BODIES | Service.RELAY,
            listen_port=PORT,
            role=HandshakeRole.INITIATOR if side.inbound else HandshakeRole.RESPONDER,
        ),
        remote=(other.endpoint[0], side.remote_port),
        limits=limits,
        timeouts=timeouts,
    )


async def connect(
    host: str,
    port: int,
    *,
    local: LocalNode,
    limits: ConnectionLimits,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> Connection:
    """Connect as `wire.transport.connect` does; raises ConnectFailed, SelfConnection."""
    loop = cast("ProcessLoop", asyncio.get_running_loop())
    node = cast("SimNode", loop.host)
    if (host, port) == node.endpoint:
        raise SelfConnection
    opened: asyncio.Future[Side | None] = loop.create_future()
    node.world.network.dial(node, (host, port), partial(_on_dialed, opened))
    side = await opened
    if side is None:
        raise ConnectFailed(Reason.UNREACHABLE, f"{host}:{port}: expected an answer, got none")
    return connection_of(side, node.socket_of(side), local=local, limits=limits, timeouts=timeouts)


def _on_dialed(opened: asyncio.Future[Side | None], side: Side | None) -> None:
    if not opened.done():
        opened.set_result(side)
    elif side is not None:
        side.close()


class SimListener(Listener):
    """The peer port of a simulated process: the places and refusals are the real ones."""

    async def __aenter__(self) -> Self:
        loop = cast("ProcessLoop", asyncio.get_running_loop())
        self._node = cast("SimNode", loop.host)
        self._node.listener = self
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._node.listener = None

    @property
    def port(self) -> int:
        return PORT

    def accept(self, side: Side) -> bool:
        """Take a connection; False when its address may not even try."""
        if not self._admits_host(side.other.host.endpoint[0]):
            return False
        self._node.spawn(self._take(side, self._node.socket_of(side)), "inbound")
        return True

    async def _take(self, side: Side, socket: SimSocket) -> None:
        await self._serve(
            connection_of(side, socket, local=self._local, limits=self._limits, timeouts=self._timeouts)
        )


def no_identity(directory: Path) -> TlsIdentity:
    """Stand for the certificate that nobody looks at."""
    return TlsIdentity(path=directory, certificate_hash=bytes(32))


class NoApi:
    """The HTTP API of a process that nobody asks by HTTP."""

    port = 0

    def __init__(self, _node: object, _config: object) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass
