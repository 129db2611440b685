"""One address that a peer may be reached at, and what happened when it was tried.

Owns the value, its stored form, and the judgement whether an address is still worth its place. Times are Unix
milliseconds, since the address book outlives the process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from ...consensus.encoding import U16, U64, as_array, as_bool, as_text, as_uint, pack, unpack
from ..wire.limits import (
    ADDRESS_HORIZON_SECONDS,
    ADDRESS_SLOTS,
    ADDRESS_SOURCE_BUCKETS,
    ADDRESS_TRIED_BUCKETS,
    ADDRESS_TRIED_GROUP_BUCKETS,
    ADDRESSES_ANSWERED,
    ADDRESSES_ANSWERED_SHARE,
    MAX_HOST_BYTES,
    MAX_MANUAL_PEERS,
    MAX_TRIED_TESTS,
    NEW_ADDRESS_BUCKETS,
)

MAX_ENTRY_BYTES: Final = 1_024

Endpoint = tuple[str, int]
"""Host and port."""


class RandomSource(Protocol):
    """What the address book needs of `random.Random`; the operating system's in a node, a seeded one in tests."""

    def random(self) -> float:
        """Return a number from 0 up to, but not including, 1."""
        ...

    def randrange(self, stop: int, /) -> int:
        """Return a whole number from 0 up to, but not including, ``stop``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerPolicy:
    """Limits of the address book; times in milliseconds."""

    new_buckets: int = NEW_ADDRESS_BUCKETS
    source_buckets: int = ADDRESS_SOURCE_BUCKETS
    """New buckets that addresses from one source group can reach."""
    tried_buckets: int = ADDRESS_TRIED_BUCKETS
    group_buckets: int = ADDRESS_TRIED_GROUP_BUCKETS
    """Tried buckets that addresses of one network group can reach."""
    slots: int = ADDRESS_SLOTS
    manual: int = MAX_MANUAL_PEERS
    first_backoff_ms: int = 1_000
    max_backoff_ms: int = 600_000
    manual_backoff_ms: int = 5_000
    """Longest wait between two tries of an address that the operator named."""
    horizon_ms: int = ADDRESS_HORIZON_SECONDS * 1_000
    """An address that nobody saw for so long is dropped."""
    retries: int = 3
    """Failures after which an address that never worked is dropped."""
    failures: int = 10
    """Failures after which an address that worked once is dropped, if it did not work for a week."""
    failing_ms: int = 7 * 86_400_000
    hearsay_ms: int = 7_200_000
    """Taken off what a peer says about when it saw somebody else."""
    tests: int = MAX_TRIED_TESTS
    """Tried addresses that are tested at a time before they lose their place."""
    replace_ms: int = 4 * 3_600_000
    """A tried address that worked within this time keeps its place without a test."""
    test_ms: int = 60_000
    """How long a test of a tried address may take."""
    test_window_ms: int = 40 * 60_000
    """A test that never came about is decided for the newcomer after this time."""
    answer_size: int = ADDRESSES_ANSWERED
    """Addresses handed out per request."""
    answer_share: float = ADDRESSES_ANSWERED_SHARE
    """Largest share of the book that is handed out per request."""
    answer_floor: int = 16
    """Handed out whatever the share, so that a small network finds itself."""
    draws: int = 50
    """Random places that are looked at per choice."""


DEFAULT_POLICY: Final = PeerPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressEntry:
    """What is known of one address."""

    host: str
    port: int
    last_seen_ms: int = 0
    last_try_ms: int = 0
    last_success_ms: int = 0
    failures: int = 0
    """Tries that failed since the last one that did not."""
    manual: bool = False
    """Whether the operator named it."""
    tried: bool = False
    """Whether it once worked, and has its place among those."""
    source_group: str = ""

    @property
    def endpoint(self) -> Endpoint:
        """Host and port."""
        return self.host, self.port

    def is_terrible(self, now_ms: int, policy: PeerPolicy) -> bool:
        """Tell whether the address is not worth a place: stale, never any good, or failing for long."""
        if now_ms - self.last_seen_ms > policy.horizon_ms:
            return True
        if not self.last_success_ms:
            return self.failures >= policy.retries
        return self.failures >= policy.failures and now_ms - self.last_success_ms > policy.failing_ms

    def due_ms(self, policy: PeerPolicy) -> int:
        """Return when the address may be tried again; the wait doubles with each failure."""
        if not self.last_try_ms or not self.failures:
            return self.last_try_ms
        ceiling = policy.manual_backoff_ms if self.manual else policy.max_backoff_ms
        return self.last_try_ms + min(policy.first_backoff_ms << min(self.failures, 20), ceiling)

    def encode(self) -> bytes:
        """Return the stored form."""
        numbers = [self.last_seen_ms, self.last_try_ms, self.last_success_ms, self.failures]
        return pack([self.host, self.port, numbers, self.manual, self.tried, self.source_group])

    @classmethod
    def decode(cls, data: bytes) -> AddressEntry:
        """Read the stored form; raises DecodeError."""
        host, port, numbers, manual, tried, group = as_array(
            unpack(data, max_bytes=MAX_ENTRY_BYTES), "address", 6
        )
        times = [as_uint(item, "time", U64) for item in as_array(numbers, "times", 4)]
        return cls(
            host=as_text(host, "host", max_bytes=MAX_HOST_BYTES),
            port=as_uint(port, "port", U16),
            last_seen_ms=times[0],
            last_try_ms=times[1],
            last_success_ms=times[2],
            failures=times[3],
            manual=as_bool(manual, "manual"),
            tried=as_bool(tried, "tried"),
            source_group=as_text(group, "source group", max_bytes=MAX_HOST_BYTES),
        )
