"""The attacker's end of a connection: TLS, WebSocket and handshake by hand, so that each of them can be done wrong.

Owns bytes on the wire and nothing of what an attack means. A `Peer` is polite where an attack says nothing else: it
pongs, has no headers, bodies, statements and addresses, and keeps what it heard.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import secrets
import ssl
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeVar

from facechain.consensus.encoding import pack
from facechain.consensus.errors import DecodeError
from facechain.consensus.hashing import sha256
from facechain.consensus.signing import NodeKey, Purpose
from facechain.node.wire import messages as wire
from facechain.node.wire.codec import decode, encode
from facechain.node.wire.faults import PeerFault
from facechain.node.wire.tls import client_context

MessageT = TypeVar("MessageT")

BINARY: Final = 2
CLOSE: Final = 8
GONE: Final = "connection-lost"
"""How an end without a reason is called."""
MISBEHAVIOUR: Final = "misbehaviour"
WEBSOCKET_GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONNECT_SECONDS: Final = 15.0
READ_BYTES_MAX: Final = 64 * 2**20

Answer = Callable[[Any], wire.Message | bytes | None]
"""Makes the answer to a message: a message, a frame as it is, or silence."""


class Ended(Exception):
    """The other end closed, or the path broke."""


def raw_frame(number: int, fields: object) -> bytes:
    """Return a frame of any type and content, whatever the tables say."""
    return bytes((number,)) + pack(fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who connects, and from where."""

    key: NodeKey
    source: str
    """Local address of the socket."""
    network_id: bytes
    user_agent: str = "attacker"
    listen_port: int = 0
    versions: tuple[int, int] = (1, 2)

    def hello(self, role: wire.HandshakeRole = wire.HandshakeRole.INITIATOR, **changes: Any) -> wire.Hello:
        """Return an honest Hello, `changes` applied."""
        fields: dict[str, Any] = {
            "version_min": self.versions[0],
            "version_max": self.versions[1],
            "network_id": self.network_id,
            "node_key": self.key.public,
            "nonce": secrets.token_bytes(32),
            "role": role,
            "listen_port": self.listen_port,
            "services": 3,
            "user_agent": self.user_agent,
        }
        return wire.Hello(**{**fields, **changes})


class Socket:
    """One TLS connection that speaks WebSocket frames, well formed or not."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, initiator: bool = True
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.initiator = initiator

    @classmethod
    async def open(cls, host: str, port: int, source: str) -> Self:
        """Connect with TLS from a local address."""
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(
                host, port, ssl=client_context(), local_addr=(source, 0), limit=READ_BYTES_MAX
            )
        return cls(reader, writer)

    def certificate_hash(self) -> bytes:
        """Return the hash of the certificate that this end was shown."""
        tls: ssl.SSLObject = self.writer.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True)
        return sha256(certificate or b"")

    async def upgrade(self, *headers: str, path: str = "/p2p") -> str:
        """Ask for a WebSocket; return the head of the answer."""
        lines = [
            f"GET {path} HTTP/1.1",
            "Host: localhost",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {base64.b64encode(secrets.token_bytes(16)).decode()}",
            "Sec-WebSocket-Version: 13",
            *headers,
        ]
        await self.write("\r\n".join([*lines, "", ""]).encode())
        return await self.read_head()

    async def take_upgrade(self) -> None:
        """Answer an upgrade as a server."""
        head = await self.read_head()
        fields = dict(line.split(": ", 1) for line in head.splitlines()[1:] if ": " in line)
        key = next(value for name, value in fields.items() if name.lower() == "sec-websocket-key")
        accept = base64.b64encode(hashlib.sha1(f"{key}{WEBSOCKET_GUID}".encode()).digest()).decode()
        lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        await self.write("\r\n".join([*lines, f"Sec-WebSocket-Accept: {accept}", "", ""]).encode())

    async def read_head(self) -> str:
        """Return the head of an HTTP message, or what came of it before the end."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError as error:
            return error.partial.decode("latin-1")
        except (OSError, ssl.SSLError):
            return ""

    def header(self, length: int, *, opcode: int = BINARY, fin: bool = True, rsv1: bool = False) -> bytes:
        """Return the header of a frame of `length` bytes, with a mask of zeros where one is due."""
        first = opcode | (0x80 if fin else 0) | (0x40 if rsv1 else 0)
        mask = 0x80 if self.initiator else 0
        if length < 126:
            head = bytes((first, mask | length))
        elif length < 2**16:
            head = bytes((first, mask | 126)) + length.to_bytes(2, "big")
        else:
            head = bytes((first, mask | 127)) + length.to_bytes(8, "big")
        return head + (bytes(4) if self.initiator else b"")

    async def send(
        self, payload: bytes, *, opcode: int = BINARY, fin: bool = True, rsv1: bool = False
    ) -> None:
        """Send one frame."""
        await self.write(self.header(len(payload), opcode=opcode, fin=fin, rsv1=rsv1) + payload)

    async def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except (OSError, ssl.SSLError, RuntimeError) as error:
            raise Ended(str(error)) from error

    async def receive(self) -> tuple[int, bytes]:
        """Return opcode and payload of the next frame."""
        try:
            head = await self.reader.readexactly(2)
            size = head[1] & 0x7F
            if size >= 126:
                size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
            mask = await self.reader.readexactly(4) if head[1] & 0x80 else b""
            payload = await self.reader.readexactly(size)
        except (asyncio.IncompleteReadError, OSError, ssl.SSLError) as error:
            raise Ended(str(error)) from error
        if mask:
            key = int.from_bytes(mask * (-(-size // 4)), "big")
            whole = payload + bytes(-size % 4)
            payload = (int.from_bytes(whole, "big") ^ key).to_bytes(len(whole), "big")[:size]
        return head[0] & 0x0F, payload

    async def is_closed(self, seconds: float) -> bool:
        """Tell whether the other end closes within some time; what it says until then is passed over."""
        try:
            async with asyncio.timeout(seconds):
                while await self.reader.read(65_536):
                    pass
        except TimeoutError:
            return False
        except (OSError, ssl.SSLError):
            return True
        return True

    def close(self) -> None:
        """Cut the connection."""
        self.writer.transport.abort()


def signed_parts(initiator: wire.Hello, responder: wire.Hello, certificate_hash: bytes) -> tuple[bytes, ...]:
    """Return what both sides of a handshake sign."""
    return (
        initiator.nonce,
        responder.nonce,
        initiator.node_key,
        responder.node_key,
        certificate_hash,
        sha256(encode(initiator)),
        sha256(encode(responder)),
    )


@dataclass
class Peer:
    """A connection of an identity. `open` proves it; `begin` alone leaves the handshake to the attack."""

    socket: Socket
    identity: Identity
    answers: dict[type[Any], Answer] = field(default_factory=dict)
    seen: list[wire.Message] = field(default_factory=list)
    is_deaf: bool = False
    counts: Counter[type[Any]] = field(default_factory=Counter)
    """Messages heard, by type."""

    def __post_init__(self) -> None:
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.reading: asyncio.Task[None] | None = None
        self.news = asyncio.Event()

    @classmethod
    async def open(
        cls,
        address: tuple[str, int],
        identity: Identity,
        answers: Mapping[type[Any], Answer] | None = None,
        **changes: Any,
    ) -> Self:
        """Connect and prove the identity; Ended when the other end refuses."""
        socket = await Socket.open(*address, identity.source)
        head = await socket.upgrade()
        if " 101 " not in head:
            socket.close()
            raise Ended(head.split("\r\n", 1)[0] or "no answer")
        peer = cls(socket, identity, dict(answers or {}))
        await peer.shake_hands(**changes)
        peer.start()
        return peer

    async def shake_hands(
        self,
        *,
        hello: wire.Hello | bytes | None = None,
        certificate_hash: bytes | None = None,
        signature: bytes | None = None,
        reflects: bool = False,
    ) -> None:
        """Go through the handshake as the initiator, with wrong parts where they are given.

        `reflects`: the other end's Proof is sent back to it after a Hello that is given as a frame.
        """
        mine = self.identity.hello() if hello is None else hello
        await self.socket.send(mine if isinstance(mine, bytes) else encode(mine))
        theirs = await self._expect(wire.Hello)
        if isinstance(mine, bytes):
            proof = await self._expect(wire.Proof)
            if reflects:
                await self.socket.send(encode(proof))
            return
        shown = certificate_hash or self.socket.certificate_hash()
        parts = signed_parts(mine, theirs, shown)
        made = signature or self.identity.key.sign(
            Purpose.HANDSHAKE_INITIATOR, self.identity.network_id, *parts
        )
        await self.socket.send(encode(wire.Proof(certificate_hash=shown, signature=made)))
        await self._expect(wire.Proof)

    async def respond(self, certificate_hash: bytes) -> None:
        """Go through the handshake as the responder."""
        theirs = await self._expect(wire.Hello)
        mine = self.identity.hello(wire.HandshakeRole.RESPONDER)
        await self.socket.send(encode(mine))
        parts = signed_parts(theirs, mine, certificate_hash)
        signature = self.identity.key.sign(Purpose.HANDSHAKE_RESPONDER, self.identity.network_id, *parts)
        await self.socket.send(encode(wire.Proof(certificate_hash=certificate_hash, signature=signature)))
        await self._expect(wire.Proof)

    async def _expect(self, kind: type[MessageT]) -> MessageT:
        """Return the next message, which must be of this type; `ended` is set when it is not."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                opcode, payload = await self.socket.receive()
        except TimeoutError as error:
            raise Ended("no answer") from error
        except Ended:
            self._end(GONE)
            raise
        message = decode(payload) if opcode == BINARY and payload else None
        if isinstance(message, kind):
            return message
        if isinstance(message, wire.Disconnect):
            self._end(reason_of(message))
            raise Ended(reason_of(message))
        self._end(GONE)
        raise Ended(f"expected {kind.__name__}, got {message!r:.80}")

    def start(self) -> None:
        """Read from now on."""
        self.reading = asyncio.create_task(self._read(), name=f"attacker {self.identity.source}")

    async def _read(self) -> None:
        try:
            while True:
                opcode, payload = await self.socket.receive()
                if opcode == CLOSE:
                    break
                if opcode == BINARY:
                    await self._take(decode(payload))
        except (Ended, DecodeError, PeerFault):
            pass
        finally:
            if not self.is_deaf:
                self._end(GONE)
                self.socket.close()

    def stop_listening(self) -> None:
        """Read nothing more, and keep the connection open."""
        self.is_deaf = True
        self.socket.writer.transport.pause_reading()  # type: ignore[attr-defined]
        if self.reading is not None:
            self.reading.cancel()

    async def _take(self, message: wire.Message) -> None:
        self.seen.append(message)
        self.counts[type(message)] += 1
        self.news.set()
        if isinstance(message, wire.Disconnect):
            self._end(reason_of(message))
            return
        made = self.answers.get(type(message), polite)(message)
        if made is not None:
            await self.send(made)

    def _end(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)
        self.news.set()

    async def send(self, *messages: wire.Message | bytes) -> None:
        """Send messages, or frames as they are; nothing once the connection ended."""
        for item in messages:
            with contextlib.suppress(Ended):
                await self.socket.send(item if isinstance(item, bytes) else encode(item))

    async def reason(self, seconds: float) -> str:
        """Return why the other end closed, or "" when it did not within some time."""
        done, _ = await asyncio.wait((self.ended,), timeout=seconds)
        return self.ended.result() if done else ""

    def all(self, kind: type[MessageT]) -> list[MessageT]:
        """Return what was heard of one type."""
        return [item for item in self.seen if isinstance(item, kind)]

    async def until(self, condition: Callable[[], object], seconds: float) -> bool:
        """Wait until something heard makes a condition true; False when the time or the connection ends first."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    if self.ended.done():
                        return False
                    self.news.clear()
                    await self.news.wait()
        except TimeoutError:
            return False
        return True

    async def hear(self, kind: type[MessageT], seconds: float, count: int = 1) -> bool:
        """Wait until so many messages of a type came."""
        return await self.until(lambda: self.counts[kind] >= count, seconds)

    async def echo(self, seconds: float = 10.0) -> bool:
        """Wait until the other end dealt with all that was sent: a question for nothing is answered in its turn."""
        nowhere = secrets.token_bytes(32)
        await self.send(wire.GetBody(block_hash=nowhere, start=0, with_leaves=False))
        return await self.until(
            lambda: any(nowhere in item.hashes for item in self.all(wire.NotFound)), seconds
        )

    async def close(self) -> None:
        """Cut the connection."""
        self.socket.close()
        if self.reading is not None:
            self.reading.cancel()
            await asyncio.wait((self.reading,))


def reason_of(message: wire.Disconnect) -> str:
    """Return the reason code; of misbehaviour, the rule that was broken."""
    return message.detail.split(":", 1)[0] if message.reason == MISBEHAVIOUR else message.reason


def polite(message: wire.Message) -> wire.Message | None:
    """Return what somebody who has nothing answers."""
    match message:
        case wire.Ping():
            return wire.Pong(nonce=message.nonce)
        case wire.GetHeaders():
            return wire.Headers(sealed_headers=())
        case wire.GetBody():
            return wire.NotFound(missing=wire.Missing.BODY, hashes=(message.block_hash,))
        case wire.GetLeaves():
            return wire.NotFound(missing=wire.Missing.LEAVES, hashes=(message.block_hash,))
        case wire.GetStatements():
            return wire.NotFound(missing=wire.Missing.STATEMENT, hashes=message.leaves)
        case wire.GetAddresses():
            return wire.Addresses(addresses=())
        case _:
            return None


def silent(_message: wire.Message) -> None:
    """Answer nothing."""


@contextlib.asynccontextmanager
async def lying_in_wait(
    identity: Identity, tls: ssl.SSLContext, certificate_hash: bytes, answers: Mapping[type[Any], Answer]
) -> Any:
    """Listen on a free port of loopback for a node that dials; yields the port and the peers that came."""
    peers: list[Peer] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(Socket(reader, writer, initiator=False), identity, dict(answers))
        try:
            await peer.socket.take_upgrade()
            await peer.respond(certificate_hash)
        except (Ended, StopIteration, PeerFault, DecodeError):
            peer.socket.close()
            return
        peers.append(peer)
        peer.start()

    server = await asyncio.start_server(serve, identity.source, 0, ssl=tls, limit=READ_BYTES_MAX)
    try:
        yield int(server.sockets[0].getsockname()[1]), peers
    finally:
        server.close()
        for peer in peers:
            await peer.close()
