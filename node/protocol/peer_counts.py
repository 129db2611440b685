"""What became of peers: plain counters since the node started.

Owns the numbers and their meaning; the door, the hub and the dialer count, the API publishes. Reasons are codes of this
node (rules of the chain, `wire.faults.Reason`), never a peer's own words, so there are few of them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

BY_OPERATOR: Final = "operator"
"""Reason of the bans that the operator made."""


@dataclass(slots=True, kw_only=True)
class PeerCounts:
    """See the module's text."""

    offences: Counter[str] = field(default_factory=Counter)
    """By reason; those of named peers, who are never banned, among them."""
    bans: Counter[str] = field(default_factory=Counter)
    """Made, by reason."""
    evictions: int = 0
    """Inbound connections that made room for another one."""
    feelers_worked: int = 0
    """Short connections to see whether an address works, that came about."""
    feelers_failed: int = 0
