"""One proven connection: whole messages in and out, with bounded queues and a deadline for everything.

Owns the writer and ping tasks of a WebSocket and the `Session` that judges its traffic. It answers pings,
refuses what the table forbids, and ends with a typed error; what messages mean is not its business.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
import traceback
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

import aiohttp
from aiohttp import WSCloseCode, WSMsgType, web

from .codec import disconnect_frame
from .deadline import Deadline
from .faults import ConnectionClosed, PeerFault, PeerTimeout, Reason, WireError
from .handshake import HandshakeResult
from .limits import MAX_FRAME_BYTES, ConnectionLimits, Timeouts
from .messages import Disconnect, HandshakeRole, Message, Ping, Pong
from .session import Session

WebSocket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse
"""Either end of aiohttp's WebSocket."""

MAX_WEBSOCKET_BYTES: Final = MAX_FRAME_BYTES + 1
"""aiohttp's `max_msg_size`, which refuses messages of this size and above."""

PROBE_POLL_SECONDS: Final = 0.05
"""A probe of a connection that is busy looks again this often, once its time would be over."""

SURELY_WAITED_SECONDS: Final = 0.0002
"""A frame that took longer to come was waited for, so that everybody else had a turn meanwhile."""

_SEND_ERRORS: Final = (ConnectionError, aiohttp.ClientError)


class Connection:
    """A connection to a proven peer. Use it as an async context manager, or `close` it.

    One task at a time may `receive`; any number may `send`. After the first error every call raises it.
    """

    def __init__(
        self,
        *,
        websocket: WebSocket,
        peer: HandshakeResult,
        remote: tuple[str, int],
        limits: ConnectionLimits,
        timeouts: Timeouts,
        release: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Take over an upgraded and proven WebSocket; needs a running loop.

        `release` is awaited once after the close, for what the connection alone uses.
        """
        self.peer = peer
        self.remote = remote
        """Address and port of the other end of the socket."""
        self.session = Session(time.monotonic(), peer.version)
        """Counters and round-trip time; for reading only."""
        self._websocket = websocket
        # Kept, because aiohttp forgets its transport when the peer is gone.
        self._socket: socket.socket = websocket.get_extra_info("socket")
        self._limits = limits
        self._timeouts = timeouts
        self._release = release
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._waited_seconds = 0.0
        """How long this node waited for frames: a peer is not to blame for what this node did not read."""
        self._waited_before_ping = 0.0
        self._listens_since: float | None = None
        self._last_wait_seconds = 0.0
        self._heard_frames = 0
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._failure: WireError | None = None
        self._closing: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[WireError] | None = None
        """Of a peer that was silent."""
        self._silence = Deadline(timeouts.idle_seconds, self._on_silence)
        self._sending = Deadline(timeouts.send_seconds, self._on_stuck)
        self._tasks = [
            asyncio.create_task(self._write(), name="wire writer"),
            asyncio.create_task(self._keep_alive(), name="wire ping"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._on_task_done)

    @property
    def inbound(self) -> bool:
        """Whether the peer opened the connection."""
        return self.peer.role is HandshakeRole.INITIATOR

    @property
    def queued_bytes(self) -> int:
        """Bytes of the frames that wait, the one that is being sent among them."""
        return self._queued_bytes

    @property
    def failure(self) -> WireError | None:
        """Why the connection ended; None while it is open."""
        return self._failure

    def ended_by(self, error: WireError) -> bool:
        """Whether this is what ended the connection, and not something that came after it or from elsewhere."""
        return self._failure is not None and self._failure.args == error.args

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, WireError):
            await self.close(error.reason, error.message)
        elif isinstance(error, asyncio.CancelledError):
            await self.close(Reason.SHUTDOWN)
        else:
            await self.close()

    async def receive(self) -> Message:
        """Return the peer's next message; pings and pongs are dealt with here.

        Not calling it stops the reading from the socket: that is the back-pressure on the peer.

        Raises:
            PeerFault: the peer broke the protocol; the connection is closed.
            PeerTimeout: it was silent, or did not read, for too long.
            ConnectionClosed: one side ended the connection, or the path broke.
        """
        while True:
            frame = await self._read_frame()
            try:
                message = self.session.incoming(frame, time.monotonic())
            except PeerFault as fault:
                raise await self._end(fault) from fault.__cause__
            if isinstance(message, Ping):
                await self.send(Pong(nonce=message.nonce))
            elif isinstance(message, Disconnect):
                raise await self._end(ConnectionClosed(message.reason, message.detail, by_peer=True))
            elif not isinstance(message, Pong):
                return message

    async def send(self, message: Message) -> None:
        """Queue a message; waits while the queue is full or the pace of its type is used up.

        Raises:
            PeerTimeout: slow-reader, no room appeared in time.
            WireError: the connection has ended.
            ValueError: the message is out of its limits.
        """
        kind = type(message)
        self._check_open()
        while delay := self.session.send_delay_seconds(kind, time.monotonic()):
            await asyncio.sleep(delay)
            self._check_open()
        frame = self.session.outgoing(message, time.monotonic())
        if self._is_full_for(frame):
            await self._wait_for_room(frame)
        self._put(frame)

    def offer(self, message: Message) -> bool:
        """Queue a message if nothing has to be waited for; False, and nothing done, where `send` waits or raises."""
        if self._failure is not None or self._queued_bytes:
            return False
        now = time.monotonic()
        if self.session.send_delay_seconds(type(message), now):
            return False
        try:
            frame = self.session.outgoing(message, now)
        except ValueError:
            return False
        self._put(frame)
        return True

    def _put(self, frame: bytes) -> None:
        self._queue.append(frame)
        self._queued_bytes += len(frame)
        self._work.set()

    def _is_full_for(self, frame: bytes) -> bool:
        return self._queued_bytes > 0 and self._queued_bytes + len(frame) > self._limits.send_queue_bytes

    async def _wait_for_room(self, frame: bytes) -> None:
        try:
            async with asyncio.timeout(self._timeouts.send_seconds):
                while self._is_full_for(frame):
                    self._room.clear()
                    await self._room.wait()
                    self._check_open()
        except TimeoutError:
            raise self._fail(self._slow_reader()) from None

    async def probe(self, seconds: float) -> None:
        """Ask for a sign of life, and end the connection when none comes within some seconds of listening."""
        try:
            if not self.session.awaits_pong:
                self._waited_before_ping = self._waited_seconds
                await self.send(Ping(nonce=secrets.randbits(64)))
        except WireError:
            return
        heard, before = self._heard_frames, self._listened_seconds()
        while self._heard_frames == heard and self._failure is None:
            if self._listened_seconds() - before >= seconds:
                text = f"expected a sign of life within {seconds:g} s, as the peer opened another connection"
                self._fail(PeerTimeout(Reason.PING_TIMEOUT, text))
                return
            await asyncio.sleep(PROBE_POLL_SECONDS)

    def _listened_seconds(self) -> float:
        """Return for how long this node waited for frames so far, which it does not while it is busy with others."""
        since = self._listens_since
        return self._waited_seconds + (0.0 if since is None else time.monotonic() - since)

    async def close(self, reason: str = Reason.DONE, detail: str = "") -> None:
        """Send what is queued and a Disconnect, then close, within `Timeouts.close_seconds`. Idempotent."""
        await self._end(ConnectionClosed(reason, detail or "this node closed the connection"))

    def give_up(self) -> None:
        """Cut the connection to a peer that does not read, and free what waits for it at once."""
        text = f"expected a peer that reads, got {self._queued_bytes} bytes that wait while memory is short"
        self._drop_queue()
        self._fail(PeerTimeout(Reason.SLOW_READER, text))

    def _drop_queue(self) -> None:
        while self._queue:
            self._queued_bytes -= len(self._queue.pop())

    def _check_open(self) -> None:
        if self._failure is not None:
            raise self._failure.again()

    async def _read_frame(self) -> bytes:
        if self._last_wait_seconds < SURELY_WAITED_SECONDS:
            # Frames that are here already are handed over without waiting: everybody else gets a turn between two.
            await asyncio.sleep(0)
        self._check_open()
        self._listens_since = waiting_since = time.monotonic()
        self._silence.begin()
        try:
            received = await self._websocket.receive()
            self._last_wait_seconds = time.monotonic() - waiting_since
            self._waited_seconds += self._last_wait_seconds
            self._heard_frames += 1
        finally:
            self._silence.end()
            self._listens_since = None
        if received.type is WSMsgType.BINARY:
            return bytes(received.data)
        raise await self._end(self._end_of(received))

    def _on_stuck(self) -> None:
        self._fail(self._slow_reader())

    def _on_silence(self) -> None:
        """Say goodbye; the reader sees the end, and says why."""
        idle_seconds = self._timeouts.idle_seconds
        silent = PeerTimeout(Reason.IDLE_TIMEOUT, f"expected a message within {idle_seconds:g} s, got none")
        self._ending = asyncio.create_task(self._end(silent), name="wire silence")

    def _end_of(self, received: aiohttp.WSMessage) -> WireError:
        """Return what a WebSocket message that is no frame of ours means."""
        if received.type in {WSMsgType.TEXT, WSMsgType.PING, WSMsgType.PONG}:
            return PeerFault(
                Reason.UNEXPECTED_MESSAGE, f"expected a binary WebSocket message, got {received.type.name}"
            )
        if received.type is WSMsgType.ERROR and isinstance(received.data, aiohttp.WebSocketError):
            too_big = received.data.code == WSCloseCode.MESSAGE_TOO_BIG
            reason = Reason.OVERSIZED_MESSAGE if too_big else Reason.MALFORMED_MESSAGE
            return PeerFault(
                reason,
                f"expected a WebSocket message of at most {MAX_FRAME_BYTES} bytes, got: {received.data}",
            )
        if received.type is WSMsgType.CLOSE and received.data == WSCloseCode.MESSAGE_TOO_BIG:
            return ConnectionClosed(
                Reason.OVERSIZED_MESSAGE, "the peer refused a message as too big", by_peer=True
            )
        return ConnectionClosed(
            Reason.CONNECTION_LOST, "expected a Disconnect, got the end of the connection"
        )

    def _slow_reader(self) -> PeerTimeout:
        return PeerTimeout(
            Reason.SLOW_READER,
            f"expected the peer to read within {self._timeouts.send_seconds:g} s, "
            f"got {self._queued_bytes} bytes stuck in the send queue",
        )

    async def _write(self) -> None:
        """Send queued frames until the connection closes and the queue is empty."""
        while self._queue or self._closing is None:
            if not self._queue:
                self._work.clear()
                await self._work.wait()
                continue
            frame = self._queue.popleft()
            self._sending.begin()  # its end cuts the socket, which ends the sending
            try:
                await self._websocket.send_bytes(frame)
            except _SEND_ERRORS as error:
                traceback.clear_frames(
                    error.__traceback__
                )  # aiohttp keeps the error, and with it what was sent
                frame = b""
                self._fail(ConnectionClosed(Reason.CONNECTION_LOST, f"the connection broke: {error}"))
                return
            finally:
                self._sending.end()
            self._queued_bytes -= len(frame)
            self._room.set()

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(self._timeouts.ping_interval_seconds)
            if self.session.awaits_pong:
                waited = self._waited_seconds - self._waited_before_ping
                if waited >= self._timeouts.pong_seconds:
                    self._fail(
                        PeerTimeout(
                            Reason.PING_TIMEOUT,
                            f"expected the answer to a ping within {self._timeouts.pong_seconds:g} s, "
                            "got other messages only",
                        )
                    )
                    return
                continue
            self._waited_before_ping = self._waited_seconds
            try:
                await self.send(Ping(nonce=secrets.randbits(64)))
            except WireError:
                return

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(ConnectionClosed(Reason.CONNECTION_LOST, f"{task.get_name()} failed: {error}"))

    def _fail(self, failure: WireError) -> WireError:
        """Cut the socket without waiting: `receive` wakes up by it, waiting senders by the event."""
        self._failure = self._failure or failure.again()
        self._room.set()
        self._cut()
        return self._failure.again()

    def _cut(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    async def _end(self, failure: WireError) -> WireError:
        """Close for `failure` unless it is closed already; return the failure that came first."""
        if self._closing is None:
            in_order = self._failure is None
            self._failure = self._failure or failure.again()
            by_peer = isinstance(failure, ConnectionClosed) and failure.by_peer
            if in_order and not by_peer and not self._websocket.closed:
                self._queue.append(disconnect_frame(failure.reason, failure.message))
            self._closing = asyncio.create_task(self._shut(in_order=in_order), name="wire close")
            self._room.set()
            self._work.set()
        try:
            await asyncio.shield(self._closing)
        except asyncio.CancelledError:
            self._cut()
            raise
        return (self._failure or failure).again()

    async def _shut(self, *, in_order: bool) -> None:
        writer, pinger = self._tasks
        pinger.cancel()
        try:
            async with asyncio.timeout(self._timeouts.close_seconds):
                if in_order:
                    await asyncio.wait((writer,))
                    await self._websocket.close()
        except TimeoutError:
            pass  # the cut below is the answer
        finally:
            self._cut()
            self._silence.close()
            writer.cancel()
            await asyncio.wait(self._tasks)
            self._sending.close()
            self._drop_queue()  # what refers to this connection is a circle, which lives until it is searched for
            if self._release is not None:
                await self._release()
        ended, self._tasks = self._tasks, []  # a task keeps where it was cancelled, and that what was sent
        for task in ended:
            if not task.cancelled():
                task.result()
