"""The peer port: listening for connections and opening them, WebSocket over TLS 1.3 on the path /p2p.

Both ways end in the identity handshake and yield a `Connection`. Nothing that is not proven within its deadline
keeps a socket, and an inbound socket counts against a limit from the moment it is accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace, TracebackType
from typing import Final, Self

import aiohttp
from aiohttp import WSMsgType, web
from yarl import URL

from ...consensus.hashing import sha256
from ..protocol.peer_pending import PendingSockets
from .codec import disconnect_frame
from .connection import MAX_WEBSOCKET_BYTES, Connection, WebSocket
from .faults import (
    ConnectFailed,
    HandshakeError,
    HandshakeProtocolError,
    HandshakeRefused,
    HandshakeTimeout,
    ListenFailed,
    Reason,
    WireError,
)
from .handshake import Handshake, HandshakeDone, HandshakeResult, LocalNode
from .limits import (
    MAX_HTTP_FIELD_BYTES,
    MAX_HTTP_HEADERS,
    MAX_HTTP_LINE_BYTES,
    NONCE_BYTES,
    ConnectionLimits,
    Timeouts,
)
from .messages import HandshakeRole
from .tls import TlsIdentity, client_context, server_context

PATH: Final = "/p2p"
"""The one path of the peer port."""

DEFAULT_LIMITS: Final = ConnectionLimits()
DEFAULT_TIMEOUTS: Final = Timeouts()

_ACCEPT_RETRY_SECONDS: Final = 1.0
_BACKLOG: Final = 128

_log = logging.getLogger(__name__)

OnConnection = Callable[[Connection], Awaitable[None]]
"""Serves one inbound connection; the connection is closed when it returns or raises."""

OnRefused = Callable[[tuple[str, int], HandshakeError], None]
"""Told the remote address and the reason of every inbound handshake that failed."""


async def connect(
    host: str,
    port: int,
    *,
    local: LocalNode,
    limits: ConnectionLimits = DEFAULT_LIMITS,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> Connection:
    """Open a connection to a peer and prove both identities.

    Raises:
        ConnectFailed: nothing there, TLS failed, or not a facechain peer port.
        HandshakeError: the peer was refused or refused this node (see its subclasses).
    """
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=client_context(), force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        max_line_size=MAX_HTTP_LINE_BYTES,
        max_field_size=MAX_HTTP_FIELD_BYTES,
        timeout=aiohttp.ClientTimeout(total=None),
        trace_configs=[_refuse_redirects()],
    )
    try:
        websocket = await _upgrade(session, host, port, timeouts)
        certificate = websocket.get_extra_info("ssl_object").getpeercert(binary_form=True)
        remote = websocket.get_extra_info("peername")
        machine = Handshake(
            role=HandshakeRole.INITIATOR,
            local=local,
            nonce=secrets.token_bytes(NONCE_BYTES),
            certificate_hash=sha256(certificate),
        )
        deadline = asyncio.get_running_loop().time() + timeouts.handshake_seconds
        peer = await _shake_hands(websocket, machine, deadline, timeouts)
    except BaseException:
        await session.close()
        raise
    return Connection(
        websocket=websocket,
        peer=peer,
        remote=(remote[0], remote[1]),
        limits=limits,
        timeouts=timeouts,
        release=session.close,
    )


def _admit_all(_host: str) -> bool:
    return True


def _no_room(_newcomer: Connection) -> bool:
    return False


@dataclass(slots=True, eq=False)
class _Pending:
    """An accepted socket whose identity is not proven yet."""

    socket: socket.socket
    deadline: float
    transport: asyncio.Transport | None = None
    """Once TLS is done, and the owner of the socket from then on."""
    settled: asyncio.Event = field(default_factory=asyncio.Event)


class Listener:
    """Accepts inbound connections; an async context manager that listens while it is entered."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        identity: TlsIdentity,
        local: LocalNode,
        on_connection: OnConnection,
        on_refused: OnRefused | None = None,
        admits_host: Callable[[str], bool] = _admit_all,
        make_room: Callable[[Connection], bool] = _no_room,
        limits: ConnectionLimits = DEFAULT_LIMITS,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        """Listen for `on_connection`.

        `admits_host`: whether a socket from an address is worth a handshake. `make_room`: asked for a proven newcomer
        when all places are taken; True when it is to be served, because another one ends or its place is free.
        """
        self._host = host
        self._port = port
        self._identity = identity
        self._local = local
        self._on_connection = on_connection
        self._on_refused = on_refused
        self._admits_host = admits_host
        self._make_room = make_room
        self._limits = limits
        self._timeouts = timeouts
        self._pending: dict[object, _Pending] = {}
        self._places = PendingSockets(
            total=limits.max_pending_inbound, per_source=limits.max_pending_per_source
        )
        self._admissions: dict[int, asyncio.Task[None]] = {}
        """Those places that are taken, by ticket."""
        self._connections: set[Connection] = set()
        self._socket: socket.socket | None = None
        self._server: web.Server | None = None
        self._accepting: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that it listens on (the free one that was found when 0 was asked for)."""
        if self._socket is None:
            raise RuntimeError("expected an entered Listener, got one that does not listen")
        return int(self._socket.getsockname()[1])

    @property
    def connections(self) -> frozenset[Connection]:
        """The proven inbound connections."""
        return frozenset(self._connections)

    async def __aenter__(self) -> Self:
        context = server_context(self._identity)
        self._socket = await _listen(self._host, self._port)
        self._server = web.Server(
            self._handle,
            access_log=None,
            auto_decompress=False,
            max_line_size=MAX_HTTP_LINE_BYTES,
            max_field_size=MAX_HTTP_FIELD_BYTES,
            max_headers=MAX_HTTP_HEADERS,
        )
        self._accepting = asyncio.create_task(
            self._accept(self._socket, self._server, context), name="wire accept"
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._accepting is None or self._server is None or self._socket is None:
            return
        # A peer that connects in this very turn of the loop would be accepted for a future that is cancelled.
        asyncio.get_running_loop().remove_reader(self._socket)
        self._accepting.cancel()
        await asyncio.wait((self._accepting,))
        self._socket.close()
        await asyncio.gather(*(connection.close(Reason.SHUTDOWN) for connection in self.connections))
        self._server.pre_shutdown()
        await self._server.shutdown(self._timeouts.close_seconds)

    async def _accept(self, listening: socket.socket, server: web.Server, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as admissions:
            while True:
                try:
                    accepted, address = await loop.sock_accept(listening)
                except OSError as error:
                    # Out of descriptors, or the client gave up: neither may end the listening.
                    _log.warning("accept failed, trying again: %s", error)
                    await asyncio.sleep(_ACCEPT_RETRY_SECONDS)
                    continue
                self._take_in(accepted, str(address[0]), admissions, server, context)

    def _take_in(
        self,
        accepted: socket.socket,
        host: str,
        admissions: asyncio.TaskGroup,
        server: web.Server,
        context: ssl.SSLContext,
    ) -> None:
        """Give a socket a place, perhaps that of one from a more crowded source, or close it."""
        ticket, victim = self._places.admit(host) if self._admits_host(host) else (None, None)
        if victim is not None:
            self._admissions[victim].cancel()
        if ticket is None:
            accepted.close()
            return
        deadline = asyncio.get_running_loop().time() + self._timeouts.handshake_seconds
        pending = _Pending(socket=accepted, deadline=deadline)
        task = admissions.create_task(self._admit(pending, server, context))
        self._admissions[ticket] = task
        task.add_done_callback(lambda _: self._on_admission_done(ticket, pending))

    def _on_admission_done(self, ticket: int, pending: _Pending) -> None:
        """Free the place, and the socket unless the handshake ended one way or the other."""
        self._places.release(ticket)
        del self._admissions[ticket]
        if pending.settled.is_set():
            return
        if pending.transport is not None:
            pending.transport.abort()
        else:
            pending.socket.close()

    async def _admit(self, pending: _Pending, server: web.Server, context: ssl.SSLContext) -> None:
        """Run TLS on a socket and wait for the proof of its identity, until the deadline."""
        loop = asyncio.get_running_loop()
        protocol = server()
        self._pending[protocol] = pending
        try:
            async with asyncio.timeout_at(pending.deadline):
                pending.transport, _ = await loop.connect_accepted_socket(
                    lambda: protocol, pending.socket, ssl=context
                )
            # The handler keeps the deadline itself, so that it can still say why: hence the grace.
            async with asyncio.timeout_at(pending.deadline + self._timeouts.close_seconds):
                await pending.settled.wait()
        except (OSError, TimeoutError) as error:
            _log.debug("inbound socket dropped before its proof: %r", error)
        finally:
            del self._pending[protocol]

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        pending = self._pending.get(request.protocol)
        websocket = web.WebSocketResponse(
            compress=False,
            max_msg_size=MAX_WEBSOCKET_BYTES,
            autoping=False,
            autoclose=False,
            timeout=self._timeouts.close_seconds,
        )
        if pending is None or request.path != PATH or not websocket.can_prepare(request).ok:
            response = web.Response(status=404, text=f"expected a WebSocket upgrade on {PATH}\n")
            response.force_close()
            return response
        remote = request.transport.get_extra_info("peername") if request.transport else None
        if remote is None:
            return web.Response(status=400)
        try:
            await websocket.prepare(request)
            connection = await self._prove(websocket, pending.deadline, (remote[0], remote[1]))
        except ConnectionError:  # whoever asked is gone
            return web.Response(status=400)
        except HandshakeError as error:
            level = logging.DEBUG if error.reason == Reason.SELF_CONNECTION else logging.INFO
            _log.log(level, "refused inbound %s:%d: %s", remote[0], remote[1], error)
            if self._on_refused is not None:
                self._on_refused((remote[0], remote[1]), error)
            return websocket
        finally:
            pending.settled.set()
        await self._serve(connection)
        return websocket

    async def _prove(
        self, websocket: web.WebSocketResponse, deadline: float, remote: tuple[str, int]
    ) -> Connection:
        machine = Handshake(
            role=HandshakeRole.RESPONDER,
            local=self._local,
            nonce=secrets.token_bytes(NONCE_BYTES),
            certificate_hash=self._identity.certificate_hash,
        )
        peer = await _shake_hands(websocket, machine, deadline, self._timeouts)
        return Connection(
            websocket=websocket, peer=peer, remote=remote, limits=self._limits, timeouts=self._timeouts
        )

    async def _serve(self, connection: Connection) -> None:
        if len(self._connections) >= self._limits.max_inbound and not self._make_room(connection):
            await connection.close(
                Reason.TOO_MANY_CONNECTIONS, f"this node takes {self._limits.max_inbound} connections"
            )
            return
        self._connections.add(connection)
        try:
            async with connection:
                await self._on_connection(connection)
        except WireError as error:
            _log.info("inbound %s:%d ended: %s", *connection.remote, error)
        finally:
            self._connections.discard(connection)


async def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; ListenFailed when the address is taken or not this machine's."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, address = found[0]
        listening = socket.create_server((str(address[0]), port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ListenFailed(
            Reason.CANNOT_LISTEN,
            f"{host}:{port}: expected a free address, got {error.strerror}; choose another one",
        ) from error
    listening.settimeout(0)
    return listening


async def _upgrade(
    session: aiohttp.ClientSession, host: str, port: int, timeouts: Timeouts
) -> aiohttp.ClientWebSocketResponse:
    try:
        async with asyncio.timeout(timeouts.connect_seconds):
            return await session.ws_connect(
                URL.build(scheme="wss", host=host, port=port, path=PATH),
                compress=0,
                max_msg_size=MAX_WEBSOCKET_BYTES,
                autoping=False,
                autoclose=False,
                timeout=aiohttp.ClientWSTimeout(ws_close=timeouts.close_seconds),
            )
    except TimeoutError:
        raise ConnectFailed(
            Reason.UNREACHABLE,
            f"{host}:{port}: expected an answer within {timeouts.connect_seconds:g} s, got none",
        ) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise ConnectFailed(
            Reason.UNREACHABLE, f"{host}:{port}: expected a facechain peer port, got: {error}"
        ) from error


def _refuse_redirects() -> aiohttp.TraceConfig:
    """Return a trace that stops aiohttp from following a peer's HTTP redirect to some other server."""

    async def refuse(
        _session: aiohttp.ClientSession,
        _context: SimpleNamespace,
        params: aiohttp.TraceRequestRedirectParams,
    ) -> None:
        raise aiohttp.ClientPayloadError(f"HTTP redirect {params.response.status}")

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(refuse)
    return trace


async def _shake_hands(
    websocket: WebSocket, machine: Handshake, deadline: float, timeouts: Timeouts
) -> HandshakeResult:
    """Drive a handshake over a WebSocket; closes it when the handshake fails."""
    try:
        try:
            async with asyncio.timeout_at(deadline):
                return await _exchange(websocket, machine)
        except TimeoutError:
            error = HandshakeTimeout(timeouts.handshake_seconds)
            await _say(websocket, [disconnect_frame(error.reason, error.message)], timeouts)
            raise error from None
    except HandshakeError:
        await _say(websocket, machine.frames_to_send(), timeouts)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeouts.close_seconds):
                await websocket.close()
        raise


async def _exchange(websocket: WebSocket, machine: Handshake) -> HandshakeResult:
    while True:
        try:
            for frame in machine.frames_to_send():
                await websocket.send_bytes(frame)
        except (ConnectionError, aiohttp.ClientError) as error:
            raise HandshakeRefused(Reason.CONNECTION_LOST, f"the connection broke: {error}") from error
        received = await websocket.receive()
        if received.type in {WSMsgType.TEXT, WSMsgType.PING, WSMsgType.PONG}:
            raise HandshakeProtocolError(f"expected a binary message, got {received.type.name}")
        if received.type is not WSMsgType.BINARY:
            raise HandshakeRefused(
                Reason.CONNECTION_LOST, "expected the peer's part of the handshake, got the end"
            )
        for event in machine.receive(received.data):
            if isinstance(event, HandshakeDone):
                return event.result


async def _say(websocket: WebSocket, frames: list[bytes], timeouts: Timeouts) -> None:
    """Send last frames to a peer that is being refused, if it still listens."""
    with contextlib.suppress(ConnectionError, aiohttp.ClientError, TimeoutError):
        async with asyncio.timeout(timeouts.close_seconds):
            for frame in frames:
                await websocket.send_bytes(frame)
