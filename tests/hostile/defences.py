"""What can be taken out of a node, by name, in the process that `victim.py` starts. Never in any other.

Owns the table `DEFENCES`. Each entry changes modules of the node before its command runs, so that the attack that the
defence is against can be seen to succeed; `SCALED` takes nothing out, it makes times and memories small enough
to be waited for, and comes before what is taken out.
"""

from __future__ import annotations

from typing import Final

from hostile import removals
from hostile.changes import (
    Change,
    api_limits,
    constants,
    default,
    limits,
    nothing,
    patched,
    relay_limits,
    sync_limits,
    timeouts,
    together,
    yes,
)
from hostile.removals import HUGE

FOR_EVER: Final = 1e6
SCALED: Final = "scaled"
SCALED_BANS: Final = 6
SCALED_HEADERS: Final = 100
SCALED_HEADERS_AHEAD: Final = 1_000
SCALED_PRESYNC_BITS: Final = 8
SCALED_STATEMENTS_SEEN: Final = 40
SCALED_SEND_TOTAL_BYTES: Final = 64 << 20

DEFENCES: Final[dict[str, Change]] = {
    SCALED: together(
        timeouts(handshake=3.0, ping_interval=1.0, pong=9.0, idle=5.0, send=4.0, connect=3.0),
        limits(
            MAX_BANS=SCALED_BANS,
            MAX_PRESYNC_BITS=SCALED_PRESYNC_BITS,
            MAX_STATEMENTS_SEEN=SCALED_STATEMENTS_SEEN,
            SEND_TOTAL_BYTES=SCALED_SEND_TOTAL_BYTES,
        ),
        sync_limits(
            headers_timeout=1.5, body_timeout=1.5, body_timeout_max=6.0, headers_ahead=SCALED_HEADERS_AHEAD
        ),
        relay_limits(request_timeout=1.0),
        api_limits(IDLE_SECONDS=3.0, READ_BODY_SECONDS=3.0),
        patched("node.chainstate", HEADERS_WAITING_MAX=SCALED_HEADERS),
    ),
    # the handshake
    "handshake-signature": patched("node.wire.handshake", verify_signature=yes),
    "certificate": patched(
        "node.wire.handshake", hmac=type("hmac", (), {"compare_digest": staticmethod(yes)})
    ),
    "versions": patched("node.wire.handshake", _agree=lambda _ours, _theirs: 2),
    "network-id": removals.other_networks_agree,
    "own-key": together(removals.own_key_is_strange, patched("node.wire.handshake", verify_signature=yes)),
    "roles": together(
        removals.own_key_is_strange,
        removals.roles_do_not_matter,
        patched("node.wire.handshake", verify_signature=yes),
    ),
    "one-connection-per-key": patched("node.hub:PeerHub", _link_of=nothing),
    "handshake-time": timeouts(handshake=FOR_EVER),
    # frames
    "frame-size": limits(MAX_FRAME_BYTES=HUGE),
    "type-sizes": removals.no_type_sizes,
    "structure-bounds": removals.no_structure_bounds,
    "compression-off": removals.compress,
    "canonical-form": removals.faults_pass("malformed-message"),
    "known-types": removals.faults_pass("unknown-message"),
    "binary-only": removals.strange_frames_pass,
    "ends-seen": removals.ends_go_unnoticed,
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
    "rates": patched("node.wire.session:TokenBucket", take=yes),
    "turns": removals.nobody_else_has_a_turn,
    "solicitation": patched("node.wire.session:Session", _check_awaited=nothing),
    "phases": patched("node.wire.session:Session", _check_phase=nothing),
    "idle-time": timeouts(idle=FOR_EVER),
    "pong-time": timeouts(pong=FOR_EVER),
    "close-time": timeouts(close=FOR_EVER),
    "connect-time": timeouts(connect=FOR_EVER),
    "send-bounds": together(
        timeouts(send=FOR_EVER, idle=FOR_EVER, pong=FOR_EVER),
        default("node.wire.limits:ConnectionLimits", send_queue_bytes=HUGE),
        limits(SEND_TOTAL_BYTES=HUGE),
        constants(
            "node.peer_link",
            OUTBOX_MESSAGES_MAX=HUGE,
            OUTBOX_PAUSE_MESSAGES=HUGE,
            OUTBOX_PAUSE_BYTES=HUGE,
        ),
    ),
    "send-total": limits(SEND_TOTAL_BYTES=HUGE),
    # who is let in
    "bans": patched("node.peer_door:PeerDoor", refusal=nothing),
    "scores": patched("node.protocol.peer_bans:BanList", on_offence=nothing),
    "ban-count": default("node.protocol.peer_bans:BanList", bans_max=1 << 20),
    "useful-peers-stay": patched("node.peer_door", choose_to_evict=removals.oldest_goes),
    "room-for-others": removals.no_room_made,
    "places-given-back": removals.places_are_kept,
    "outbound-count": removals.many_outbound,
    # addresses and clocks
    "address-allowance": limits(ADDRESSES_PER_SECOND=FOR_EVER),
    "source-buckets": limits(ADDRESS_SOURCE_BUCKETS=256),
    "address-relay": limits(ADDRESS_RELAY_PEERS=1 << 10),
    "answer-once": removals.answers_again,
    "horizon": limits(ADDRESS_HORIZON_SECONDS=1e12),
    "own-clock": removals.clock_follows_peers,
    # headers
    "work": together(
        patched("consensus.validation", meets_target=yes),
        patched("node.protocol.presync", meets_target=yes),
    ),
    "target": removals.any_target_counts,
    "continuity": removals.gaps_pass,
    "parents": removals.orphans_are_adopted,
    "seals": together(
        patched("node.chainstate", check_seal=nothing), patched("node.hub_inbox", _seals_are_valid=yes)
    ),
    "authority": patched("node.chainstate", check_sealer=nothing),
    "median-time": removals.context_follows("median_time_ms"),
    "future-limit": patched("node.chainstate", check_time=nothing),
    "header-memory": patched("node.chainstate", HEADERS_WAITING_MAX=HUGE),
    "headers-ahead": sync_limits(headers_ahead=HUGE),
    "presync-bits": removals.bits_are_kept,
    "second-look": patched("node.protocol.presync:Commitments", agrees=yes),
    # blocks
    "body-root": removals.bodies_unchecked,
    "blame": patched("node.hub_work:HubWork", _on_refused=nothing),
    "in-flight": limits(MAX_IN_FLIGHT=1 << 10),
    "in-flight-bytes": limits(MAX_IN_FLIGHT_BYTES=1 << 40),
    "announcer-count": limits(MAX_ANNOUNCERS=1 << 10),
    "body-stalls": sync_limits(stalls_until_drop=HUGE),
    "max-reorg": patched("consensus.chain:BlockTree", _refusal=nothing),
    "returns": removals.nothing_returns,
    # statements
    "statement-stalls": relay_limits(stalls_until_drop=HUGE),
    "statement-signatures": patched("consensus.statement:Statement", has_valid_signature=yes),
    "statement-form": removals.garbage_is_no_statement,
    "asked-for": removals.all_statements_were_asked_for,
    "author-roles": removals.standing_passes("unauthorized-author"),
    "expiry": removals.standing_passes("expired-statement"),
    "one-per-sequence": removals.sequences_are_shared,
    "orphan-count": limits(MAX_ORPHANS=HUGE),
    "orphan-bytes": limits(MAX_ORPHAN_BYTES=HUGE),
    # equivocation
    "equivocation-watch": patched("node.protocol.equivocation:Equivocations", _note=nothing),
    "equivocation-count": limits(MAX_EQUIVOCATIONS_PER_KEY=HUGE),
    "equivocator-count": limits(MAX_EQUIVOCATORS=HUGE),
    "statements-seen": removals.all_statements_are_remembered,
    # HTTP
    "http-body": limits(MAX_HTTP_BODY_BYTES=HUGE),
    "http-line": limits(MAX_HTTP_LINE_BYTES=1 << 20),
    "http-field": limits(MAX_HTTP_FIELD_BYTES=1 << 20),
    "http-headers": limits(MAX_HTTP_HEADERS=1 << 16),
    "api-idle": api_limits(IDLE_SECONDS=FOR_EVER),
    "api-body-time": api_limits(READ_BODY_SECONDS=FOR_EVER),
    "api-numbers": removals.numbers_are_trusted,
    "api-listeners": constants("node.api.events", LISTENERS_MAX=HUGE),
    "api-token": patched("node.api.middleware", _check_access=nothing),
}
"""Every change by its name."""
