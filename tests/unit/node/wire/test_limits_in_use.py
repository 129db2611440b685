"""Row by row: what the limits table says is what the code that is limited uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from facechain.node import hub
from facechain.node.config import NodeConfig
from facechain.node.config_kinds import PeerPattern
from facechain.node.protocol.equivocation import EquivocationLimits
from facechain.node.protocol.peer_bans import OFFENCES, RULE_BROKEN, BanList
from facechain.node.protocol.peer_book import AddressBook
from facechain.node.protocol.peer_entry import PeerPolicy
from facechain.node.protocol.peer_gossip import AddressAllowance, relay_targets
from facechain.node.protocol.peer_outbound import OutboundPolicy
from facechain.node.protocol.peer_pending import PendingSockets
from facechain.node.protocol.presync import PresyncLimits
from facechain.node.protocol.sync_peer import SyncLimits
from facechain.node.wire import chunks, connection, transport
from facechain.node.wire.faults import Reason
from facechain.node.wire.fields import fields_of
from facechain.node.wire.limits import LIMITS, ConnectionLimits, Limit, Timeouts
from facechain.node.wire.messages import (
    Address,
    Addresses,
    AnnounceBlock,
    BodyChunk,
    Disconnect,
    GetHeaders,
    GetStatements,
    Headers,
    Hello,
    Inventory,
    NotFound,
    ShareAddresses,
    Statements,
)
from support.peer_books import NOW_MS, SECRET, heard, make_book, public_host

POLICY, OUTBOUND, TIMEOUTS, CONNECTIONS = PeerPolicy(), OutboundPolicy(), Timeouts(), ConnectionLimits()
EQUIVOCATIONS = EquivocationLimits()


def shape(message: type[Any], name: str) -> Any:
    return dict(fields_of(message))[name]


def items(*places: tuple[type[Any], str]) -> int:
    """Return the most items of these fields, which must be the same for all."""
    (most,) = {int(shape(*place).items) for place in places}
    return most


def size(message: type[Any], name: str) -> int:
    """Return the bytes of a text, or of one item of an array of byte strings."""
    return int(shape(message, name).size)


def bans_kept() -> int:
    bans = BanList()
    for number in range(bans._bans_max + 10):
        pattern = PeerPattern(node_key=number.to_bytes(32, "big"))
        bans.ban(pattern, "", now_ms=NOW_MS, ban_ms=1_000)
    return len(bans)


def scored() -> int:
    bans = BanList()
    for number in range(bans._scored_max + 10):
        bans.on_offence(number.to_bytes(32, "big"), "20.1.0.1", Reason.RATE_LIMIT, "", NOW_MS)
    return len(bans._offences)


def reason_bytes() -> int:
    pattern = PeerPattern(node_key=bytes(32))
    return len(BanList().ban(pattern, "x" * 9_999, now_ms=NOW_MS, ban_ms=1).reason)


def points_until_a_ban() -> int:
    bans, points = BanList(), 0
    for _ in range(1_000):
        points += OFFENCES[Reason.RATE_LIMIT].points
        if bans.on_offence(bytes(32), "20.1.0.1", Reason.RATE_LIMIT, "", NOW_MS) is not None:
            break
    return points


def seconds_until_an_offence_lapses() -> int:
    bans = BanList()
    bans.on_offence(bytes(32), "20.1.0.1", Reason.RATE_LIMIT, "", NOW_MS)
    return next(second for second in range(10**6) if not bans.score(bytes(32), NOW_MS + 1_000 * second))


def told_each_second() -> float:
    allowance = AddressAllowance(0.0)
    allowance.take(heard("20.1.0.1"), 0.0)
    return len(allowance.take(heard("20.1.0.1") * 900, 1_000.0)) / 1_000


def pending(*, same_source: bool) -> int:
    listener = PendingSockets(
        total=CONNECTIONS.max_pending_inbound, per_source=CONNECTIONS.max_pending_per_source
    )
    for number in range(200):
        listener.admit("20.1.0.1" if same_source else public_host(number))
    return len(listener)


def answered(book: AddressBook) -> int:
    return len(book.answer("10.0.0.1", NOW_MS))


def full_book(count: int) -> AddressBook:
    book = make_book()
    for number in range(count):
        host = public_host(number)
        book.add_heard(heard(host), source_host=host, now_ms=NOW_MS)
    return book


USED: dict[str, Callable[[], float]] = {
    "frame": lambda: connection.MAX_WEBSOCKET_BYTES - 1,
    "statement": lambda: size(Statements, "statements"),
    "headers": lambda: items((Headers, "sealed_headers")),
    "locator": lambda: items((GetHeaders, "locator")),
    "body-leaves": lambda: items((BodyChunk, "leaves"), (AnnounceBlock, "leaves")),
    "inventory": lambda: items(
        (Inventory, "leaves"), (GetStatements, "leaves"), (Statements, "statements"), (NotFound, "hashes")
    ),
    "addresses": lambda: items((Addresses, "addresses")),
    "shared": lambda: items((ShareAddresses, "addresses")),
    "host": lambda: size(Address, "host"),
    "user-agent": lambda: size(Hello, "user_agent"),
    "reason": lambda: size(Disconnect, "reason"),
    "detail": lambda: size(Disconnect, "detail"),
    "in-flight": lambda: SyncLimits().in_flight_per_peer,
    "in-flight-bytes": lambda: SyncLimits().in_flight_bytes,
    "announcers": lambda: SyncLimits().announcers,
    "headers-ahead": lambda: SyncLimits().headers_ahead,
    "presync-headers": lambda: PresyncLimits().held_back,
    "presync-bits": lambda: PresyncLimits().bits,
    "inbound": lambda: NodeConfig().max_inbound,
    "pending-inbound": lambda: pending(same_source=False),
    "pending-per-source": lambda: pending(same_source=True),
    "outbound": lambda: NodeConfig().max_outbound,
    "outbound-per-group": lambda: OUTBOUND.per_group,
    "manual-peers": lambda: POLICY.manual,
    "block-relay": lambda: OUTBOUND.block_relay,
    "anchors": lambda: OUTBOUND.anchors,
    "feeler": lambda: OUTBOUND.feeler_ms / 1_000,
    "new-buckets": lambda: POLICY.new_buckets,
    "source-buckets": lambda: POLICY.source_buckets,
    "tried-buckets": lambda: POLICY.tried_buckets,
    "group-buckets": lambda: POLICY.group_buckets,
    "slots": lambda: POLICY.slots,
    "tests": lambda: POLICY.tests,
    "horizon": lambda: POLICY.horizon_ms / 1_000,
    "answered": lambda: answered(full_book(1_999)),
    "answered-share": lambda: round(answered(book := full_book(500)) / len(book), 2),
    "told": told_each_second,
    "relayed-to": lambda: len(relay_targets(heard("20.1.0.1")[0], range(50), SECRET, NOW_MS)),
    "bans": bans_kept,
    "ban-reason": reason_bytes,
    "ban": lambda: RULE_BROKEN.ban_ms / 1_000,
    "protocol-ban": lambda: OFFENCES[Reason.RATE_LIMIT].ban_ms / 1_000,
    "ban-score": points_until_a_ban,
    "offence": seconds_until_an_offence_lapses,
    "scored-peers": scored,
    "equivocators": lambda: EQUIVOCATIONS.keys,
    "equivocations": lambda: EQUIVOCATIONS.per_key,
    "statements-seen": lambda: EQUIVOCATIONS.seen,
    "send-queue": lambda: CONNECTIONS.send_queue_bytes,
    "send-total": lambda: vars(hub)["SEND_TOTAL_BYTES"],
    "chunk": lambda: vars(chunks)["CHUNK_BYTES"],
    "connect": lambda: transport.DEFAULT_TIMEOUTS.connect_seconds,
    "handshake": lambda: TIMEOUTS.handshake_seconds,
    "ping-interval": lambda: TIMEOUTS.ping_interval_seconds,
    "pong": lambda: TIMEOUTS.pong_seconds,
    "idle": lambda: TIMEOUTS.idle_seconds,
    "send": lambda: TIMEOUTS.send_seconds,
    "close": lambda: TIMEOUTS.close_seconds,
}
"""How each row about messages, connections and addresses is found where it is used."""

ELSEWHERE = {
    "orphans": "tests/unit/node/test_orphans.py",
    "orphan-bytes": "tests/unit/node/test_orphans.py",
    "pace": "tests/unit/node/wire/test_session.py",
    "protected-group": "tests/unit/node/protocol/test_peer_eviction.py",
    "protected-ping": "tests/unit/node/protocol/test_peer_eviction.py",
    "protected-statements": "tests/unit/node/protocol/test_peer_eviction.py",
    "protected-blocks": "tests/unit/node/protocol/test_peer_eviction.py",
    "protected-age": "tests/unit/node/protocol/test_peer_eviction.py",
    "http-body": "tests/functional/test_api_server.py",
    "http-line": "tests/functional/test_api_server.py",
    "http-field": "tests/functional/test_api_server.py",
    "http-headers": "tests/functional/test_api_server.py",
}
"""Rows whose effect a test of their own shows."""


@pytest.mark.parametrize("row", LIMITS, ids=lambda row: row.name)
def test_the_row_is_what_the_code_uses(row: Limit) -> None:
    if row.name not in ELSEWHERE:
        assert USED[row.name]() == row.value


def test_every_way_to_find_a_limit_has_its_row() -> None:
    assert USED.keys() | ELSEWHERE.keys() == {row.name for row in LIMITS}
    assert not USED.keys() & ELSEWHERE.keys()
