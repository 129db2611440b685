"""The address book: which addresses are known and what became of them, without I/O.

Owns known addresses in two bounded tables: *new* (heard of) and *tried* (once connected to). An address has one
possible place in each, by a keyed hash of who told of it and of its network group, so that a flood from one
group fills its share and no more, and nothing that is merely heard of pushes out what works. A newcomer to a taken place of
the tried table waits until the one that stands there was tested and failed. The addresses that the operator names
stand outside the tables: they are tried for ever and never dropped.

Whom to connect to when is `peer_outbound`'s; bans are `peer_bans`'.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from ..wire.limits import MAX_ADDRESSES
from ..wire.messages import Address
from .peer_buckets import Place, PlaceHash, PlaceTable
from .peer_entry import DEFAULT_POLICY, AddressEntry, Endpoint, PeerPolicy, RandomSource
from .peer_groups import canonical_host, may_tell, network_group

FAILURE_WEIGHT = 0.66
"""How much less likely each failure makes a choice."""

ANSWER_DRAWS = 1_000
"""Addresses that are looked at for one answer, so that a question costs little whatever the book holds."""

FAILURES_OFFLINE_MAX = 2
"""Failures that count while this node reaches nobody at all: the fault may be its own."""


class AddressBook:
    """See the module's text."""

    def __init__(self, *, secret: bytes, random: RandomSource, policy: PeerPolicy = DEFAULT_POLICY) -> None:
        """Start empty; `secret` (32 random bytes) is kept with the book."""
        self.secret = secret
        self.policy = policy
        self._random = random
        self._hash = PlaceHash(secret, policy)
        self._entries: dict[Endpoint, AddressEntry] = {}
        self._new = PlaceTable()
        self._tried = PlaceTable()
        self._places: dict[Endpoint, Place] = {}
        """Where an address stands, in the table that its entry names; manual ones may stand nowhere."""
        self._for_this_run: set[Endpoint] = set()
        """Manual addresses that come with the configuration, and go with it."""
        self._tests: dict[Endpoint, int] = {}
        """Newcomers to taken places of the tried table, and since when they wait."""

    def __len__(self) -> int:
        """Number of known addresses."""
        return len(self._entries)

    @property
    def counts(self) -> tuple[int, int]:
        """How many addresses stand in the new and in the tried table."""
        return len(self._new), len(self._tried)

    def entries(self) -> tuple[AddressEntry, ...]:
        """Return all known addresses."""
        return tuple(self._entries.values())

    def get(self, endpoint: Endpoint) -> AddressEntry | None:
        """Return what is known of one address."""
        return self._entries.get(endpoint)

    # What is stored.

    def to_store(self) -> tuple[AddressEntry, ...]:
        """Return the addresses for a later run; those of the configuration are manual only while it names them."""
        kept = []
        for entry in self._entries.values():
            lasting = entry.manual and entry.endpoint not in self._for_this_run
            if lasting or entry.endpoint in self._places:
                kept.append(entry if entry.manual == lasting else replace(entry, manual=lasting))
        return tuple(kept)

    def restore(self, entries: Iterable[AddressEntry]) -> None:
        """Take entries that were stored; one whose place is taken, or that nobody can dial, is dropped."""
        for entry in entries:
            if entry.endpoint in self._entries:
                continue
            numeric = canonical_host(entry.host) == entry.host and entry.port
            stood = entry.tried or entry.source_group  # else it was merely named by the operator
            table, place = (self._tried if entry.tried else self._new), self._place(entry)
            if numeric and stood and table.at(place) is None:
                self._entries[entry.endpoint] = entry
                self._stand(entry, place)
            elif entry.manual:
                self._entries[entry.endpoint] = replace(entry, tried=False)

    # The operator's peers.

    def manual(self) -> tuple[AddressEntry, ...]:
        """Return the addresses that the operator named."""
        return tuple(entry for entry in self._entries.values() if entry.manual)

    def is_manual(self, endpoint: Endpoint) -> bool:
        """Tell whether the operator named an address."""
        entry = self._entries.get(endpoint)
        return entry is not None and entry.manual

    def add_manual(self, host: str, port: int, *, lasting: bool = True) -> bool:
        """Take an address that the operator named; tell whether it is new as such.

        One that is not `lasting` comes from the configuration: a later run without it forgets it.
        """
        endpoint = (host, port)
        known = self._entries.get(endpoint, AddressEntry(host=host, port=port))
        self._entries[endpoint] = replace(known, manual=True, failures=0, last_try_ms=0)
        if lasting:
            self._for_this_run.discard(endpoint)
        elif not known.manual:
            self._for_this_run.add(endpoint)
        return not known.manual

    def remove_manual(self, host: str, port: int) -> bool:
        """Forget that the operator named an address; tell whether it was so."""
        entry = self._entries.get((host, port))
        if entry is None or not entry.manual:
            return False
        self._for_this_run.discard(entry.endpoint)
        if entry.endpoint in self._places:
            self._entries[entry.endpoint] = replace(entry, manual=False)
        else:
            del self._entries[entry.endpoint]
        return True

    # What peers tell.

    def add_heard(
        self, addresses: Iterable[Address], *, source_host: str, now_ms: int
    ) -> tuple[Address, ...]:
        """Take addresses from a peer; return those that were new and found a place."""
        group = network_group(source_host)
        added = []
        for item in list(addresses)[:MAX_ADDRESSES]:
            host = canonical_host(item.host)
            if host is None or item.port == 0 or not may_tell(source_host, host):
                continue
            seen = min(item.last_seen_ms, now_ms)
            if host != canonical_host(source_host):
                seen = max(0, seen - self.policy.hearsay_ms)
            entry = AddressEntry(host=host, port=item.port, last_seen_ms=seen, source_group=group)
            if self._hear(entry, now_ms):
                added.append(replace(item, host=host, last_seen_ms=min(item.last_seen_ms, now_ms)))
        return tuple(added)

    def _hear(self, entry: AddressEntry, now_ms: int) -> bool:
        known = self._entries.get(entry.endpoint)
        if known is not None:
            if not known.tried:  # of those that work, this node knows better
                seen = max(known.last_seen_ms, entry.last_seen_ms)
                self._entries[entry.endpoint] = replace(known, last_seen_ms=seen)
            return False
        if entry.is_terrible(now_ms, self.policy):
            return False
        place = self._hash.new_place(entry)
        standing = self._new.at(place)
        if standing is not None:
            if not self._is_terrible(standing, now_ms):
                return False
            self.forget(*standing)
        self._entries[entry.endpoint] = entry
        self._stand(entry, place)
        return True

    def answer(self, asker_host: str, now_ms: int) -> tuple[Address, ...]:
        """Return a random part of the addresses that do not fail, of those that the asker may be told."""
        policy, left = self.policy, list(self._places)
        count = min(max(int(len(left) * policy.answer_share), policy.answer_floor), policy.answer_size)
        chosen: list[Address] = []
        for _ in range(min(len(left), ANSWER_DRAWS)):
            if len(chosen) == count:
                break
            position = self._random.randrange(len(left))
            left[position], left[-1] = left[-1], left[position]
            entry = self._entries[left.pop()]
            is_good = not entry.failures and not entry.is_terrible(now_ms, policy)
            if is_good and may_tell(asker_host, entry.host):
                chosen.append(Address(host=entry.host, port=entry.port, last_seen_ms=entry.last_seen_ms))
        return tuple(chosen)

    # What became of a try.

    def on_tried(self, host: str, port: int, now_ms: int) -> None:
        """Note the start of a connection attempt."""
        self._change(host, port, lambda entry: replace(entry, last_try_ms=now_ms))

    def on_success(self, host: str, port: int, now_ms: int) -> None:
        """Note a proven connection: the address moves to the tried table, or waits for a place there."""
        self.on_alive(host, port, now_ms)
        entry = self._entries.get((host, port))
        if entry is not None and not entry.tried and canonical_host(host) == host and port:
            self._promote(entry, now_ms)

    def on_alive(self, host: str, port: int, now_ms: int) -> None:
        """Note that a connection to an address still holds."""
        self._change(
            host, port, lambda entry: replace(entry, last_seen_ms=now_ms, last_success_ms=now_ms, failures=0)
        )

    def failures(self, host: str, port: int) -> int:
        """Return how many tries of an address failed in a row."""
        entry = self._entries.get((host, port))
        return 0 if entry is None else entry.failures

    def on_failure(self, host: str, port: int, *, before: int | None = None, is_online: bool = True) -> None:
        """Note a failed attempt.

        `before` is the number of failures before a connection that was made but did not last. A node that is not
        `is_online` (connected to anybody) learns little about others from its failures.
        """

        def fail(entry: AddressEntry) -> AddressEntry:
            earlier = entry.failures if before is None else before
            counted = earlier + 1 if is_online or entry.manual else min(earlier + 1, FAILURES_OFFLINE_MAX)
            return replace(entry, failures=max(earlier, counted))

        self._change(host, port, fail)

    def forget(self, host: str, port: int) -> None:
        """Drop an address, for instance this node's own; one that the operator named only loses its place."""
        entry = self._entries.get((host, port))
        if entry is None:
            return
        self._leave(entry)
        self._tests.pop(entry.endpoint, None)
        if entry.manual:
            self._entries[entry.endpoint] = replace(entry, tried=False)
        else:
            del self._entries[entry.endpoint]

    def drop_terrible(self, now_ms: int) -> int:
        """Drop addresses that are not worth a place; return how many."""
        terrible = [
            entry.endpoint
            for entry in self._entries.values()
            if not entry.manual and entry.is_terrible(now_ms, self.policy)
        ]
        for endpoint in terrible:
            self.forget(*endpoint)
        return len(terrible)

    # Tests before a tried address loses its place.

    def to_test(self, exclude: Collection[Endpoint], now_ms: int) -> AddressEntry | None:
        """Return a tried address that stands in a newcomer's way and is to be tested now."""
        self._decide_tests(now_ms)
        for newcomer in self._tests:
            standing = self._in_the_way(newcomer)
            if standing is None or standing.endpoint in exclude:
                continue
            if not standing.last_try_ms or now_ms - standing.last_try_ms >= self.policy.test_ms:
                return standing
        return None

    def _decide_tests(self, now_ms: int) -> None:
        policy = self.policy
        for newcomer, since_ms in list(self._tests.items()):
            entry, standing = self._entries.get(newcomer), self._in_the_way(newcomer)
            if entry is None or entry.tried:
                del self._tests[newcomer]
            elif standing is None:
                del self._tests[newcomer]
                self._promote(entry, now_ms)
            elif standing.last_success_ms and now_ms - standing.last_success_ms < policy.replace_ms:
                del self._tests[newcomer]  # it works: the newcomer stays in the new table
            elif (
                standing.last_try_ms > since_ms and now_ms - standing.last_try_ms > policy.test_ms
            ) or now_ms - since_ms > policy.test_window_ms:
                self._replace(standing, entry)

    def _in_the_way(self, newcomer: Endpoint) -> AddressEntry | None:
        entry = self._entries.get(newcomer)
        found = None if entry is None else self._tried.at(self._hash.tried_place(entry))
        return None if found is None else self._entries[found]

    def _replace(self, standing: AddressEntry, newcomer: AddressEntry) -> None:
        """Give a place of the tried table to a newcomer; what stood there goes back to the new table."""
        del self._tests[newcomer.endpoint]
        self._leave(standing)
        source = standing.source_group or network_group(standing.host)
        back = replace(standing, tried=False, source_group=source)
        self._entries[back.endpoint] = back
        place = self._hash.new_place(back)
        other = self._new.at(place)
        if other is not None and other != newcomer.endpoint:
            self.forget(*other)
        self._move_to_tried(newcomer)
        self._stand(back, place)

    def _promote(self, entry: AddressEntry, now_ms: int) -> None:
        if self._tried.at(self._hash.tried_place(entry)) is None:
            self._move_to_tried(entry)
        elif len(self._tests) < self.policy.tests:
            self._tests.setdefault(entry.endpoint, now_ms)

    def _move_to_tried(self, entry: AddressEntry) -> None:
        self._leave(entry)
        moved = replace(entry, tried=True)
        self._entries[entry.endpoint] = moved
        self._stand(moved, self._hash.tried_place(moved))

    # Choices.

    def due_manual(self, exclude: Collection[Endpoint], now_ms: int) -> AddressEntry | None:
        """Return the operator's address to try next."""
        ready = [
            entry
            for entry in self._entries.values()
            if entry.manual and entry.endpoint not in exclude and entry.due_ms(self.policy) <= now_ms
        ]
        return min(ready, key=lambda entry: (entry.failures, entry.last_try_ms, entry.endpoint), default=None)

    def pick(
        self, suits: Callable[[AddressEntry], bool], now_ms: int, *, new_only: bool = False
    ) -> AddressEntry | None:
        """Return a random address that suits and is due, from either table with equal chance.

        Every bucket is as likely as another, whatever stands in it; failures make an address less likely.
        """
        patience = 1.0
        for _ in range(self.policy.draws):
            table = self._new if new_only or self._random.random() < 0.5 else self._tried
            endpoint = table.pick(self._random)
            if endpoint is None:
                continue
            entry = self._entries[endpoint]
            if entry.due_ms(self.policy) > now_ms or not suits(entry):
                continue
            if self._random.random() < patience * FAILURE_WEIGHT ** min(entry.failures, 8):
                return entry
            patience *= 1.2
        return None

    # Inside.

    def _change(self, host: str, port: int, change: Callable[[AddressEntry], AddressEntry]) -> None:
        entry = self._entries.get((host, port))
        if entry is not None:
            self._entries[host, port] = change(entry)

    def _is_terrible(self, endpoint: Endpoint, now_ms: int) -> bool:
        entry = self._entries[endpoint]
        return not entry.manual and entry.is_terrible(now_ms, self.policy)

    def _place(self, entry: AddressEntry) -> Place:
        return self._hash.tried_place(entry) if entry.tried else self._hash.new_place(entry)

    def _stand(self, entry: AddressEntry, place: Place) -> None:
        (self._tried if entry.tried else self._new).put(place, entry.endpoint)
        self._places[entry.endpoint] = place

    def _leave(self, entry: AddressEntry) -> None:
        place = self._places.pop(entry.endpoint, None)
        if place is not None:
            (self._tried if entry.tried else self._new).clear(place)
