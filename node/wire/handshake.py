"""The identity handshake: who is at the other end, and is it the end of the same TLS connection?

Both sides send a Hello, then a Proof: a signature over both Hellos (nonces, keys, network, versions, roles) and
the hash of the server's TLS certificate as this side knows it. A relay that ends TLS has a certificate of its
own, so the two hashes differ and each side refuses by itself. `Handshake` is sans-I/O and serves both roles.

    initiator  Hello ─────────────►
               ◄───────────── Hello  responder
               Proof ─────────────►
               ◄───────────── Proof
"""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ...consensus.errors import DecodeError
from ...consensus.hashing import sha256
from ...consensus.signing import NodeKey, Purpose, verify_signature
from .codec import decode, disconnect_frame, encode
from .faults import (
    AlreadyConnected,
    BadHandshakeSignature,
    CertificateMismatch,
    HandshakeError,
    HandshakeProtocolError,
    HandshakeRefused,
    PeerFault,
    SelfConnection,
    VersionMismatch,
    WrongNetwork,
)
from .messages import Disconnect, HandshakeRole, Hello, Message, Proof, Service

PROTOCOL_VERSIONS: Final = (1, 3)
"""Lowest and highest version of the wire protocol (draft numbers) that this code speaks."""

_PURPOSE: Final = {
    HandshakeRole.INITIATOR: Purpose.HANDSHAKE_INITIATOR,
    HandshakeRole.RESPONDER: Purpose.HANDSHAKE_RESPONDER,
}
_OTHER: Final = {
    HandshakeRole.INITIATOR: HandshakeRole.RESPONDER,
    HandshakeRole.RESPONDER: HandshakeRole.INITIATOR,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalNode:
    """What this node tells about itself."""

    key: NodeKey
    network_id: bytes
    user_agent: str
    listen_port: int = 0
    """0: takes no connections."""
    services: Service = Service.BODIES | Service.RELAY
    versions: tuple[int, int] = PROTOCOL_VERSIONS
    avoids: Callable[[bytes], bool] = lambda _node_key: False
    """Whether no connection is wanted to the node of a key: then this side proves nothing, so that the other one does not
    take it for a newer connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeResult:
    """What a proven peer told about itself."""

    node_key: bytes
    """Its Ed25519 public key (32 bytes): the peer's identity."""
    version: int
    """Highest version that both speak."""
    user_agent: str
    services: Service
    listen_port: int
    role: HandshakeRole
    """The peer's role: INITIATOR when it connected to this node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HelloReceived:
    """Event: the peer's Hello was accepted; nothing in it is proven yet."""

    hello: Hello


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeDone:
    """Event: the peer proved its identity. The handshake takes no more frames."""

    result: HandshakeResult


HandshakeEvent = HelloReceived | HandshakeDone


class Handshake:
    """State machine of one side: feed frames to `receive`, send what `frames_to_send` returns after each step.

    `receive` raises a `HandshakeError` when the peer is refused; `frames_to_send` then still holds what the
    peer needs to understand why. `nonce` is 32 fresh random bytes, `certificate_hash` the SHA-256 of the server's
    certificate (DER): the responder's own one, or the one that the initiator was shown.
    """

    def __init__(
        self, *, role: HandshakeRole, local: LocalNode, nonce: bytes, certificate_hash: bytes
    ) -> None:
        self._role = role
        self._local = local
        self._certificate_hash = certificate_hash
        self._hello = Hello(
            version_min=local.versions[0],
            version_max=local.versions[1],
            network_id=local.network_id,
            node_key=local.key.public,
            nonce=nonce,
            role=role,
            listen_port=local.listen_port,
            services=int(local.services),
            user_agent=local.user_agent,
        )
        # Encoded at once: a user agent that is too long is this node's error, not the peer's.
        self._hello_frame = encode(self._hello)
        self._peer_hello: Hello | None = None
        self._ended = False
        self._outbox: deque[bytes] = deque()
        if role is HandshakeRole.INITIATOR:
            self._outbox.append(self._hello_frame)

    def frames_to_send(self) -> list[bytes]:
        """Return, and forget, the frames that are to be sent now, in order."""
        frames = list(self._outbox)
        self._outbox.clear()
        return frames

    def receive(self, frame: bytes) -> list[HandshakeEvent]:
        """Take one frame of the peer.

        Raises:
            HandshakeError: one of its typed subclasses; the connection is to be closed.
        """
        try:
            return self._receive(frame)
        except HandshakeError as error:
            self._ended = True
            if not isinstance(error, HandshakeRefused):
                self._outbox.append(disconnect_frame(error.reason, error.message))
            raise

    def _receive(self, frame: bytes) -> list[HandshakeEvent]:
        if self._ended:
            raise HandshakeProtocolError("expected no frame after the end of the handshake, got one")
        message = _decode(frame)
        if isinstance(message, Disconnect):
            raise HandshakeRefused(message.reason, f"the peer ended the handshake: {message.detail}")
        if self._peer_hello is None:
            if not isinstance(message, Hello):
                raise HandshakeProtocolError(f"expected Hello, got {type(message).__name__}")
            return self._on_hello(message)
        if not isinstance(message, Proof):
            raise HandshakeProtocolError(f"expected Proof, got {type(message).__name__}")
        return self._on_proof(message, self._peer_hello)

    def _on_hello(self, hello: Hello) -> list[HandshakeEvent]:
        if self._role is HandshakeRole.RESPONDER:
            # Sent even to a peer that is refused below, so that it can name both networks or versions.
            self._outbox.append(self._hello_frame)
        if hello.role is not _OTHER[self._role]:
            raise HandshakeProtocolError(
                f"expected role {_OTHER[self._role].name.lower()}, got {hello.role.name.lower()}"
            )
        if hello.network_id != self._local.network_id:
            raise WrongNetwork(expected=self._local.network_id, got=hello.network_id)
        _agree(self._local.versions, (hello.version_min, hello.version_max))
        if hello.node_key == self._local.key.public:
            raise SelfConnection
        if self._local.avoids(hello.node_key):
            raise AlreadyConnected(node_key=hello.node_key)
        self._peer_hello = hello
        signature = self._local.key.sign(
            _PURPOSE[self._role], self._local.network_id, *self._signed_parts(hello, self._certificate_hash)
        )
        proof = Proof(certificate_hash=self._certificate_hash, signature=signature)
        self._outbox.append(encode(proof))
        return [HelloReceived(hello=hello)]

    def _on_proof(self, proof: Proof, hello: Hello) -> list[HandshakeEvent]:
        if not hmac.compare_digest(proof.certificate_hash, self._certificate_hash):
            raise CertificateMismatch(expected=self._certificate_hash, got=proof.certificate_hash)
        if not verify_signature(
            hello.node_key,
            proof.signature,
            _PURPOSE[hello.role],
            self._local.network_id,
            *self._signed_parts(hello, proof.certificate_hash),
        ):
            raise BadHandshakeSignature(node_key=hello.node_key)
        self._ended = True
        result = HandshakeResult(
            node_key=hello.node_key,
            version=_agree(self._local.versions, (hello.version_min, hello.version_max)),
            user_agent=hello.user_agent,
            services=Service(hello.services),
            listen_port=hello.listen_port,
            role=hello.role,
        )
        return [HandshakeDone(result=result)]

    def _signed_parts(self, peer: Hello, certificate_hash: bytes) -> tuple[bytes, ...]:
        """Return what both sides sign, each of fixed size, the initiator's part before the responder's."""
        hellos = (self._hello, peer) if self._role is HandshakeRole.INITIATOR else (peer, self._hello)
        initiator, responder = hellos
        return (
            initiator.nonce,
            responder.nonce,
            initiator.node_key,
            responder.node_key,
            certificate_hash,
            sha256(encode(initiator)),
            sha256(encode(responder)),
        )


def _decode(frame: bytes) -> Message:
    try:
        return decode(frame)
    except (DecodeError, PeerFault) as error:
        raise HandshakeProtocolError(f"expected a frame of the handshake, got {error.message}") from error


def _agree(ours: tuple[int, int], theirs: tuple[int, int]) -> int:
    """Return the highest version in both ranges."""
    version = min(ours[1], theirs[1])
    if version < max(ours[0], theirs[0]):
        raise VersionMismatch(expected=ours, got=theirs)
    return version
