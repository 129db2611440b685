"""What relaying cost: plain counters since the node started.

Owns the numbers and their meaning; `body_sync` and `relay` count, the API publishes. Bytes are those of headers,
leaves and statements, without the few bytes of framing around them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ...consensus.block import SEALED_HEADER_BYTES
from ...consensus.hashing import HASH_BYTES


def leaves_bytes(leaves: int) -> int:
    """Return what a list of so many leaves counts as."""
    return leaves * HASH_BYTES


def announcement_bytes(leaves: int) -> int:
    """Return what an announcement of a block with so many leaves counts as."""
    return SEALED_HEADER_BYTES + leaves_bytes(leaves)


@dataclass(slots=True, kw_only=True)
class RelayCounts:
    """See the module's text."""

    blocks: int = 0
    """Whose bodies were put together, announced or downloaded."""
    block_bytes: int = 0
    """Received for blocks: announcements, leaves and statements."""
    announcements: int = 0
    """Of blocks, received."""
    announcements_known: int = 0
    """Of these, of blocks whose body was here, or being connected, already."""
    statements_reused: int = 0
    """Of blocks, that were here and did not travel again."""
    statements_fetched: int = 0
    """Of blocks, that were asked for."""
    statements_received: int = 0
    """In answers to requests for statements, those of blocks among them."""
    statements_repeated: int = 0
    """Of these, that were here already."""
    statements_sent: int = 0
    statements_sent_again: int = 0
    """Of these, to a peer that was sent them before."""


COUNTS: Final = (
    ("blocks", "Blocks put together from announcements or downloads"),
    ("block_bytes", "Bytes received for blocks: announcements, leaves and statements"),
    ("announcements", "Announcements of blocks received"),
    ("announcements_known", "Announcements of blocks that were here already"),
    ("statements_reused", "Statements of blocks that were here and did not travel again"),
    ("statements_fetched", "Statements of blocks that were fetched"),
    ("statements_received", "Statements received in answers to requests, those of blocks among them"),
    ("statements_repeated", "Statements received that were here already"),
    ("statements_sent", "Statements sent to peers that asked"),
    ("statements_sent_again", "Statements sent to peers that were sent them before"),
)
"""Every counter with the text it is published with."""
