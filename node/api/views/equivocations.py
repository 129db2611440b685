"""Keys that said two things in one place, as JSON; call on the event loop's thread."""

from __future__ import annotations

from ...protocol.equivocation import Equivocation, EquivocationKind, Equivocations
from .blocks import JsonObject


def counts_view(found: Equivocations) -> JsonObject:
    """Return the counts since the node started."""
    return {"blocks": found.counts.blocks, "statements": found.counts.statements, "keys": len(found)}


def equivocation_view(found: Equivocation) -> JsonObject:
    """Return the evidence of one place: heights and parents of blocks, sequences of statements."""
    if found.kind is EquivocationKind.BLOCK:
        place: JsonObject = {"height": found.number, "parent": found.parent.hex()}
    else:
        place = {"sequence": found.number}
    return {
        "kind": str(found.kind),
        **place,
        "first": found.first.hex(),
        "second": found.second.hex(),
        "at_ms": found.at_ms,
    }


def key_view(found: Equivocations, key: bytes) -> list[JsonObject]:
    """Return the evidence of one key, oldest first."""
    return [equivocation_view(item) for item in found.of(key)]


def equivocations_view(found: Equivocations) -> JsonObject:
    """Return the counts, and the evidence of every key, those that did it last first."""
    counts = found.counts
    return {
        "blocks": counts.blocks,
        "statements": counts.statements,
        "keys": [
            {"key": key.hex(), "found": [equivocation_view(item) for item in items]}
            for key, items in found.all()
        ],
    }
