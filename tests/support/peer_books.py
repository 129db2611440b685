"""Address books and peers for the tests of the peer machines."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from facechain.node.protocol.peer_book import AddressBook
from facechain.node.protocol.peer_entry import PeerPolicy
from facechain.node.wire.messages import Address

NOW_MS = 1_790_000_000_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
SECRET = b"\x07" * 32


def make_book(seed: int = 0, **policy: Any) -> AddressBook:
    """Return an empty book whose randomness is that of `seed`."""
    return AddressBook(secret=SECRET, random=random.Random(seed), policy=PeerPolicy(**policy))


def public_host(number: int) -> str:
    """Return an address of public network group `number` (below 2,000), always the same one."""
    return f"{20 + number // 200}.{number % 200}.0.1"


def heard(*hosts: str, port: int = 7440, seen_ms: int = NOW_MS) -> list[Address]:
    """Return what a peer says of these hosts."""
    return [Address(host=host, port=port, last_seen_ms=seen_ms) for host in hosts]


def tell(book: AddressBook, hosts: Iterable[str], source: str, now_ms: int = NOW_MS) -> int:
    """Let a peer at `source` tell of `hosts`; return how many were new and found a place."""
    return sum(len(book.add_heard(heard(host), source_host=source, now_ms=now_ms)) for host in hosts)
