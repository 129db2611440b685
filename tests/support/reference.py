"""The page docs/protocol.md a second time: genesis, state, transition, validity of a linear chain.

Written from the page alone, and sharing no code with the project. A refused block changes nothing.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from support import reference_rules as page
from support.reference_rules import (
    FOREVER,
    ZERO,
    History,
    Malformed,
    Rejected,
    Statement,
    require,
    sha,
    u32,
    u64,
    verify,
)

__all__ = ["Reference", "Rejected"]


LIMITS = {
    "retarget": (1, 2),
    "spacing": (100, 86_400_000),
    "half_life": (1000, 2_592_000_000),
    "pow_limit": (0, 2**32 - 1),
    "fixed_digits": (1, 16),
    "heartbeat": (0, 86_400_000),
    "future_limit": (100, 7_200_000),
    "max_statement": (4096, 1_048_576),
    "max_body": (4096, 67_108_864),
    "max_statements": (1, 65_536),
    "max_author": (4096, 67_108_864),
    "share": (0, 1024),
    "window": (0, 1024),
    "quorum": (1, 64),
}


class Role(NamedTuple):
    """A role entry."""

    intervals: tuple[tuple[int, int], ...] = ()
    encryption: bytes | None = None
    suspect: int | None = None

    def open_since(self) -> int | None:
        return self.intervals[-1][0] if self.intervals and self.intervals[-1][1] == FOREVER else None

    def holds(self, height: int) -> bool:
        return any(start <= height < end for start, end in self.intervals)

    def opened(self, at: int, encryption: bytes | None) -> Role:
        span = ((at, FOREVER),) if self.open_since() is None else ()
        return self._replace(intervals=self.intervals + span, encryption=encryption)

    def ended(self, at: int) -> Role:
        start = self.open_since()
        if start is None:
            return self
        rest = ((start, at),) if start < at else ()
        return self._replace(intervals=self.intervals[:-1] + rest)


class Proposal(NamedTuple):
    """A role proposal's entry."""

    payload: bytes
    height: int
    approvals: tuple[bytes, ...]
    effective: int


class Stage(NamedTuple):
    """A stages entry."""

    kind: int
    type: int
    height: int
    author: bytes
    retracted: int


class Versions(NamedTuple):
    """The schedule of versions."""

    decisions: int = 0
    version: int = 1
    following: int = 1
    activation: int = 0

    def at(self, height: int) -> int:
        return self.following if height >= self.activation else self.version


@dataclass
class State:
    """The state's entries; values are immutable, so that a copy of the tables is a copy of the state."""

    network: bytes
    vouched: dict[tuple[int, bytes], bytes] = field(default_factory=dict)
    upgrades: dict[tuple[int, int, int], bytes] = field(default_factory=dict)
    versions: Versions | None = None
    checkpoint: tuple[int, bytes] | None = None
    roles: dict[tuple[int, bytes], Role] = field(default_factory=dict)
    proposals: dict[bytes, Proposal] = field(default_factory=dict)
    sequences: dict[bytes, int] = field(default_factory=dict)
    stages: dict[bytes, Stage] = field(default_factory=dict)
    history: History = field(default_factory=History)

    def copy(self) -> State:
        tables = {name: value.copy() for name, value in vars(self).items() if isinstance(value, dict)}
        return State(**{**vars(self), **tables})

    def holds(self, role: int, key: bytes, height: int) -> bool:
        return self.roles.get((role, key), Role()).holds(height)

    def version(self, height: int) -> int:
        return (self.versions or Versions()).at(height)

    def administrators(self) -> list[bytes]:
        return sorted(
            key
            for (role, key), entry in self.roles.items()
            if role == page.ADMIN and entry.open_since() is not None
        )

    def root(self) -> bytes:
        parameters = {b"n": self.network}
        parameters |= {b"e" + u64(height) + block: keys for (height, block), keys in self.vouched.items()}
        for (decisions, version, at), keys in self.upgrades.items():
            parameters[b"u" + u32(decisions) + u32(version) + u64(at)] = keys
        if self.versions is not None:
            parameters[b"v"] = b"".join(map(u32, self.versions[:3])) + u64(self.versions.activation)
        if self.checkpoint is not None:
            parameters[b"c"] = u64(self.checkpoint[0]) + self.checkpoint[1]
        roles = {b"r" + bytes([role]) + key: page.encode(entry) for (role, key), entry in self.roles.items()}
        roles |= {b"p" + key: page.encode(entry) for key, entry in self.proposals.items()}
        roles[b"a"] = b"".join(self.administrators())
        parts = {
            "parameters": _sparse(parameters),
            "roles": _sparse(roles),
            "sequences": _sparse({key: u64(value) for key, value in self.sequences.items()}),
            "stages": _sparse({key: page.encode(value) for key, value in self.stages.items()}),
            "history": self.history.root(),
            "index": sha(b""),
        }
        return page.merkle([page.encode(part) for part in parts.items()])


def split(keys: bytes) -> tuple[bytes, ...]:
    return tuple(keys[at : at + 32] for at in range(0, len(keys), 32))


def _sparse(entries: dict[bytes, bytes]) -> bytes:
    return page.sparse_root({sha(key): value for key, value in entries.items()})


def _ascending(items: list[Any]) -> bool:
    return all(low < high for low, high in pairwise(items))


class Transition:
    """One block's statements, applied to a copy of the parent's state."""

    def __init__(self, parent: State, parameters: dict[str, int], hashes: list[bytes]) -> None:
        self.parent, self.parameters, self.hashes = parent, parameters, hashes
        self.height = len(hashes)
        self.state = parent.copy()
        self.state.history = parent.history.append(hashes[-1])
        self.kinds: dict[int, Callable[[Statement, Any], None]] = {
            page.BATCH: self.batch,
            page.STAGE: self.stage,
            page.PROPOSE: self.propose,
            page.APPROVE: self.approve,
            page.ROTATE: self.rotate,
            page.GRANT: self.view_grant,
            page.RETRACT: self.retract,
            page.ATTEST: self.attest,
            page.CHECKPOINT: self.vouch,
            page.UPGRADE: self.upgrade,
        }

    def apply(self, one: Statement, payload: Any) -> None:
        require(one.until >= self.height, "expired-statement")
        allowed = any(self.parent.holds(role, one.author, self.height) for role in page.ALLOWED[one.kind])
        require(allowed, "unauthorized-author")
        require(one.sequence == self.state.sequences.get(one.author, 0), "bad-sequence")
        self.state.sequences[one.author] = one.sequence + 1
        if one.kind in self.kinds:
            self.kinds[one.kind](one, payload)

    def is_admin(self, key: bytes) -> bool:
        return self.parent.holds(page.ADMIN, key, self.height)

    def enough(self, keys: tuple[bytes, ...]) -> bool:
        return sum(self.is_admin(key) for key in keys) >= self.parameters["quorum"]

    def stage_entry(self, key: bytes) -> Stage:
        entry = self.state.stages.get(key)
        if entry is None:
            raise Rejected("unknown-reference")
        return entry

    def batch(self, one: Statement, payload: Any) -> None:
        named = {"model": page.TRAINING, "clustering": page.CLUSTERING, "filter": page.FILTER}
        for name, kind in named.items():
            if one.batch and one.batch[name] != ZERO:
                require(self.stage_entry(one.batch[name]).type == kind, "unknown-reference")
        self.state.stages[one.id] = Stage(page.BATCH, 0, self.height, one.author, 0)

    def stage(self, one: Statement, payload: Any) -> None:
        for key in payload[2]:
            self.stage_entry(key)
        self.state.stages[one.id] = Stage(page.STAGE, payload[0], self.height, one.author, 0)

    def propose(self, one: Statement, payload: Any) -> None:
        self.state.proposals[one.id] = Proposal(one.payload, self.height, (one.author,), 0)
        self.decide(one.id)

    def approve(self, one: Statement, payload: Any) -> None:
        entry = self.state.proposals.get(payload[0])
        if entry is None or entry.effective:
            raise Rejected("unknown-proposal")
        require(one.author not in entry.approvals, "duplicate-approval")
        kept = tuple(key for key in entry.approvals if self.is_admin(key))
        self.state.proposals[payload[0]] = entry._replace(approvals=(*kept, one.author))
        self.decide(payload[0])

    def decide(self, proposal: bytes) -> None:
        entry = self.state.proposals[proposal]
        if not self.enough(entry.approvals):
            return
        action, role, subject, encryption, suspect, _ = page.decode(
            page.PAYLOADS[page.PROPOSE], entry.payload
        )
        held = self.state.roles.get((role, subject), Role())
        if action == 1:
            held = held.opened(self.height + 1, encryption)
            require(len(held.intervals) <= 1024, "state-conflict")
        else:
            held = held.ended(self.height + 1)._replace(suspect=suspect)
        self.state.roles[role, subject] = held
        require(len(self.state.administrators()) >= self.parameters["quorum"], "last-admin")
        self.state.proposals[proposal] = entry._replace(effective=self.height)

    def rotate(self, one: Statement, payload: Any) -> None:
        new, roles, after = payload[0], self.state.roles, self.height + 1
        require(not any(roles.get((role, new), Role()).intervals for role in range(1, 5)), "state-conflict")
        since = roles.get((page.PRODUCER, one.author), Role()).open_since()
        if self.parameters["share"] and since is not None:
            require(after - since >= self.parameters["window"], "state-conflict")
        for role in range(1, 5):
            old = roles.get((role, one.author), Role())
            if old.open_since() is not None:
                roles[role, new] = roles.get((role, new), Role()).opened(after, old.encryption)
                roles[role, one.author] = old.ended(after)

    def view_grant(self, one: Statement, payload: Any) -> None:
        entry = self.stage_entry(payload[0])
        require(entry.kind == page.BATCH, "unknown-reference")
        require(entry.author == one.author, "unauthorized-author")
        require(self.parent.holds(page.VIEWER, payload[1], self.height), "unknown-reference")

    def retract(self, one: Statement, payload: Any) -> None:
        target, record, _ = payload
        entry = self.stage_entry(target)
        require(entry.author == one.author or self.is_admin(one.author), "unauthorized-author")
        if record is not None:
            require(entry.kind == page.BATCH, "unknown-reference")
        elif not entry.retracted:
            self.state.stages[target] = entry._replace(retracted=self.height)

    def attest(self, one: Statement, payload: Any) -> None:
        require(self.stage_entry(payload[0]).kind == page.BATCH, "unknown-reference")

    def added(self, keys: bytes, author: bytes) -> bytes:
        require(author not in split(keys), "duplicate-approval")
        return keys + author

    def vouch(self, one: Statement, payload: Any) -> None:
        height, block = named = tuple(payload)
        require(height < self.height and self.hashes[height] == block, "unknown-reference")
        keys = self.added(self.state.vouched.get(named, b""), one.author)
        self.state.vouched[named] = keys
        above = self.state.checkpoint is None or height > self.state.checkpoint[0]
        if above and self.enough(split(keys)):
            self.state.checkpoint = named

    def upgrade(self, one: Statement, payload: Any) -> None:
        version, activation = payload
        now = self.state.versions or Versions()
        in_force, scheduled = now.at(self.height), now.activation > self.height
        require(activation > self.height and version >= in_force, "state-conflict")
        if scheduled:
            require((version, activation) != (now.following, now.activation), "state-conflict")
        else:
            require(version != in_force, "state-conflict")
        named = (now.decisions, version, activation)
        keys = self.added(self.state.upgrades.get(named, b""), one.author)
        self.state.upgrades[named] = keys
        if self.enough(split(keys)):
            at = 0 if version == in_force else activation
            self.state.versions = Versions(now.decisions + 1, in_force, version, at)


class Reference:
    """A linear chain, checked against the page."""

    def __init__(self, genesis_bytes: bytes, known: frozenset[int] = frozenset({1})) -> None:
        self.known = known
        unsigned, signatures = page.decode(page.GENESIS, genesis_bytes)
        magic, draft, _, numbers, time, administrators, grants = page.decode(page.UNSIGNED, unsigned)
        self.network, self.parameters = sha(unsigned), dict(zip(LIMITS, numbers, strict=True))
        one = self.parameters
        message = page.to_sign("genesis", self.network)
        ok = len(genesis_bytes) <= 65_536 and magic == "facechain/genesis/v1" and draft == 2
        ok = ok and all(low <= one[name] <= high for name, (low, high) in LIMITS.items())
        ok = ok and (one["retarget"] == 2 or one["future_limit"] <= one["half_life"] // 8)
        ok = ok and one["heartbeat"] < one["spacing"] and one["max_statement"] <= one["max_body"]
        ok = ok and one["share"] <= one["window"] and _ascending(administrators) and _ascending(grants)
        ok = ok and len(signatures) == len(administrators) >= one["quorum"]
        ok = ok and all(verify(*pair, message) for pair in zip(administrators, signatures, strict=True))
        if not ok or not all(page.valid_key(key) for _, key in grants):
            raise Malformed
        page.to_target(one["pow_limit"])
        roles = [(page.ADMIN, key) for key in administrators] + [(role, key) for role, key in grants]
        self.state = State(self.network, roles=dict.fromkeys(roles, Role(((1, FOREVER),))))
        self.state_root = self.state.root()
        block = (self.state_root, time, self.first_bits(), ZERO, 0)
        self.headers = [page.Header(1, 0, self.network, page.body_root([]), *block)]
        self.hashes = [sha(page.HEADER_LAYOUT.pack(*self.headers[0]))]
        self.chainwork = 0

    @property
    def tip_hash(self) -> bytes:
        return self.hashes[-1]

    @property
    def height(self) -> int:
        return len(self.headers) - 1

    def fork(self) -> Reference:
        """Another chain that begins like this one."""
        other = copy.copy(self)
        other.headers, other.hashes = list(self.headers), list(self.hashes)
        return other

    def first_bits(self) -> int:
        one = self.parameters
        return one["pow_limit"] if one["retarget"] == 1 else page.to_bits(16 ** (64 - one["fixed_digits"]))

    def next_bits(self) -> int:
        one, parent = self.parameters, self.headers[-1]
        if one["retarget"] == 2 or len(self.headers) < 2:
            return self.first_bits()
        elapsed = parent.time - (self.headers[1].time - one["spacing"])
        ideal = {"spacing": one["spacing"], "half_life": one["half_life"], "anchor": one["pow_limit"]}
        return page.asert(**ideal, limit=one["pow_limit"], elapsed=elapsed, blocks=parent.height - 1)

    def accept(self, sealed_header: bytes, body_bytes: bytes, *, now: int | None = None) -> None:
        """Append a block, or raise `Rejected`; without `now` the clock's rule is left out."""
        if len(sealed_header) != 224:
            raise Malformed
        header = page.Header(*page.HEADER_LAYOUT.unpack(sealed_header[:160]))
        block = sha(sealed_header[:160])
        self.check_header(header, block)
        require(now is None or header.time <= now + self.parameters["future_limit"], "time-too-new")
        signed = page.to_sign("seal", self.network, block)
        require(verify(header.producer, sealed_header[160:], signed), "bad-seal")
        statements = page.parse_body(body_bytes)
        self.check_body(header, statements)
        state = self.check_state(header, statements)
        self.state, self.state_root = state, header.state_root
        self.headers.append(header)
        self.hashes.append(block)
        self.chainwork += page.work(header.bits)

    def check_header(self, header: page.Header, block: bytes) -> None:
        share, window, parent = self.parameters["share"], self.parameters["window"], self.headers[-1]
        require(header.previous in self.hashes, "missing-parent")
        require(header.version in self.known, "unknown-version")
        require(header.previous == self.tip_hash, "bad-prevblk")
        require(header.height == parent.height + 1, "bad-height")
        require(header.bits == self.next_bits(), "bad-diffbits")
        require(int.from_bytes(block, "big") < page.to_target(header.bits), "high-hash")
        times = sorted(earlier.time for earlier in self.headers[-11:])
        require(header.time > times[len(times) // 2], "time-too-old")
        last = self.headers[max(1, header.height - window + 1) :]
        sealed = 1 + sum(earlier.producer == header.producer for earlier in last)
        require(not share or sealed <= share, "producer-share")

    def check_body(self, header: page.Header, statements: list[Statement]) -> None:
        one = self.parameters
        require(page.body_root(statements) == header.body_root, "bad-merkle-root")
        require(all(sha(s.payload) == s.payload_hash for s in statements), "payload-mismatch")
        require(len(statements) <= one["max_statements"], "too-many-statements")
        require(sum(s.size for s in statements) <= one["max_body"], "oversized")
        shares: Counter[bytes] = Counter()
        for statement in statements:
            shares[statement.author] += statement.size
        require(all(size <= one["max_author"] for size in shares.values()), "author-quota")
        require(statements or header.time >= self.headers[-1].time + one["heartbeat"], "early-heartbeat")

    def check_state(self, header: page.Header, statements: list[Statement]) -> State:
        require(header.version == self.state.version(header.height), "bad-version")
        held = self.state.holds(page.PRODUCER, header.producer, header.height)
        require(held, "unauthorized-producer")
        transition = Transition(self.state, self.parameters, self.hashes)
        for one in statements:
            require(one.size <= self.parameters["max_statement"], "oversized")
            signed = page.to_sign("statement", self.network, one.id)
            require(verify(one.author, one.signature, signed), "bad-signature")
            transition.apply(one, page.parse_payload(one, self.network))
        require(transition.state.root() == header.state_root, "bad-state-root")
        return transition.state
