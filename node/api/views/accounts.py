"""Accounts, roles and proposals as JSON."""

from __future__ import annotations

from collections.abc import Iterator

from ....consensus.kinds import Role
from ....consensus.payloads import RoleProposal
from ....consensus.state import OPEN_END, ProposalEntry, RoleEntry, proposal_key, role_key
from ...store.schema import Table, prefix_stop
from ..limits import PROPOSALS_MAX, ROLE_ENTRIES_MAX
from ..snapshot import Snapshot
from .blocks import JsonObject
from .statements import proposal_payload_view


def role_entry_view(role: Role, key: bytes, entry: RoleEntry, height: int) -> JsonObject:
    """Return one (role, key) with every interval in which it was held."""
    return {
        "role": role.label,
        "key": key.hex(),
        "held": entry.holds_at(height),
        "intervals": [
            {"from": start, "until": None if until == OPEN_END else until} for start, until in entry.intervals
        ],
        "encryption_key": None if entry.encryption_key is None else entry.encryption_key.hex(),
        "suspect_since": entry.suspect_since,
    }


def account_view(snapshot: Snapshot, key: bytes, *, pooled_sequence: int) -> JsonObject:
    """Return roles at the next height and the sequences of a key; a key never seen has none of either.

    `pooled_sequence`: the sequence that the mempool would take next.
    """
    following = snapshot.height + 1
    sequence = snapshot.state.next_sequence(key)
    entries = ((role, snapshot.state.role(role, key)) for role in Role)
    return {
        "key": key.hex(),
        "roles": sorted(role.label for role in snapshot.state.roles_at(key, following)),
        "at_height": following,
        "next_sequence": sequence,
        "next_sequence_with_mempool": max(sequence, pooled_sequence),
        "entries": [
            role_entry_view(role, key, entry, following) for role, entry in entries if entry.intervals
        ],
    }


def role_entries(snapshot: Snapshot) -> Iterator[tuple[Role, bytes, RoleEntry]]:
    """Yield everything the state knows of roles, by role and key."""
    for role in Role:
        prefix = role_key(role, b"")
        for key, value in snapshot.chain.reader.scan(Table.ROLES, start=prefix, stop=prefix_stop(prefix)):
            yield role, key[len(prefix) :], RoleEntry.decode(value)


def roles_view(snapshot: Snapshot, height: int | None) -> JsonObject:
    """Return who holds which role for block `height` (default: the next block), and who ever did."""
    at = snapshot.height + 1 if height is None else height
    entries: list[JsonObject] = []
    for role, key, entry in role_entries(snapshot):
        if len(entries) == ROLE_ENTRIES_MAX:
            break
        entries.append(role_entry_view(role, key, entry, at))
    return {
        "at_height": at,
        "quorum": snapshot.genesis.params.quorum,
        "administrators": [entry["key"] for entry in entries if entry["role"] == "admin" and entry["held"]],
        "entries": entries,
        "truncated": len(entries) == ROLE_ENTRIES_MAX,
    }


def proposals_view(snapshot: Snapshot) -> JsonObject:
    """Return role proposals: open ones first, then the newest."""
    prefix = proposal_key(b"")
    rows = snapshot.chain.reader.scan(
        Table.ROLES, start=prefix, stop=prefix_stop(prefix), limit=PROPOSALS_MAX
    )
    found = [_proposal_view(snapshot, key[len(prefix) :], ProposalEntry.decode(value)) for key, value in rows]
    found.sort(key=lambda item: (not item["open"], -item["height"]))
    return {"proposals": found, "quorum": snapshot.genesis.params.quorum}


def _proposal_view(snapshot: Snapshot, statement: bytes, entry: ProposalEntry) -> JsonObject:
    standing = set(snapshot.state.administrators())
    counted = [key for key in entry.approvals if key in standing]
    return {
        "id": statement.hex(),
        "height": entry.height,
        **proposal_payload_view(RoleProposal.decode(entry.payload)),
        "approvals": [key.hex() for key in entry.approvals],
        "approvals_needed": max(snapshot.genesis.params.quorum - len(counted), 0)
        if not entry.effective_height
        else 0,
        "open": entry.effective_height == 0,
        "effective_height": entry.effective_height or None,
    }
