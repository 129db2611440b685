"""What can be taken out of a node, by name, in the process that `victim.py` starts. Never in any other.

Owns the table `DEFENCES`. Each entry changes modules of the node before its command runs, so that the attack that the
defence is against can be seen to succeed; `SCALED` takes nothing out, it makes times and memories small enough
to be waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any, Final

Change = Callable[[], None]
FOR_EVER: Final = 1e6
HUGE: Final = 1 << 30
SCALED_BANS: Final = 6
SCALED_HEADERS: Final = 2_000


def limits(**values: float) -> Change:
    """Give constants of `wire.limits` other values, before anything reads them."""

    def change() -> None:
        from facechain.node.wire import limits as table

        for name, value in values.items():
            getattr(table, name)
            setattr(table, name, value)

    return change


def timeouts(**seconds: float) -> Change:
    """Give fields of `Timeouts` other defaults."""

    def change() -> None:
        for name, value in seconds.items():
            _default("node.wire.limits:Timeouts", f"{name}_seconds", value)

    return change


def api_limits(**values: float) -> Change:
    """Give constants of `api.limits` other values."""

    def change() -> None:
        from facechain.node.api import limits as table

        for name, value in values.items():
            getattr(table, name)
            setattr(table, name, value)

    return change


def _part(path: str) -> Any:
    """Return a module of the node, or a class in it (`module:Class`), whose parts are about to be replaced."""
    module, _, name = path.partition(":")
    target: Any = import_module(f"facechain.{module}")
    return getattr(target, name) if name else target


def _default(path: str, name: str, value: object) -> None:
    """Give a keyword argument of a class's constructor another default."""
    _part(path).__init__.__kwdefaults__[name] = value


def patched(path: str, **attributes: Any) -> Change:
    """Replace attributes of a module, or of a class in it (`module:Class`)."""

    def change() -> None:
        target = _part(path)
        for attribute, value in attributes.items():
            getattr(target, attribute)
            setattr(target, attribute, value)

    return change


def together(*changes: Change) -> Change:
    """Make several changes, in order."""

    def change() -> None:
        for item in changes:
            item()

    return change


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _yes(*_: Any, **__: Any) -> bool:
    return True


def _no_type_sizes() -> None:
    from facechain.node.wire.messages import BY_NUMBER

    session = _part("node.wire.session")
    known = session.frame_spec

    def frame_spec(frame: bytes) -> Any:
        spec = BY_NUMBER.get(frame[0]) if frame else None
        return known(frame) if spec is None else replace(spec, max_bytes=HUGE)

    session.frame_spec = frame_spec


def _no_structure_bounds() -> None:
    codec = _part("node.wire.codec")
    bounded = codec.unpack

    def unpack(data: bytes, *, max_bytes: int, **_: int) -> Any:
        return bounded(data, max_bytes=max_bytes, max_items=1 << 24, max_depth=1 << 24)

    codec.unpack = unpack


def _compress() -> None:
    from aiohttp import web

    class Compressing(web.WebSocketResponse):
        def __init__(self, **options: Any) -> None:
            super().__init__(**{**options, "compress": True, "max_msg_size": 0})

    namespace = type("web", (), {**vars(web), "WebSocketResponse": Compressing})
    _part("node.wire.transport").web = namespace


def _sync_limits(**values: float) -> Change:
    def change() -> None:
        sync_peer = _part("node.protocol.sync_peer")
        sync_peer.DEFAULT_LIMITS = replace(sync_peer.DEFAULT_LIMITS, **values)

    return change


def _relay_limits(**values: float) -> Change:
    def change() -> None:
        relay = _part("node.protocol.relay")
        changed = replace(relay.DEFAULT_LIMITS, **values)
        start = relay.Relay.__init__
        start.__defaults__ = tuple(
            changed if isinstance(item, relay.RelayLimits) else item for item in start.__defaults__
        )

    return change


def _no_room_made() -> None:
    def admit(self: Any, host: str) -> tuple[int | None, int | None]:
        if len(self._groups) >= self._total:
            return None, None
        self._next += 1
        self._groups[self._next] = host
        return self._next, None

    _part("node.protocol.peer_pending:PendingSockets").admit = admit


def _answers_again() -> None:
    gossip = _part("node.address_gossip:AddressGossip")
    known = gossip.on_get_addresses

    def on_get_addresses(self: Any, link: Any, message: Any) -> Any:
        link.has_addresses = False
        return known(self, link, message)

    gossip.on_get_addresses = on_get_addresses


def _bodies_unchecked() -> None:
    def set_leaves(self: Any, leaves: tuple[bytes, ...], byte_count: int) -> None:
        if self.leaves is None:
            self.leaves, self.byte_count = leaves, byte_count
            for index, leaf in enumerate(leaves):
                self._missing.setdefault(leaf, index)

    _part("node.protocol.assembly:BodyAssembly").set_leaves = set_leaves
    patched("node.chainstate", check_body=_nothing)()


def _clock_follows_peers() -> None:
    gossip, service = _part("node.address_gossip:AddressGossip"), _part("node.service")
    shift = {"ms": 0}
    own = service.clock_ms
    known = gossip.on_clock

    def on_clock(self: Any, link: Any, message: Any) -> Any:
        shift["ms"] = message.time_ms - own()
        return known(self, link, message)

    gossip.on_clock = on_clock
    service.clock_ms = lambda: own() + shift["ms"]


def _oldest_goes(peers: Any, _secret: bytes) -> Any:
    return min(peers, key=lambda peer: peer.since).id


def _many_outbound() -> None:
    _default("node.config:NodeConfig", "max_outbound", 1_000)


DEFENCES: Final[dict[str, Change]] = {
    "scaled": together(
        timeouts(handshake=3.0, ping_interval=1.0, pong=9.0, idle=5.0, send=4.0, connect=3.0),
        limits(MAX_BANS=SCALED_BANS),
        _sync_limits(headers_timeout=1.5, body_timeout=1.5, body_timeout_max=6.0),
        _relay_limits(request_timeout=1.0),
        api_limits(IDLE_SECONDS=3.0, READ_BODY_SECONDS=3.0),
        patched("node.chainstate", HEADERS_WAITING_MAX=SCALED_HEADERS),
    ),
    # the handshake
    "handshake-signature": patched("node.wire.handshake", verify_signature=_yes),
    "certificate": patched(
        "node.wire.handshake", hmac=type("hmac", (), {"compare_digest": staticmethod(_yes)})
    ),
    "versions": patched("node.wire.handshake", _agree=lambda _ours, _theirs: 2),
    "handshake-time": timeouts(handshake=FOR_EVER),
    # frames
    "frame-size": together(limits(MAX_FRAME_BYTES=HUGE)),
    "type-sizes": _no_type_sizes,
    "structure-bounds": _no_structure_bounds,
    "compression-off": _compress,
    "statement-size": limits(MAX_STATEMENT_BYTES=1 << 21),
    "header-count": limits(MAX_HEADERS=1 << 20),
    "locator-count": limits(MAX_LOCATOR_HASHES=1 << 16),
    "leaf-count": limits(MAX_BODY_LEAVES=1 << 20, MAX_FRAME_BYTES=HUGE),
    "inventory-count": limits(MAX_INVENTORY=1 << 20),
    "address-count": limits(MAX_ADDRESSES=1 << 16),
    "shared-count": limits(MAX_SHARED_ADDRESSES=1 << 16),
    "host-size": limits(MAX_HOST_BYTES=1 << 16),
    "agent-size": limits(MAX_USER_AGENT_BYTES=1 << 16),
    "reason-size": limits(MAX_REASON_BYTES=1 << 16),
    "detail-size": limits(MAX_DETAIL_BYTES=1 << 16),
    # traffic
    "rates": patched("node.wire.session:TokenBucket", take=_yes),
    "solicitation": patched("node.wire.session:Session", _check_awaited=_nothing),
    "phases": patched("node.wire.session:Session", _check_phase=_nothing),
    "idle-time": timeouts(idle=FOR_EVER),
    "pong-time": timeouts(pong=FOR_EVER),
    "close-time": timeouts(close=FOR_EVER),
    "connect-time": timeouts(connect=FOR_EVER),
    # who is let in
    "bans": patched("node.peer_door:PeerDoor", refusal=_nothing),
    "scores": patched("node.protocol.peer_bans:BanList", on_offence=_nothing),
    "ban-count": limits(MAX_BANS=1 << 20),
    "useful-peers-stay": patched("node.peer_door", choose_to_evict=_oldest_goes),
    "room-for-others": _no_room_made,
    "outbound-count": _many_outbound,
    # addresses and clocks
    "address-allowance": limits(ADDRESSES_PER_SECOND=FOR_EVER),
    "source-buckets": limits(ADDRESS_SOURCE_BUCKETS=256),
    "address-relay": limits(ADDRESS_RELAY_PEERS=1 << 10),
    "answer-once": _answers_again,
    "horizon": limits(ADDRESS_HORIZON_SECONDS=1e12),
    "own-clock": _clock_follows_peers,
    # blocks
    "work": together(
        patched("consensus.validation", meets_target=_yes),
        patched("node.protocol.presync", meets_target=_yes),
    ),
    "seals": together(
        patched("node.chainstate", check_seal=_nothing), patched("node.hub_inbox", _seals_are_valid=_yes)
    ),
    "authority": patched("node.chainstate", check_sealer=_nothing),
    "future-limit": patched("node.chainstate", check_time=_nothing),
    "body-root": _bodies_unchecked,
    "blame": patched("node.hub_work:HubWork", _on_refused=_nothing),
    "in-flight": limits(MAX_IN_FLIGHT=1 << 10),
    "in-flight-bytes": limits(MAX_IN_FLIGHT_BYTES=1 << 40),
    "announcer-count": limits(MAX_ANNOUNCERS=1 << 10),
    "body-stalls": _sync_limits(stalls_until_drop=HUGE),
    "max-reorg": patched("consensus.chain:BlockTree", _refusal=_nothing),
    "header-memory": patched("node.chainstate", HEADERS_WAITING_MAX=HUGE),
    # statements
    "statement-stalls": _relay_limits(stalls_until_drop=HUGE),
    "statement-signatures": patched("consensus.statement:Statement", has_valid_signature=_yes),
    # HTTP
    "http-body": limits(MAX_HTTP_BODY_BYTES=HUGE),
    "http-line": limits(MAX_HTTP_LINE_BYTES=1 << 20),
    "http-field": limits(MAX_HTTP_FIELD_BYTES=1 << 20),
    "http-headers": limits(MAX_HTTP_HEADERS=1 << 16),
    "api-idle": api_limits(IDLE_SECONDS=FOR_EVER),
    "api-body-time": api_limits(READ_BODY_SECONDS=FOR_EVER),
    "api-token": patched("node.api.middleware", _check_access=_nothing),
}
"""Every change by its name."""

SCALED: Final = "scaled"
