"""What may pass on one proven connection: phase, rate, solicitation and pings, without any I/O.

A `Session` is told every frame that leaves and arrives, with a monotonic clock reading in seconds. It refuses
frames by table (`messages.MESSAGES`) before they are decoded, and paces this node's own sending at a share of
the rates, so that an honest node never runs into its peer's limits, even when the peer read late for a minute.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ...consensus.errors import DecodeError
from .codec import decode_fields, encode, frame_spec
from .faults import PeerFault, Reason
from .handshake import PROTOCOL_VERSIONS
from .limits import PACE_SHARE
from .messages import (
    BY_TYPE,
    MESSAGES,
    REPLIES,
    GetBody,
    GetLeaves,
    GetStatements,
    Message,
    MessageSpec,
    Missing,
    NotFound,
    Phase,
    Ping,
    Pong,
)

_SECONDS_PER_MINUTE: Final = 60.0

SHORTEST_WAIT_SECONDS: Final = 0.001
"""Sums of times are rounded: a wait for what rounding left of a token might end where it began."""

_ANSWERS: Final[Mapping[type[Message], tuple[type[Message], ...]]] = MappingProxyType(
    {reply: tuple(row.message for row in MESSAGES if reply in row.replies) for reply in REPLIES}
)
"""The requests that each reply can answer."""

_MISSING_FROM: Final[Mapping[Missing, type[Message]]] = MappingProxyType(
    {Missing.BODY: GetBody, Missing.STATEMENT: GetStatements, Missing.LEAVES: GetLeaves}
)


class TokenBucket:
    """Holds at most `per_minute` tokens, gains as many per minute, and starts full."""

    __slots__ = ("_filled_at", "_per_second", "_size", "_tokens")

    def __init__(self, per_minute: float, now: float) -> None:
        self._size = max(per_minute, 1.0)
        self._per_second = per_minute / _SECONDS_PER_MINUTE
        self._tokens = self._size
        self._filled_at = now

    def take(self, now: float) -> bool:
        """Take one token; False, and nothing taken, when there is none."""
        self._fill(now)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def seconds_until_next(self, now: float) -> float:
        """Return how long until `take` succeeds, at least `SHORTEST_WAIT_SECONDS`; 0 when it would now."""
        self._fill(now)
        if self._tokens >= 1.0:
            return 0.0
        return max(SHORTEST_WAIT_SECONDS, (1.0 - self._tokens) / self._per_second)

    def _fill(self, now: float) -> None:
        self._tokens = min(self._size, self._tokens + max(0.0, now - self._filled_at) * self._per_second)
        self._filled_at = max(now, self._filled_at)


class Session:
    """The state of one connection after its handshake."""

    def __init__(self, now: float, version: int = PROTOCOL_VERSIONS[1]) -> None:
        """Begin at `now` with the `version` that both sides agreed on."""
        self.version = version
        self._accepts = {row.message: TokenBucket(row.per_minute, now) for row in MESSAGES}
        self._sends = {row.message: TokenBucket(row.per_minute * PACE_SHARE, now) for row in MESSAGES}
        self._awaited: Counter[type[Message]] = Counter()
        self._ping: tuple[int, float] | None = None
        self.round_trip_seconds: float | None = None
        """Of the last answered ping."""
        self.best_round_trip_seconds: float | None = None
        """The shortest one so far."""
        self.received_bytes: Counter[str] = Counter()
        """Bytes of accepted frames by message name."""
        self.sent_bytes: Counter[str] = Counter()
        """Bytes of sent frames by message name."""

    @property
    def awaits_pong(self) -> bool:
        """Whether a ping is unanswered."""
        return self._ping is not None

    def send_delay_seconds(self, message: type[Message], now: float) -> float:
        """Return how long this node must hold back a message of this type to stay within its pace."""
        return self._sends[message].seconds_until_next(now)

    def outgoing(self, message: Message, now: float) -> bytes:
        """Return the frame of a message that is about to be queued, and remember what it asks for.

        ValueError when it cannot be sent (see `codec.encode`) or belongs to the handshake.
        """
        kind = type(message)
        if BY_TYPE[kind].phase is Phase.HANDSHAKE:
            raise ValueError(f"{kind.__name__}: expected a message of the session, got one of the handshake")
        if BY_TYPE[kind].since > self.version:
            raise ValueError(
                f"{kind.__name__}: expected a message of wire version {self.version}, got a later one"
            )
        frame = encode(message)
        self._sends[kind].take(now)
        if BY_TYPE[kind].replies:
            self._awaited[kind] += 1
        if isinstance(message, Ping):
            self._ping = (message.nonce, now)
        self.sent_bytes[kind.__name__] += len(frame)
        return frame

    def incoming(self, frame: bytes, now: float) -> Message:
        """Decode a received frame; PeerFault when the table or the course of the session forbids it."""
        spec = frame_spec(frame)
        self._check_phase(spec)
        if not self._accepts[spec.message].take(now):
            raise PeerFault(
                Reason.RATE_LIMIT, f"{spec.name}: expected at most {spec.per_minute} per minute, got more"
            )
        # Before the parsing where the type tells enough, and exactly after it: answers may come in any order.
        self._check_awaited(_ANSWERS.get(spec.message, ()), spec)
        try:
            message = decode_fields(spec, frame)
        except DecodeError as error:
            raise PeerFault(Reason.MALFORMED_MESSAGE, error.message) from error
        if spec.message in REPLIES:
            answered = _answered_by(message)
            self._check_awaited((answered,), spec)
            self._awaited[answered] -= 1
        if isinstance(message, Pong):
            self._on_pong(message, now)
        self.received_bytes[spec.name] += len(frame)
        return message

    def _check_phase(self, spec: MessageSpec) -> None:
        if spec.since > self.version:
            raise PeerFault(
                Reason.UNKNOWN_MESSAGE,
                f"expected a message type of wire version {self.version}, got {spec.name} of version {spec.since}",
            )
        if spec.phase is Phase.HANDSHAKE:
            raise PeerFault(
                Reason.UNEXPECTED_MESSAGE, f"expected no {spec.name} after the handshake, got one"
            )

    def _check_awaited(self, requests: tuple[type[Message], ...], spec: MessageSpec) -> None:
        if requests and not any(self._awaited[request] for request in requests):
            raise PeerFault(
                Reason.UNSOLICITED_REPLY,
                f"expected {spec.name} only as an answer, got one nobody asked for",
            )

    def _on_pong(self, pong: Pong, now: float) -> None:
        if self._ping is None or self._ping[0] != pong.nonce:
            raise PeerFault(
                Reason.UNSOLICITED_REPLY, "expected a Pong with the last Ping's nonce, got another"
            )
        self.round_trip_seconds = now - self._ping[1]
        best = self.best_round_trip_seconds
        self.best_round_trip_seconds = min(self.round_trip_seconds, best or self.round_trip_seconds)
        self._ping = None


def _answered_by(reply: Message) -> type[Message]:
    """Return the type of request that a reply answers."""
    if isinstance(reply, NotFound):
        return _MISSING_FROM[reply.missing]
    return _ANSWERS[type(reply)][0]
