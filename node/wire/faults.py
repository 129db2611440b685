"""Why a connection was not made, or ended: reason codes and typed errors.

Owns names only. `misbehaviour` tells the peer book whether the peer broke the protocol (and may be punished)
or merely is of no use here; nothing is punished in this package.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Reason(StrEnum):
    """Codes that a Disconnect carries and that errors are told apart by."""

    DONE = "done"
    SHUTDOWN = "shutdown"
    DUPLICATE_CONNECTION = "duplicate-connection"
    TOO_MANY_CONNECTIONS = "too-many-connections"
    MISBEHAVIOUR = "misbehaviour"
    BANNED = "banned"
    # the peer broke the protocol
    UNKNOWN_MESSAGE = "unknown-message"
    OVERSIZED_MESSAGE = "oversized-message"
    MALFORMED_MESSAGE = "malformed-message"
    UNEXPECTED_MESSAGE = "unexpected-message"
    UNSOLICITED_REPLY = "unsolicited-reply"
    RATE_LIMIT = "rate-limit"
    # the peer or the path is too slow, or gone
    SLOW_READER = "slow-reader"
    IDLE_TIMEOUT = "idle-timeout"
    PING_TIMEOUT = "ping-timeout"
    HANDSHAKE_TIMEOUT = "handshake-timeout"
    CONNECTION_LOST = "connection-lost"
    UNREACHABLE = "unreachable"
    CANNOT_LISTEN = "cannot-listen"
    # the handshake failed
    WRONG_NETWORK = "wrong-network"
    VERSION_MISMATCH = "version-mismatch"
    SELF_CONNECTION = "self-connection"
    BAD_HANDSHAKE_SIGNATURE = "bad-handshake-signature"
    CERTIFICATE_MISMATCH = "certificate-mismatch"
    PROTOCOL_ERROR = "protocol-error"


class WireError(Exception):
    """Base of all: `reason` is a `Reason` (or a peer's own code), `message` says expected, got, what to do."""

    misbehaviour = False

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = str(reason)
        self.message = message

    def __str__(self) -> str:
        return self.diagnostics()

    def diagnostics(self) -> str:
        """Return `reason: message` on one line."""
        return " ".join(f"{self.reason}: {self.message}".split())

    def again(self) -> Self:
        """Return the same error as if nobody had raised it: one that is kept must not keep the frames it passed."""
        other = type(self).__new__(type(self), *self.args)
        other.__dict__.update(self.__dict__)
        return other


class PeerFault(WireError):
    """The peer broke a rule of the wire protocol on an open connection."""

    misbehaviour = True


class PeerTimeout(WireError):
    """The peer did not read or did not speak in time (slow-reader, idle-timeout, ping-timeout)."""


class ConnectFailed(WireError):
    """No connection came about: nothing listens there, TLS failed, or it is no facechain node."""


class ListenFailed(WireError):
    """The peer port cannot be opened."""


class ConnectionClosed(WireError):
    """The connection ended; `by_peer` tells whose wish it was (False as well when the path broke)."""

    def __init__(self, reason: str, message: str, *, by_peer: bool = False) -> None:
        super().__init__(reason, message)
        self.by_peer = by_peer


class HandshakeError(WireError):
    """The peer's identity was not accepted."""


class WrongNetwork(HandshakeError):
    """The peer belongs to another network (32-byte ids `expected` and `got`)."""

    def __init__(self, *, expected: bytes, got: bytes) -> None:
        super().__init__(
            Reason.WRONG_NETWORK,
            f"expected network {expected.hex()}, got {got.hex()}; check the genesis file of both nodes",
        )
        self.expected = expected
        self.got = got


class VersionMismatch(HandshakeError):
    """The ranges of protocol versions, each (lowest, highest), do not meet."""

    def __init__(self, *, expected: tuple[int, int], got: tuple[int, int]) -> None:
        super().__init__(
            Reason.VERSION_MISMATCH,
            f"expected a protocol version of {expected[0]} to {expected[1]}, got {got[0]} to {got[1]}; "
            f"upgrade the older node",
        )
        self.expected = expected
        self.got = got


class SelfConnection(HandshakeError):
    """The peer shows this node's own key."""

    def __init__(self) -> None:
        super().__init__(
            Reason.SELF_CONNECTION,
            "expected another node's key, got this node's own; the address is this node's, "
            "or the node key was copied",
        )


class AlreadyConnected(HandshakeError):
    """The peer says that it is a node to which there is a connection; a second one would end that."""

    def __init__(self, *, node_key: bytes) -> None:
        super().__init__(
            Reason.DUPLICATE_CONNECTION,
            f"expected a node without a connection to this one, got {node_key.hex()}",
        )
        self.node_key = node_key


class BadHandshakeSignature(HandshakeError):
    """The peer does not hold the private part of the key that it showed."""

    misbehaviour = True

    def __init__(self, *, node_key: bytes) -> None:
        super().__init__(
            Reason.BAD_HANDSHAKE_SIGNATURE,
            f"expected a signature of node {node_key.hex()} over this handshake, got one that does not verify",
        )


class CertificateMismatch(HandshakeError):
    """Both ends saw different server certificates: somebody relays the connection."""

    def __init__(self, *, expected: bytes, got: bytes) -> None:
        super().__init__(
            Reason.CERTIFICATE_MISMATCH,
            f"expected server certificate {expected.hex()}, the peer saw {got.hex()}; "
            "a relay in between ends TLS itself",
        )
        self.expected = expected
        self.got = got


class HandshakeProtocolError(HandshakeError):
    """Something else than the frame that is due in the handshake."""

    misbehaviour = True

    def __init__(self, message: str) -> None:
        super().__init__(Reason.PROTOCOL_ERROR, message)


class HandshakeTimeout(HandshakeError):
    """The peer did not finish the handshake in time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            Reason.HANDSHAKE_TIMEOUT, f"expected a finished handshake within {seconds:g} s, got silence"
        )


class HandshakeRefused(HandshakeError):
    """The peer ended the handshake; `reason` is the code that it gave."""
