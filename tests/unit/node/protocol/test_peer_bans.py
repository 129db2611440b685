"""Bans and the offences that lead to them."""

from __future__ import annotations

import pytest

from facechain.consensus.errors import RULES, DecodeError
from facechain.node.config_kinds import PeerPattern
from facechain.node.protocol.peer_bans import OFFENCES, RULE_BROKEN, Ban, BanList
from facechain.node.wire.faults import Reason
from facechain.node.wire.limits import BAN_SCORE, MAX_BAN_REASON_BYTES, OFFENCE_SECONDS
from support.peer_books import NOW_MS

KEY = b"\x01" * 32
OTHER = b"\x02" * 32
HOST = "20.1.0.1"
MINE = PeerPattern(node_key=KEY)
NET = PeerPattern.parse("20.1.0.0/16")


def test_a_ban_ends() -> None:
    bans = BanList()
    bans.ban(MINE, "for the test", now_ms=NOW_MS, ban_ms=1_000)
    found = bans.find(HOST, KEY, NOW_MS + 999)
    assert found == Ban(reason="for the test", since_ms=NOW_MS, until_ms=NOW_MS + 1_000)
    assert bans.find(HOST, KEY, NOW_MS + 1_000) is None
    assert bans.active(NOW_MS + 1_000) == {}
    assert len(bans) == 0


def test_a_banned_network_keeps_every_key_out_before_and_after_its_proof() -> None:
    bans = BanList()
    bans.ban(NET, "for the test", now_ms=NOW_MS, ban_ms=1_000, by_operator=True)
    assert bans.find("20.1.200.7", None, NOW_MS) is not None
    assert bans.find("20.1.200.7", OTHER, NOW_MS) is not None
    assert bans.find("20.2.0.1", KEY, NOW_MS) is None
    assert bans.find("", KEY, NOW_MS) is None
    assert bans.unban(NET)
    assert not bans.unban(NET)
    assert bans.find("20.1.200.7", OTHER, NOW_MS) is None


@pytest.mark.parametrize("code", [rule.code for rule in RULES.values() if rule.punish])
def test_one_broken_rule_bans_for_a_day(code: str) -> None:
    bans = BanList()
    ban = bans.on_offence(KEY, HOST, code, "detail", NOW_MS)
    assert ban is not None
    assert ban.reason == f"{code}: detail"
    assert ban.until_ms - NOW_MS == RULE_BROKEN.ban_ms == 86_400_000


@pytest.mark.parametrize("reason, offence", OFFENCES.items())
def test_faults_on_the_wire_add_up_to_a_short_ban(reason: Reason, offence: object) -> None:
    bans = BanList()
    found = [bans.on_offence(KEY, HOST, reason, "", NOW_MS) for _ in range(2)]
    count = -(-BAN_SCORE // OFFENCES[reason].points)
    assert [ban is not None for ban in found][:count] == [False] * (count - 1) + [True]
    ban = found[count - 1]
    assert ban is not None
    assert ban.until_ms - NOW_MS == 3_600_000


def test_an_offence_lapses() -> None:
    bans = BanList()
    assert bans.on_offence(KEY, HOST, Reason.RATE_LIMIT, "", NOW_MS) is None
    assert bans.score(KEY, NOW_MS) == BAN_SCORE // 2
    later = NOW_MS + OFFENCE_SECONDS * 1_000
    assert bans.score(KEY, later) == 0
    assert bans.on_offence(KEY, HOST, Reason.RATE_LIMIT, "", later) is None
    assert bans.on_offence(OTHER, HOST, Reason.RATE_LIMIT, "", later) is None, "keys are told apart"
    assert bans.on_offence(KEY, HOST, Reason.RATE_LIMIT, "", later) is not None


def test_an_address_whose_key_was_banned_is_discouraged_for_as_long_and_not_banned() -> None:
    bans = BanList()
    bans.on_offence(KEY, HOST, "bad-seal", "", NOW_MS)
    assert bans.is_discouraged(HOST, NOW_MS)
    assert not bans.is_discouraged(HOST, NOW_MS + RULE_BROKEN.ban_ms)
    assert bans.find(HOST, OTHER, NOW_MS) is None


def test_an_operators_ban_is_not_shortened_by_an_offence() -> None:
    bans = BanList()
    bans.ban(MINE, "no", now_ms=NOW_MS, ban_ms=10**12, by_operator=True)
    bans.on_offence(KEY, HOST, "bad-seal", "", NOW_MS)
    found = bans.find(HOST, KEY, NOW_MS)
    assert found is not None
    assert (found.reason, found.until_ms) == ("no", NOW_MS + 10**12)


def test_a_pardon_forgets_the_offences_too() -> None:
    bans = BanList()
    bans.on_offence(KEY, HOST, Reason.RATE_LIMIT, "", NOW_MS)
    assert not bans.unban(MINE)
    assert bans.on_offence(KEY, HOST, Reason.RATE_LIMIT, "", NOW_MS) is None


def test_bans_are_bounded_and_those_that_end_first_go_the_operators_last() -> None:
    bans = BanList(bans_max=3)
    bans.ban(NET, "no", now_ms=NOW_MS, ban_ms=1, by_operator=True)
    for number in range(6):
        bans.ban(PeerPattern(node_key=bytes([number]) * 32), "flood", now_ms=NOW_MS, ban_ms=1_000 + number)
    assert list(bans.active(NOW_MS)) == [NET, *(PeerPattern(node_key=bytes([n]) * 32) for n in (4, 5))]


def test_scores_and_discouraged_addresses_are_bounded() -> None:
    bans = BanList(scored_max=5, bans_max=5)
    for number in range(100):
        key = number.to_bytes(32, "big")
        bans.on_offence(key, f"20.1.0.{number}", Reason.RATE_LIMIT, "", NOW_MS)
        bans.on_offence(key, f"20.2.0.{number}", "bad-seal", "", NOW_MS)
        bans.on_offence(key + b"", f"20.3.0.{number}", Reason.RATE_LIMIT, "", NOW_MS)
    assert len(bans._offences) <= 5
    assert len(bans._discouraged) <= 5
    assert len(bans) == 5


def test_a_reason_is_cut_and_cleaned() -> None:
    ban = BanList().ban(MINE, "ä\n" * 500, now_ms=NOW_MS, ban_ms=1)
    assert len(ban.reason.encode()) <= MAX_BAN_REASON_BYTES
    assert Ban.decode(ban.encode()) == ban
    assert "\n" not in ban.reason


def test_stored_bans_round_trip_and_nothing_else_is_read() -> None:
    value = Ban(reason="x", until_ms=9, since_ms=3, by_operator=True)
    encoded = value.encode()
    assert Ban.decode(encoded) == value
    for cut in range(len(encoded)):
        with pytest.raises(DecodeError):
            Ban.decode(encoded[:cut])
