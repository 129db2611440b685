"""The limits table is complete and consistent with what uses it."""

from __future__ import annotations

from facechain.node.wire import limits
from facechain.node.wire.limits import LIMITS, ConnectionLimits, Timeouts
from facechain.node.wire.messages import MESSAGES


def test_names_are_unique_and_every_row_says_what_it_means() -> None:
    assert len({row.name for row in LIMITS}) == len(LIMITS)
    for row in LIMITS:
        assert row.value > 0
        assert row.unit in {"bytes", "items", "items/s", "connections", "points", "seconds", "share"}
        assert row.scope in {"protocol", "policy"}
        assert row.meaning


def test_every_constant_is_in_the_table() -> None:
    fixed_by_format = {
        "HASH_BYTES",
        "NODE_KEY_BYTES",
        "NONCE_BYTES",
        "SIGNATURE_BYTES",
        "CHAINWORK_BYTES",
        "SEALED_HEADER_BYTES",
    }
    constants = {name for name in vars(limits) if name.isupper() and not name.startswith("_")}
    values = {row.value for row in LIMITS}
    for name in constants - fixed_by_format - {"LIMITS"}:
        assert getattr(limits, name) in values, name


def test_no_message_is_above_the_frame_limit_and_every_type_has_a_rate() -> None:
    for spec in MESSAGES:
        assert 0 < spec.max_bytes <= limits.MAX_FRAME_BYTES
        assert spec.per_minute > 0


def test_a_peer_that_is_owed_all_its_bodies_does_not_fill_the_send_queue() -> None:
    # Otherwise two honest nodes that fetch from each other could wait for each other.
    assert limits.MAX_IN_FLIGHT * limits.CHUNK_BYTES <= limits.SEND_QUEUE_BYTES


def test_a_live_peer_answers_a_ping_before_it_counts_as_silent() -> None:
    timeouts = Timeouts()
    assert timeouts.ping_interval_seconds * 2 <= timeouts.idle_seconds
    assert ConnectionLimits().max_inbound == limits.MAX_INBOUND
