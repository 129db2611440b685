"""Places in the address book: which bucket and slot an address may stand in, and what stands there.

Owns the keyed hash that assigns places, and a table of them. With the node's secret nobody else can compute
which addresses share a bucket; by the hash, addresses that one source group tells of reach a few buckets of the new
table only, and those of one network group a few of the tried table.
"""

from __future__ import annotations

from ...consensus.encoding import pack
from ...consensus.hashing import tagged_hash
from .peer_entry import AddressEntry, Endpoint, PeerPolicy, RandomSource
from .peer_groups import Reach, network_group, reach_of

Place = tuple[int, int]
"""Bucket and slot."""


class PlaceHash:
    """Assigns each address its one place in either table."""

    def __init__(self, secret: bytes, policy: PeerPolicy) -> None:
        """`secret` is the node's own, 32 random bytes."""
        self._secret = secret
        self._policy = policy

    def new_place(self, entry: AddressEntry) -> Place:
        """Return the place of an address that never worked: by who told of it, and by its group."""
        policy = self._policy
        share = self._number("group", entry.source_group, _own_group(entry)) % policy.source_buckets
        bucket = self._number("new", entry.source_group, str(share)) % policy.new_buckets
        return bucket, self._number("new slot", str(bucket), *_parts(entry)) % policy.slots

    def tried_place(self, entry: AddressEntry) -> Place:
        """Return the place of an address that worked: by its group alone."""
        policy = self._policy
        share = self._number("address", *_parts(entry)) % policy.group_buckets
        bucket = self._number("tried", _own_group(entry), str(share)) % policy.tried_buckets
        return bucket, self._number("tried slot", str(bucket), *_parts(entry)) % policy.slots

    def _number(self, *parts: str) -> int:
        digest = tagged_hash("facechain/address-place", self._secret, pack(list(parts)))
        return int.from_bytes(digest[:8], "big")


def _parts(entry: AddressEntry) -> tuple[str, str]:
    return entry.host, str(entry.port)


def _own_group(entry: AddressEntry) -> str:
    """Return the network group; on loopback, where all nodes may share one address, the port is part of it."""
    group = network_group(entry.host)
    return f"{group} {entry.port}" if reach_of(entry.host) is Reach.LOOPBACK else group


class PlaceTable:
    """What stands where. At most one address in a place."""

    def __init__(self) -> None:
        """Start empty."""
        self._buckets: dict[int, dict[int, Endpoint]] = {}
        self._count = 0

    def __len__(self) -> int:
        """Number of addresses."""
        return self._count

    def at(self, place: Place) -> Endpoint | None:
        """Return what stands in a place."""
        return self._buckets.get(place[0], {}).get(place[1])

    def put(self, place: Place, endpoint: Endpoint) -> None:
        """Fill an empty place."""
        if self.at(place) is not None:
            raise ValueError(f"place {place}: expected an empty one, got {self.at(place)}")
        self._buckets.setdefault(place[0], {})[place[1]] = endpoint
        self._count += 1

    def clear(self, place: Place) -> None:
        """Empty a place."""
        bucket = self._buckets[place[0]]
        del bucket[place[1]]
        self._count -= 1
        if not bucket:
            del self._buckets[place[0]]

    def pick(self, random: RandomSource) -> Endpoint | None:
        """Return the address of a random place, every bucket alike: a crowded one counts no more than another."""
        if not self._buckets:
            return None
        buckets = sorted(self._buckets)
        bucket = self._buckets[buckets[random.randrange(len(buckets))]]
        slots = sorted(bucket)
        return bucket[slots[random.randrange(len(slots))]]
