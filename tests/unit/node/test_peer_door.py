"""Who is let in: lists, bans and named peers, before and after the proof of identity."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from facechain.node.config_kinds import PeerPattern
from facechain.node.peer_door import KEYS_MAX, PeerDoor
from facechain.node.protocol.peer_bans import BanList
from facechain.node.wire.connection import Connection
from facechain.node.wire.faults import HandshakeProtocolError, Reason, WrongNetwork
from support.peer_books import NOW_MS, make_book

KEY, OTHER = b"\x01" * 32, b"\x02" * 32
HOST = "20.1.0.1"
NAMED = ("node.example", 7440)


def make_door(*, allow: tuple[str, ...] = (), deny: tuple[str, ...] = ()) -> PeerDoor:
    return PeerDoor(
        book=make_book(),
        bans=BanList(),
        clock_ms=lambda: NOW_MS,
        max_inbound=4,
        allow=[PeerPattern.parse(text) for text in allow],
        deny=[PeerPattern.parse(text) for text in deny],
    )


def proven(host: str = HOST, key: bytes = KEY) -> Connection:
    """What the door reads of a connection."""
    return cast("Connection", SimpleNamespace(remote=(host, 50_000), peer=SimpleNamespace(node_key=key)))


def reason(door: PeerDoor, connection: Connection, dialed: tuple[str, int] | None = None) -> Reason | None:
    refusal = door.refusal(connection, dialed)
    return None if refusal is None else refusal[0]


@pytest.mark.parametrize(
    "lists, before, after",
    [
        ({}, True, True),
        ({"deny": ("20.1.0.0/16",)}, False, False),
        ({"deny": ("20.2.0.0/16",)}, True, True),
        ({"deny": (KEY.hex(),)}, True, False),
        ({"allow": ("20.1.0.0/16",)}, True, True),
        ({"allow": ("20.2.0.0/16",)}, False, False),
        ({"allow": (OTHER.hex(),)}, True, False),
        ({"allow": (KEY.hex(),)}, True, True),
        ({"allow": (KEY.hex(), "20.2.0.0/16")}, True, True),
        ({"allow": (KEY.hex(),), "deny": (HOST,)}, False, False),
    ],
)
def test_the_lists_are_checked_as_soon_as_they_can_be(
    lists: dict[str, Any], *, before: bool, after: bool
) -> None:
    door = make_door(**lists)
    assert door.admits_host(HOST) is before
    assert (reason(door, proven()) is None) is after


def test_a_banned_network_gets_no_handshake_and_a_banned_key_no_service() -> None:
    door = make_door()
    door.bans.ban(PeerPattern.parse("20.1.0.0/16"), "no", now_ms=NOW_MS, ban_ms=1)
    assert not door.admits_host(HOST)
    assert door.admits_host("20.2.0.1")
    door.bans.ban(PeerPattern(node_key=OTHER), "no", now_ms=NOW_MS, ban_ms=1)
    assert door.refusal(proven("20.2.0.1", OTHER), None) == (Reason.BANNED, "no")
    assert reason(door, proven("20.2.0.1", KEY)) is None
    assert door.admits_host("node.example"), "a name is judged by what it turns out to be"


@pytest.mark.parametrize("by_operator", [False, True])
def test_a_named_peer_is_kept_out_by_the_operators_ban_only(*, by_operator: bool) -> None:
    door = make_door()
    door.book.add_manual(*NAMED)
    door.note_key(NAMED, KEY)
    door.bans.ban(PeerPattern(node_key=KEY), "no", now_ms=NOW_MS, ban_ms=1, by_operator=by_operator)
    for dialed in (NAMED, None):
        assert (reason(door, proven(), dialed) is None) is not by_operator
    assert door.may_dial(NAMED) is not by_operator
    door.bans.ban(PeerPattern.parse("20.0.0.0/8"), "no", now_ms=NOW_MS, ban_ms=1)
    assert door.may_dial(NAMED) is not by_operator, "a name is no part of a network"
    assert not door.may_dial(("20.1.0.1", 7440))
    door.bans.unban(PeerPattern.parse("20.0.0.0/8"))
    assert reason(door, proven(HOST, OTHER)) is None


def test_a_named_peer_that_misbehaves_is_not_banned_and_a_stranger_is() -> None:
    door = make_door()
    banned: list[bool] = []
    door.on_ban = lambda: banned.append(True)
    door.book.add_manual(*NAMED)
    door.note_key(NAMED, KEY)
    for key, count in ((KEY, 0), (OTHER, 1)):
        link = SimpleNamespace(connection=proven(HOST, key), node_key=key, dialed=None)
        door.on_offence(cast("Any", link), "bad-seal", "for the test")
        assert len(door.bans) == len(banned) == count


def test_named_and_allowed_peers_are_protected() -> None:
    door = make_door(allow=("20.1.0.0/16", OTHER.hex()))
    assert door.is_protected(HOST, KEY)
    assert door.is_protected("20.9.0.1", OTHER)
    assert not door.is_protected("20.9.0.1", KEY)
    door.book.add_manual(*NAMED)
    assert door.is_protected("20.9.0.1", KEY, NAMED)
    door.note_key(NAMED, KEY)
    assert door.is_protected("20.9.0.1", KEY)
    door.book.remove_manual(*NAMED)
    assert not door.is_protected("20.9.0.1", KEY)


def test_keys_of_addresses_are_bounded_and_the_latest_are_kept() -> None:
    door = make_door()
    for port in range(1, KEYS_MAX + 11):
        door.note_key((HOST, port), KEY)
    assert len(door.endpoints_of([KEY])) == KEYS_MAX
    assert (HOST, 1) not in door.endpoints_of([KEY])
    assert door.endpoints_of([OTHER]) == set()


def test_a_stranger_that_breaks_the_handshake_is_discouraged_and_one_of_another_network_is_not() -> None:
    door = make_door()
    door.on_refused((HOST, 50_000), HandshakeProtocolError("expected Hello, got Ping"))
    door.on_refused(("20.2.0.1", 50_000), WrongNetwork(expected=KEY, got=OTHER))
    assert door.bans.is_discouraged(HOST, NOW_MS)
    assert not door.bans.is_discouraged(HOST, NOW_MS + 3_600_000)
    assert not door.bans.is_discouraged("20.2.0.1", NOW_MS)
