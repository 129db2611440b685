"""What a process gets from the world around it: time, chance, sockets. Here all of it comes from the simulation.

`installed` puts the simulation's own into the modules of the node for the length of a run. Whatever is not in
this table is the node's own code, from `service.Node` down.
"""

from __future__ import annotations

import logging
import secrets
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, cast
from unittest.mock import patch

from facechain.node import dialer, hub, hub_work, peering, service
from facechain.node.chain_runner import ChainRunner
from facechain.node.mempool import MempoolLimits
from facechain.node.peer_door import PeerDoor
from facechain.node.peer_link import PeerLink
from facechain.node.protocol import header_sync
from facechain.node.protocol.presync import HeaderRules, PresyncLimits
from facechain.node.protocol.relay import Relay, RelayLimits
from facechain.node.protocol.sync import SyncLimits
from support.chain import GENESIS_TIME_MS

from .events import MS, Scheduler, Violation
from .sockets import NoApi, SimListener, connect, no_identity

if TYPE_CHECKING:
    from .nodes import SimNode

START_MS: Final = GENESIS_TIME_MS + 3_600_000
"""What a right clock shows at the start of a run."""

POLL_SECONDS: Final = 1.0
"""A node looks four times a second; deadlines are seconds, so that this changes nothing but the cost."""

SYNC_LIMITS: Final = SyncLimits(announce_known=64, window_blocks=32, assemblies=24, margin_blocks=12)
HEADERS_MAX: Final = 20
"""In one message."""
PRESYNC_LIMITS: Final = PresyncLimits(period=4, held_back=8, bits=64)
RELAY_LIMITS: Final = RelayLimits(
    known_per_peer=120, offers_per_peer=60, announce_per_peer=80, request_size=20
)
"""Smaller than a node's own, so that a run reaches them."""


@contextmanager
def installed(events: Scheduler, pool_limits: MempoolLimits) -> Iterator[None]:
    """Let the node's modules live in the simulation while this is entered."""
    draw = events.random
    table: tuple[tuple[Any, str, object], ...] = (
        (time, "monotonic", lambda: events.now),
        (time, "time_ns", partial(_time_ns, events)),
        (secrets, "token_bytes", draw.randbytes),
        (secrets, "randbits", draw.getrandbits),
        (peering, "SystemRandom", lambda: draw),
        (peering, "PeerDoor", partial(_door, events)),
        (peering, "Listener", SimListener),
        (peering, "open_identity", no_identity),
        (dialer, "connect", connect),
        (dialer, "POLL_SECONDS", POLL_SECONDS),
        (hub_work, "TICK_SECONDS", POLL_SECONDS),
        (header_sync, "MAX_HEADERS", HEADERS_MAX),
        (hub, "DEFAULT_LIMITS", SYNC_LIMITS),
        (hub, "HeaderRules", partial(HeaderRules, limits=PRESYNC_LIMITS)),
        (hub, "Relay", partial(Relay, limits=RELAY_LIMITS)),
        (service, "ApiServer", NoApi),
        (service, "ChainRunner", SimpleNamespace(open=partial(ChainRunner.open, limits=pool_limits))),
    )
    with ExitStack() as stack:
        for owner, name, value in table:
            stack.enter_context(patch.object(owner, name, value))
        yield


def _time_ns(events: Scheduler) -> int:
    """Return what the clock of the process shows that runs now."""
    skew_ms = 0 if events.process is None else events.process.skew_ms
    return (START_MS + int(events.now * MS) + skew_ms) * 1_000_000


class WatchedDoor(PeerDoor):
    """A node's door; whom it punishes is told to the world."""

    def __init__(self, node: SimNode, **options: Any) -> None:
        super().__init__(**options)
        self._node = node

    def on_offence(self, link: PeerLink, reason: str, detail: str) -> None:
        """See `PeerDoor.on_offence`."""
        before = self._node.is_banned(link.node_key)
        super().on_offence(link, reason, detail)
        is_ban = not before and self._node.is_banned(link.node_key)
        self._node.on_offence(link.node_key, reason, detail, is_ban=is_ban)


def _door(events: Scheduler, **options: Any) -> WatchedDoor:
    return WatchedDoor(cast("SimNode", events.process), **options)


class Faultfinder(logging.Handler):
    """Takes what the nodes log of faults of their own, and ends the run."""

    def __init__(self, events: Scheduler) -> None:
        super().__init__(logging.ERROR)
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        """Look at a line."""
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            name = "nobody" if self._events.process is None else self._events.process.name
            text = "".join(traceback.format_exception(error))
            self._events.fail(
                error if isinstance(error, Violation) else Violation(f"{name}: {record.getMessage()}\n{text}")
            )


@contextmanager
def listening(events: Scheduler) -> Iterator[None]:
    """Hear what nodes log of their own faults, and nothing else of the log."""
    logger, level = logging.getLogger("facechain"), logging.root.manager.disable
    handler, propagate = Faultfinder(events), logger.propagate
    logging.disable(logging.WARNING)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = propagate
        logger.removeHandler(handler)
        logging.disable(level)
