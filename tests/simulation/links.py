"""The simulated network: hosts, streams between them, and what goes wrong on the way.

A connection is what TLS over TCP gives: two streams of frames, each delivered whole and in order or not at all. A
lost packet is a delay (a retransmission), never a gap; frames are reordered and doubled only across connections, as
they are in life. While a path is cut its packets are sent again and again: what was under way arrives after the cut,
unless one end gave up before. A connection may also be reset, and then what was under way is lost.

The handshake itself is not simulated: an identity is what its host says, after the time that it takes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from facechain.node.wire.handshake import PROTOCOL_VERSIONS

from .events import Action, Scheduler

Endpoint = tuple[str, int]

RETRANSMIT_SECONDS: Final = 0.25
CONNECT_SECONDS: Final = 10.0
"""After which a try to connect over a cut path is given up."""
FIRST_PORT: Final = 32_768
"""Hosts connect from ports from here on."""
WINDOW_BYTES: Final = 65_536
"""What the sockets of both ends hold for a reader that does not read; a sender waits from there on."""


class Crash(BaseException):
    """The process of a host dies at this instruction. No handler of the node may catch it."""


@dataclass(slots=True)
class Path:
    """What lies between two hosts."""

    latency: float
    jitter: float
    loss: float
    """Share of packets that travel twice."""
    bytes_per_second: float


class Host:
    """A process on the network; `life` counts its starts, so that nothing of an earlier one goes on."""

    wire_version = PROTOCOL_VERSIONS[1]
    """Highest version of the wire protocol that it speaks."""
    reads_at_once = True
    """Whether a frame is read as soon as it is there; else the host says so when it has read one (`Side.consume`)."""

    def __init__(self, events: Scheduler, name: str, endpoint: Endpoint, key: bytes) -> None:
        self.events = events
        self.name = name
        self.endpoint = endpoint
        self.key = key
        self.life = 0
        self.up = False
        self.frozen = False
        self.skew_ms = 0
        self.disturbed = 0.0
        """When it last crashed or stood still."""
        self._deferred: deque[tuple[int, Action]] = deque()

    def after(self, delay: float, action: Action) -> None:
        """Plan something in this process: it happens unless the process ended before, and not while it is frozen."""
        self.events.after(delay, partial(self.enter, self.life, action))

    def enter(self, life: int, action: Action) -> None:
        """Do something in this process now."""
        if life != self.life or not self.up:
            return
        if self.frozen:
            self._deferred.append((life, action))
            return
        before, self.events.process = self.events.process, self
        try:
            action()
        except Crash:
            if life == self.life and self.up:
                self.on_crash()
        finally:
            self.events.process = before

    def freeze(self) -> None:
        """Stand still, as after SIGSTOP."""
        self.frozen = True
        self.disturbed = self.events.now

    def thaw(self) -> None:
        """Go on with all that piled up."""
        self.frozen = False
        self.disturbed = self.events.now
        while self._deferred and not self.frozen:
            self.enter(*self._deferred.popleft())

    def on_crash(self) -> None:
        """The process met its end inside an action."""
        raise NotImplementedError

    def on_open(self, side: Side) -> bool:
        """Take a connection; False refuses it."""
        raise NotImplementedError

    def on_frame(self, side: Side, frame: bytes) -> None:
        """Take a frame."""
        raise NotImplementedError

    def on_closed(self, side: Side) -> None:
        """The connection ended, not by this host's own wish."""
        raise NotImplementedError

    def on_room(self, side: Side) -> None:
        """The other end read some of what this one had sent."""


@dataclass(slots=True, eq=False)
class Side:
    """One end of a connection: what its host sends and closes."""

    host: Host
    key: bytes
    """The identity that its host showed."""
    life: int
    dialed: Endpoint | None
    path: Path
    network: Network
    remote_port: int
    """Port of the other end of the socket."""
    open: bool = True
    other: Side = field(init=False)
    under_way: deque[tuple[float, bytes | None]] = field(default_factory=deque)
    """Frames towards the other end and when they are there, in order (None is the end of the stream)."""
    reads: bool = True
    """Whether this end takes what arrives; else it stays in the sockets."""
    unread_bytes: int = 0
    """Sent by this end, and not yet read by the other one."""

    @property
    def inbound(self) -> bool:
        """Whether the other end opened the connection."""
        return self.dialed is None

    def send(self, frame: bytes) -> None:
        """Send a frame."""
        if self.open:
            self.unread_bytes += len(frame)
            self.network.transmit(self, frame)

    @property
    def is_full(self) -> bool:
        """Whether a sender has to wait until the other end reads."""
        return self.open and self.unread_bytes > WINDOW_BYTES

    def consume(self, size: int) -> None:
        """Say that this end read so many bytes."""
        sender, was_full = self.other, self.other.is_full
        sender.unread_bytes -= size
        if was_full and not sender.is_full:
            sender.host.events.after(
                self.path.latency,
                partial(sender.host.enter, sender.life, partial(sender.host.on_room, sender)),
            )

    def close(self, last: bytes | None = None) -> None:
        """Send a last frame and the end of the stream; nothing arrives here any more."""
        if not self.open:
            return
        if last is not None:
            self.send(last)
        self.open = False
        self.network.transmit(self, None)

    def lose(self) -> None:
        """The connection is gone without a word; this end notices now."""
        if self.open:
            self.open = False
            self.host.enter(self.life, partial(self.host.on_closed, self))


class Network:
    """See the module's text."""

    def __init__(self, events: Scheduler) -> None:
        self._events = events
        self.hosts: dict[Endpoint, Host] = {}
        self._paths: dict[tuple[str, str], Path] = {}
        self._cuts: dict[tuple[str, str], int] = {}
        """Pairs of hosts that cannot reach each other, and how many cuts keep them apart."""
        self.sides: dict[Side, None] = {}
        """Ends of connections that are open, in the order in which they were opened."""
        self.frames = 0
        self._ports = 0
        """Connections that were opened so far: each is made from a port of its own."""

    def add(self, host: Host) -> None:
        """Give a host its address."""
        self.hosts[host.endpoint] = host

    def path(self, left: Host, right: Host) -> Path:
        """Return what lies between two hosts; drawn at the first question."""
        pair = _pair(left, right)
        if pair not in self._paths:
            draw = self._events.random
            self._paths[pair] = Path(
                latency=min(0.5, draw.lognormvariate(-3.2, 0.6)),
                jitter=draw.choice((0.002, 0.02, 0.1)),
                loss=draw.choice((0.0, 0.0, 0.01, 0.05)),
                bytes_per_second=draw.choice((10e6, 10e6, 1e6, 30e3)),
            )
        return self._paths[pair]

    # Cuts.

    def is_cut(self, left: Host, right: Host) -> bool:
        """Tell whether nothing passes between two hosts."""
        return _pair(left, right) in self._cuts

    def cut(self, left: Host, right: Host, *, reset: bool) -> None:
        """Let nothing pass between two hosts; with `reset` their connections break at once."""
        pair = _pair(left, right)
        self._cuts[pair] = self._cuts.get(pair, 0) + 1
        if reset:
            for side in self._between(left, right):
                side.lose()
        self._forget_closed()

    def mend(self, left: Host, right: Host) -> None:
        """Take back one cut; what was kept arrives after a retransmission."""
        pair = _pair(left, right)
        self._cuts[pair] -= 1
        if self._cuts[pair]:
            return
        del self._cuts[pair]
        there = self._events.now + RETRANSMIT_SECONDS
        for side in self._between(left, right):
            side.under_way = deque((max(at, there), frame) for at, frame in side.under_way)
            self._events.after(RETRANSMIT_SECONDS, partial(self._arrive, side))

    def _between(self, left: Host, right: Host) -> list[Side]:
        names = {left.name, right.name}
        return [side for side in self.sides if {side.host.name, side.other.host.name} == names]

    # Connections.

    def dial(self, caller: Host, endpoint: Endpoint, done: Callable[[Side | None], None]) -> None:
        """Connect; `done` gets the caller's end, or None when there is no connection."""
        host, life = self.hosts.get(endpoint), caller.life
        if host is None or self.is_cut(caller, host):
            caller.after(CONNECT_SECONDS, partial(done, None))
            return
        path = self.path(caller, host)
        self._events.after(
            4 * path.latency, partial(caller.enter, life, partial(self._meet, caller, host, path, done))
        )

    def _meet(self, caller: Host, host: Host, path: Path, done: Callable[[Side | None], None]) -> None:
        if not host.up or host.frozen or self.is_cut(caller, host):
            done(None)
            return
        self._ports += 1
        here = Side(
            host=caller,
            key=caller.key,
            life=caller.life,
            dialed=host.endpoint,
            path=path,
            network=self,
            remote_port=host.endpoint[1],
        )
        there = Side(
            host=host,
            key=host.key,
            life=host.life,
            dialed=None,
            path=path,
            network=self,
            remote_port=FIRST_PORT + self._ports % FIRST_PORT,
        )
        here.other, there.other = there, here
        self.sides[here] = self.sides[there] = None
        self._events.note("open", caller.name, host.name)
        done(here)
        host.enter(host.life, partial(self._offer, there))

    @staticmethod
    def _offer(side: Side) -> None:
        if side.open and not side.host.on_open(side):
            side.close()

    def reset(self, side: Side) -> None:
        """Break a connection for both ends; what is under way is lost."""
        self._events.note("reset", side.host.name, side.other.host.name)
        side.lose()
        side.other.lose()
        self._forget_closed()

    def on_death(self, host: Host, *, silent: bool) -> None:
        """A process ended: its peers are told by a reset, or, after a loss of power, by nothing."""
        for side in [item for item in self.sides if item.host is host]:
            side.open = False
            if not silent:
                self.transmit(side, None)
        self._forget_closed()

    def on_start(self, host: Host) -> None:
        """A host is back: connections of its earlier life are reset as soon as they are used."""
        for side in [item for item in self.sides if item.other.host is host and not item.other.open]:
            self.transmit(side.other, None)

    def _forget_closed(self) -> None:
        for side in [item for item in self.sides if not item.open and not item.other.open]:
            del self.sides[side]

    # Frames.

    def transmit(self, side: Side, frame: bytes | None) -> None:
        """Send a frame, or the end of the stream, towards the other end."""
        draw, path = self._events.random, side.path
        size = 0 if frame is None else len(frame)
        delay = path.latency + path.jitter * draw.random() + size / path.bytes_per_second
        while draw.random() < path.loss:
            delay += RETRANSMIT_SECONDS
        at = self._events.now + delay
        if side.under_way:
            at = max(at, side.under_way[-1][0])
        side.under_way.append((at, frame))
        self._events.after(at - self._events.now, partial(self._arrive, side))

    def _arrive(self, sender: Side) -> None:
        receiver = sender.other
        while sender.under_way and sender.under_way[0][0] <= self._events.now:
            if self.is_cut(sender.host, receiver.host):
                return
            frame = sender.under_way.popleft()[1]
            if not receiver.open:
                continue
            if frame is None:
                self._events.note("end", sender.host.name, receiver.host.name)
                receiver.lose()
                self._forget_closed()
            else:
                self.frames += 1
                receiver.host.enter(receiver.life, partial(self._hand_over, receiver, frame))

    def _hand_over(self, receiver: Side, frame: bytes) -> None:
        if receiver.open and receiver.reads:
            self._events.note(
                "frame", receiver.other.host.name, receiver.host.name, frame[:1].hex(), len(frame)
            )
            if receiver.host.reads_at_once:
                receiver.consume(len(frame))
            receiver.host.on_frame(receiver, frame)


def _pair(left: Host, right: Host) -> tuple[str, str]:
    return (left.name, right.name) if left.name < right.name else (right.name, left.name)
