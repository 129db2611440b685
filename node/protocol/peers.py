"""Whom to connect to: the address book and the ban list, without I/O.

Owns known addresses with what happened to them, the choice of the next one to dial, and bans with
a reason and an expiry. Addresses that an operator names are tried for ever and never banned by
address book policy; others back off and are forgotten when they keep failing.

Times are Unix milliseconds, since both lists outlive the process.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

from ...consensus.encoding import U16, U64, as_array, as_bool, as_text, as_uint, pack, unpack
from ..wire.limits import MAX_ADDRESSES, MAX_HOST_BYTES
from ..wire.messages import Address

MAX_ENTRY_BYTES = 1_024
MAX_REASON_BYTES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerPolicy:
    """Limits of the address book; times in milliseconds."""

    book_size: int = 4_096
    per_source_group: int = 512
    """Addresses that peers of one network group may put into the book."""
    first_backoff_ms: int = 1_000
    max_backoff_ms: int = 600_000
    manual_backoff_ms: int = 5_000
    """Longest wait between two tries of an address that the operator named."""
    failures_until_forgotten: int = 10
    ban_ms: int = 86_400_000
    bans: int = 4_096
    """Bans that are kept; those that end first are dropped."""
    answer_size: int = 250
    """Addresses handed out per request."""


DEFAULT_POLICY = PeerPolicy()

Endpoint = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressEntry:
    """What is known of one address."""

    host: str
    port: int
    last_seen_ms: int = 0
    last_try_ms: int = 0
    last_success_ms: int = 0
    failures: int = 0
    manual: bool = False
    source_group: str = ""

    @property
    def endpoint(self) -> Endpoint:
        """Host and port."""
        return self.host, self.port

    def encode(self) -> bytes:
        """Return the stored form."""
        numbers = [self.last_seen_ms, self.last_try_ms, self.last_success_ms, self.failures]
        return pack([self.host, self.port, numbers, self.manual, self.source_group])

    @classmethod
    def decode(cls, data: bytes) -> AddressEntry:
        """Read the stored form; raises DecodeError."""
        host, port, numbers, manual, group = as_array(unpack(data, max_bytes=MAX_ENTRY_BYTES), "address", 5)
        times = [as_uint(item, "time", U64) for item in as_array(numbers, "times", 4)]
        return cls(
            host=as_text(host, "host", max_bytes=MAX_HOST_BYTES),
            port=as_uint(port, "port", U16),
            last_seen_ms=times[0],
            last_try_ms=times[1],
            last_success_ms=times[2],
            failures=times[3],
            manual=as_bool(manual, "manual"),
            source_group=as_text(group, "source group", max_bytes=MAX_HOST_BYTES),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ban:
    """Why somebody is kept out, and until when."""

    reason: str
    until_ms: int

    def encode(self) -> bytes:
        """Return the stored form."""
        return pack([self.reason, self.until_ms])

    @classmethod
    def decode(cls, data: bytes) -> Ban:
        """Read the stored form; raises DecodeError."""
        reason, until = as_array(unpack(data, max_bytes=MAX_ENTRY_BYTES), "ban", 2)
        return cls(
            reason=as_text(reason, "reason", max_bytes=MAX_REASON_BYTES),
            until_ms=as_uint(until, "until", U64),
        )


def network_group(host: str) -> str:
    """Return the /16 (IPv4) or /32 (IPv6) of an address, or the name itself."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    bits = 16 if address.version == 4 else 32
    return str(ipaddress.ip_network((address, bits), strict=False))


class AddressBook:
    """See the module's text."""

    def __init__(self, policy: PeerPolicy = DEFAULT_POLICY) -> None:
        """Start empty."""
        self._policy = policy
        self._entries: dict[Endpoint, AddressEntry] = {}
        self.bans: dict[bytes, Ban] = {}
        """Bans by node key."""

    def __len__(self) -> int:
        """Number of known addresses."""
        return len(self._entries)

    def entries(self) -> tuple[AddressEntry, ...]:
        """Return all known addresses."""
        return tuple(self._entries.values())

    def restore(self, entries: Iterable[AddressEntry]) -> None:
        """Take entries that were stored."""
        for entry in entries:
            self._entries.setdefault(entry.endpoint, entry)

    def add_manual(self, host: str, port: int) -> None:
        """Take an address that the operator named."""
        known = self._entries.get((host, port), AddressEntry(host=host, port=port))
        self._entries[host, port] = replace(known, manual=True, failures=0, last_try_ms=0)

    def add_heard(self, addresses: Iterable[Address], *, source_host: str, now_ms: int) -> int:
        """Take addresses from a peer, within its network group's share; return how many were new."""
        group = network_group(source_host)
        share = self._policy.per_source_group - sum(
            item.source_group == group for item in self._entries.values()
        )
        added = 0
        for item in list(addresses)[:MAX_ADDRESSES]:
            endpoint = (item.host, item.port)
            if item.port == 0 or endpoint in self._entries:
                continue
            if added >= share or len(self._entries) >= self._policy.book_size:
                break
            seen = min(item.last_seen_ms, now_ms)
            self._entries[endpoint] = AddressEntry(
                host=item.host, port=item.port, last_seen_ms=seen, source_group=group
            )
            added += 1
        return added

    def on_tried(self, host: str, port: int, now_ms: int) -> None:
        """Note the start of a connection attempt."""
        self._change(host, port, lambda entry: replace(entry, last_try_ms=now_ms))

    def on_success(self, host: str, port: int, now_ms: int) -> None:
        """Note a proven connection."""
        self._change(
            host, port, lambda entry: replace(entry, last_seen_ms=now_ms, last_success_ms=now_ms, failures=0)
        )

    def failures(self, host: str, port: int) -> int:
        """Return how many tries of an address failed in a row."""
        entry = self._entries.get((host, port))
        return 0 if entry is None else entry.failures

    def on_failure(self, host: str, port: int, *, before: int | None = None) -> None:
        """Note a failed attempt; an address that keeps failing is forgotten after some.

        `before` is the number of failures before a connection that was made but did not last.
        """
        self._change(
            host,
            port,
            lambda entry: replace(entry, failures=1 + (entry.failures if before is None else before)),
        )
        entry = self._entries.get((host, port))
        if entry and not entry.manual and entry.failures >= self._policy.failures_until_forgotten:
            del self._entries[host, port]

    def is_manual(self, endpoint: Endpoint) -> bool:
        """Tell whether the operator named an address."""
        entry = self._entries.get(endpoint)
        return entry is not None and entry.manual

    def forget(self, host: str, port: int) -> None:
        """Drop an address, for instance this node's own."""
        self._entries.pop((host, port), None)

    def _change(self, host: str, port: int, change: Callable[[AddressEntry], AddressEntry]) -> None:
        entry = self._entries.get((host, port))
        if entry is not None:
            self._entries[host, port] = change(entry)

    def due_ms(self, entry: AddressEntry) -> int:
        """Return when an address may be tried again."""
        if not entry.last_try_ms or not entry.failures:
            return entry.last_try_ms
        ceiling = self._policy.manual_backoff_ms if entry.manual else self._policy.max_backoff_ms
        backoff = min(self._policy.first_backoff_ms << min(entry.failures, 20), ceiling)
        return entry.last_try_ms + backoff

    def choose(
        self, *, exclude: Collection[Endpoint], groups: Collection[str], now_ms: int
    ) -> AddressEntry | None:
        """Return the next address to dial: the operator's first, then new network groups, then good ones."""
        ready = [
            entry
            for entry in self._entries.values()
            if entry.endpoint not in exclude and self.due_ms(entry) <= now_ms
        ]
        if not ready:
            return None
        return min(
            ready,
            key=lambda entry: (
                not entry.manual,
                network_group(entry.host) in groups,
                entry.failures,
                -entry.last_success_ms,
                entry.last_try_ms,
                entry.endpoint,
            ),
        )

    def answer(self) -> tuple[Address, ...]:
        """Return addresses to hand out: those that were seen and do not fail, latest first."""
        good = sorted(
            (entry for entry in self._entries.values() if entry.last_seen_ms and not entry.failures),
            key=lambda entry: -entry.last_seen_ms,
        )
        return tuple(
            Address(host=entry.host, port=entry.port, last_seen_ms=entry.last_seen_ms)
            for entry in good[: self._policy.answer_size]
        )

    def ban(self, node_key: bytes, reason: str, now_ms: int) -> Ban:
        """Keep a node out for a while."""
        ban = Ban(reason=reason[:MAX_REASON_BYTES], until_ms=now_ms + self._policy.ban_ms)
        self.bans[node_key] = ban
        while len(self.bans) > self._policy.bans:
            del self.bans[min(self.bans, key=lambda key: self.bans[key].until_ms)]
        return ban

    def banned(self, node_key: bytes, now_ms: int) -> Ban | None:
        """Return the ban that is in force, if any; an expired one is dropped."""
        ban = self.bans.get(node_key)
        if ban is not None and ban.until_ms <= now_ms:
            del self.bans[node_key]
            return None
        return ban
