"""Keeping enough outbound connections: the I/O around `protocol.peer_outbound`.

Owns connection attempts and their outcomes. Whom to try next is the plan's choice; what a connection
carries is the hub's business.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from .config_kinds import Endpoint
from .hub import PeerHub
from .peer_door import PeerDoor
from .protocol import peer_entry
from .protocol.peer_outbound import Dial, DialKind, Outbound, OutboundPlan
from .wire.connection import Connection
from .wire.faults import AlreadyConnected, HandshakeError, Reason, WireError
from .wire.handshake import LocalNode
from .wire.limits import ConnectionLimits
from .wire.messages import Service
from .wire.transport import connect

POLL_SECONDS = 0.25

FRUITLESS_LOOKS = 4
"""Times in a row that nothing was found to dial, after which the address book is looked through less often..."""

QUIET_SECONDS = 2.0
"""...than this, unless connections or addresses come or go: in a small network everybody is connected already."""

STEADY_SECONDS = 10.0
"""A connection that ends sooner counts as a failed try, so that a peer which refuses is left alone for longer."""

_log = logging.getLogger(__name__)


class WrongNetworkPeers(Exception):
    """Every peer that the operator named belongs to another network."""

    def __init__(self, refusals: Sequence[WireError]) -> None:
        """Keep the first refusal's words."""
        super().__init__(refusals)
        self.refusals = tuple(refusals)

    def diagnostics(self) -> str:
        """Return one line with expected, got and what to do."""
        return (
            f"none of the {len(self.refusals)} peers of --peers is of this network: {self.refusals[0].message}; "
            "name peers of this network, or start with --genesis of theirs"
        )


class Dialer:
    """See the module's text. `run` works until it is cancelled."""

    def __init__(
        self,
        *,
        plan: OutboundPlan,
        door: PeerDoor,
        hub: PeerHub,
        local: LocalNode,
        limits: ConnectionLimits,
        manual: Sequence[Endpoint],
        clock_ms: Callable[[], int],
    ) -> None:
        """Dial what the plan says; ``manual`` are the addresses of the configuration."""
        self._plan = plan
        self._door = door
        self._book = door.book
        self._hub = hub
        self._local = local
        self._limits = limits
        self._manual = {(item.host, item.port) for item in manual}
        self._clock_ms = clock_ms
        self._busy: dict[peer_entry.Endpoint, DialKind] = {}
        self._own: set[peer_entry.Endpoint] = set()
        self._sight: object = None
        """What was connected, being dialed and known at the last look."""
        self._looks = 0
        """Since then."""
        self._look_at = 0.0
        self._first_outcomes: dict[peer_entry.Endpoint, WireError | None] = {}
        """How the first try of each of the operator's addresses ended."""

    async def run(self) -> None:
        """Connect, and connect again, as the plan says.

        Raises:
            WrongNetworkPeers: at the first try, all of the operator's peers turned out to be strangers.
        """
        for host, port in self._manual:
            self._book.add_manual(host, port, lasting=False)
        async with asyncio.TaskGroup() as attempts:
            while True:
                try:
                    while self._is_worth_a_look() and (dial := self._next()) is not None:
                        self._busy[dial.endpoint] = dial.kind
                        attempts.create_task(self._dial(dial), name="dial {}:{}".format(*dial.endpoint))
                except Exception:  # noqa: BLE001 - nothing that peers told may end the dialing
                    _log.exception("a fault of this node in choosing whom to dial")
                await asyncio.sleep(POLL_SECONDS)

    def _is_worth_a_look(self) -> bool:
        """Tell whether something to dial may be found now that was not there at the last looks; counts this one."""
        now = time.monotonic()
        sight = tuple(self._hub.links), tuple(self._busy), len(self._book)
        if sight != self._sight:
            self._sight, self._looks = sight, 0
        elif self._looks >= FRUITLESS_LOOKS and now < self._look_at:
            return False
        self._looks += 1
        self._look_at = now + QUIET_SECONDS
        return True

    def outbound(self) -> list[Outbound]:
        """Return the connections that this node opened or is opening."""
        open_ones = [
            Outbound(endpoint=link.dialed, kind=link.kind, since=link.since, last_block=link.last_block)
            for link in self._hub.links.values()
            if link.dialed is not None
        ]
        trying = [
            Outbound(endpoint=endpoint, kind=kind, connected=False) for endpoint, kind in self._busy.items()
        ]
        return open_ones + trying

    def _next(self) -> Dial | None:
        links = self._hub.links.values()
        exclude = {link.endpoint for link in links} | self._own
        exclude |= self._door.endpoints_of(link.node_key for link in links)
        exclude |= {
            entry.endpoint for entry in self._book.manual() if not self._door.may_dial(entry.endpoint)
        }
        now_ms = self._clock_ms()
        dial = self._plan.next(self.outbound(), exclude, now_ms)
        if dial is not None and dial.kind is not DialKind.MANUAL and not self._door.may_dial(dial.endpoint):
            self._book.on_tried(*dial.endpoint, now_ms)
            self._book.on_failure(*dial.endpoint)
            return None
        return dial

    async def _dial(self, dial: Dial) -> None:
        """Connect and serve. Whatever a peer does, only this attempt ends."""
        host, port = dial.endpoint
        self._book.on_tried(host, port, self._clock_ms())
        started = time.monotonic()
        try:
            connection = await connect(host, port, local=self._local_for(dial), limits=self._limits)
        except AlreadyConnected:
            self._on_connected_already(dial)
            return
        except WireError as error:
            self._on_failure(dial, error)
            return
        except Exception:  # noqa: BLE001 - an address that nobody thought of must not end the dialing
            _log.exception("a fault of this node in dialing %s:%d", host, port)
            self._book.on_failure(host, port)
            return
        finally:
            self._busy.pop(dial.endpoint, None)
        if dial.endpoint in self._manual:
            self._first_outcomes.setdefault(dial.endpoint, None)
        self._door.note_key(dial.endpoint, connection.peer.node_key)
        before = self._book.failures(host, port)
        self._book.on_success(host, port, self._clock_ms())
        _log.debug("dialed %s:%d in %.0f ms", host, port, 1000 * (time.monotonic() - started))
        if dial.kind is DialKind.FEELER:
            self._door.counts.feelers_worked += 1
            await connection.close(Reason.DONE, "this node only looked whether the address works")
            return
        await self._serve(dial, connection, before)

    def _local_for(self, dial: Dial) -> LocalNode:
        """Return what this node tells about itself: over connections for blocks alone, not where it listens."""
        if dial.kind.is_block_relay:
            return replace(
                self._local, services=Service.BODIES, listen_port=0, avoids=self._hub.is_connected_to
            )
        if dial.kind is DialKind.FEELER:
            return replace(self._local, avoids=self._hub.is_connected_to)
        return self._local

    def _on_connected_already(self, dial: Dial) -> None:
        """The address works, and the connection that there is to its node is worth more than this one."""
        self._door.counts.feelers_worked += dial.kind is DialKind.FEELER
        self._book.on_success(*dial.endpoint, self._clock_ms())

    async def _serve(self, dial: Dial, connection: Connection, failures_before: int) -> None:
        served = time.monotonic()
        try:
            async with connection:
                await self._hub.serve(connection, dial.endpoint, dial.kind)
        except Exception:  # noqa: BLE001 - see above
            _log.exception("a fault of this node in dealing with %s:%d", *dial.endpoint)
        if time.monotonic() - served < STEADY_SECONDS:
            self._book.on_failure(*dial.endpoint, before=failures_before, is_online=bool(self._hub.links))

    def _on_failure(self, dial: Dial, error: WireError) -> None:
        endpoint = dial.endpoint
        self._door.counts.feelers_failed += dial.kind is DialKind.FEELER
        if error.reason == Reason.SELF_CONNECTION:
            self._own.add(endpoint)
            self._book.forget(*endpoint)
            return
        is_new = endpoint in self._manual and self._first_outcomes.setdefault(endpoint, error) is error
        level = logging.WARNING if is_new else logging.DEBUG
        _log.log(level, "cannot connect to %s:%d: %s", *endpoint, error)
        self._book.on_failure(*endpoint, is_online=bool(self._hub.links))
        outcomes = [self._first_outcomes.get(item) for item in self._manual]
        strangers = [
            item
            for item in outcomes
            if isinstance(item, HandshakeError) and item.reason == Reason.WRONG_NETWORK
        ]
        if is_new and self._manual and len(strangers) == len(self._manual):
            raise WrongNetworkPeers(strangers)
