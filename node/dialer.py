"""Keeping enough outbound connections: the I/O around the address book.

Owns connection attempts and their outcomes. Whom to try next is the address book's choice; what a
connection carries is the hub's business.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence

from .config_kinds import Endpoint
from .hub import PeerHub
from .protocol.peers import AddressBook, network_group
from .wire.faults import HandshakeError, Reason, WireError
from .wire.handshake import LocalNode
from .wire.limits import ConnectionLimits
from .wire.transport import connect

POLL_SECONDS = 0.25
KEYS_MAX = 1_024
"""Addresses whose node key is remembered."""
ATTEMPTS_AT_ONCE = 4

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
        book: AddressBook,
        hub: PeerHub,
        local: LocalNode,
        limits: ConnectionLimits,
        manual: Sequence[Endpoint],
        max_outbound: int,
        clock_ms: Callable[[], int],
    ) -> None:
        """Dial the book's addresses; ``manual`` ones always, and beyond ``max_outbound``."""
        self._book = book
        self._hub = hub
        self._local = local
        self._limits = limits
        self._manual = {(item.host, item.port) for item in manual}
        self._max_outbound = max_outbound
        self._clock_ms = clock_ms
        self._busy: set[tuple[str, int]] = set()
        self._own: set[tuple[str, int]] = set()
        self._keys: dict[tuple[str, int], bytes] = {}
        """Node key that an address of the operator's or the book's showed last."""
        self._first_outcomes: dict[tuple[str, int], WireError | None] = {}
        """How the first try of each of the operator's addresses ended."""

    async def run(self) -> None:
        """Connect, and connect again, as the book and the limits say.

        Raises:
            WrongNetworkPeers: at the first try, all of the operator's peers turned out to be strangers.
        """
        for host, port in self._manual:
            self._book.add_manual(host, port)
        async with asyncio.TaskGroup() as attempts:
            while True:
                while (entry := self._next()) is not None:
                    self._busy.add(entry)
                    attempts.create_task(self._dial(*entry), name=f"dial {entry[0]}:{entry[1]}")
                await asyncio.sleep(POLL_SECONDS)

    def _next(self) -> tuple[str, int] | None:
        dialed = {link.dialed for link in self._hub.links.values() if link.dialed is not None}
        connected = {link.endpoint for link in self._hub.links.values()}
        node_keys = {link.node_key for link in self._hub.links.values()}
        reached = {endpoint for endpoint, key in self._keys.items() if key in node_keys}
        exclude: Collection[tuple[str, int]] = self._busy | dialed | connected | reached | self._own
        groups = {network_group(host) for host, _ in dialed}
        entry = self._book.choose(exclude=exclude, groups=groups, now_ms=self._clock_ms())
        if entry is None:
            return None
        attempts = len(self._busy - dialed)
        if not entry.manual and (
            len(dialed) + attempts >= self._max_outbound or attempts >= ATTEMPTS_AT_ONCE
        ):
            return None
        return entry.endpoint

    async def _dial(self, host: str, port: int) -> None:
        """Connect and serve. Whatever a peer does, only this attempt ends."""
        endpoint = (host, port)
        self._book.on_tried(host, port, self._clock_ms())
        started = time.monotonic()
        try:
            connection = await connect(host, port, local=self._local, limits=self._limits)
        except WireError as error:
            self._on_failure(endpoint, error)
            return
        except Exception:  # noqa: BLE001 - an address that nobody thought of must not end the dialing
            _log.exception("a fault of this node in dialing %s:%d", host, port)
            self._book.on_failure(host, port)
            return
        finally:
            self._busy.discard(endpoint)
        if endpoint in self._manual:
            self._first_outcomes.setdefault(endpoint, None)
        self._note_key(endpoint, connection.peer.node_key)
        before = self._book.failures(host, port)
        self._book.on_success(host, port, self._clock_ms())
        _log.debug("dialed %s:%d in %.0f ms", host, port, 1000 * (time.monotonic() - started))
        served = time.monotonic()
        try:
            async with connection:
                await self._hub.serve(connection, endpoint)
        except Exception:  # noqa: BLE001 - see above
            _log.exception("a fault of this node in dealing with %s:%d", host, port)
        if time.monotonic() - served < STEADY_SECONDS:
            self._book.on_failure(host, port, before=before)

    def _note_key(self, endpoint: tuple[str, int], key: bytes) -> None:
        self._keys[endpoint] = key
        while len(self._keys) > KEYS_MAX:
            del self._keys[next(iter(self._keys))]

    def _on_failure(self, endpoint: tuple[str, int], error: WireError) -> None:
        if error.reason == Reason.SELF_CONNECTION:
            self._own.add(endpoint)
            self._book.forget(*endpoint)
            return
        is_new = endpoint in self._manual and self._first_outcomes.setdefault(endpoint, error) is error
        level = logging.WARNING if is_new else logging.DEBUG
        _log.log(level, "cannot connect to %s:%d: %s", *endpoint, error)
        self._book.on_failure(*endpoint)
        outcomes = [self._first_outcomes.get(item) for item in self._manual]
        strangers = [
            item
            for item in outcomes
            if isinstance(item, HandshakeError) and item.reason == Reason.WRONG_NETWORK
        ]
        if is_new and self._manual and len(strangers) == len(self._manual):
            raise WrongNetworkPeers(strangers)
