"""The chain state: who may do what, who said how much, which statements can be referred to.

Owns the keys and values of the state buckets and the state root over them. Every entry of the
four mapped parts (parameters, roles, sequences, stages) is also a leaf of a sparse Merkle tree;
:meth:`State.root` brings the trees up to date with the entries that were changed. Role entries keep
all height intervals, so a proof under today's root tells who was authorised at any height.

Source: ``docs/protocol.md``, section "State".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from . import history, merkle, sparse
from .encoding import U8, U64, as_array, as_bytes, as_list, as_uint, pack, unpack
from .errors import DecodeError
from .hashing import sha256
from .kinds import Kind, Role
from .kv import Bucket, Overlay
from .upgrade import Schedule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .kv import StateReader

HASH_BYTES = 32
OPEN_END = 2**64 - 1
"""Upper end of an interval that nobody has closed."""

MAX_ENTRY_BYTES = 65_536
MAX_INTERVALS = 1_024

TREES: Mapping[Bucket, Bucket] = MappingProxyType(
    {
        Bucket.PARAMETERS: Bucket.PARAMETERS_TREE,
        Bucket.ROLES: Bucket.ROLES_TREE,
        Bucket.SEQUENCES: Bucket.SEQUENCES_TREE,
        Bucket.STAGES: Bucket.STAGES_TREE,
    }
)
"""The mapped parts and the buckets of their trees."""

SUB_ROOTS = ("parameters", "roles", "sequences", "stages", "history", "index")
"""Names under the state root, in leaf order."""

EMPTY_INDEX_ROOT = merkle.EMPTY_ROOT
"""The ``index`` sub-root: nothing is committed there in this draft."""

_ROLE, _ADMINS, _PROPOSAL = b"r", b"a", b"p"
_ENDORSEMENT, _CHECKPOINT, _PARAMS, _UPGRADE, _SCHEDULE = b"e", b"c", b"n", b"u", b"v"
_HISTORY_SIZE = b"size"

CHECKPOINT_KEY = _CHECKPOINT
"""Key in bucket PARAMETERS of the highest checkpoint: height u64 big-endian and block hash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleEntry:
    """All that the chain knows of one (role, key)."""

    intervals: tuple[tuple[int, int], ...]
    """Half-open height intervals [from, until) in which the role was held, ascending."""
    encryption_key: bytes | None = None
    """X25519 key of a viewer."""
    suspect_since: int | None = None
    """Height from which the key's statements are disputed."""

    def holds_at(self, height: int) -> bool:
        """Tell whether the role gives authority for block ``height``."""
        return any(start <= height < until for start, until in self.intervals)

    @property
    def is_open(self) -> bool:
        """Tell whether the last interval has no end."""
        return bool(self.intervals) and self.intervals[-1][1] == OPEN_END

    def encode(self) -> bytes:
        """Return the canonical value."""
        return pack([self.intervals, self.encryption_key, self.suspect_since])

    @classmethod
    def decode(cls, data: bytes) -> RoleEntry:
        """Read a value; raises DecodeError."""
        parts = as_array(unpack(data, max_bytes=MAX_ENTRY_BYTES, max_items=MAX_INTERVALS), "role entry", 3)
        return cls(
            intervals=tuple(
                (as_uint(pair[0], "from", U64), as_uint(pair[1], "until", U64))
                for pair in (
                    as_array(item, "interval", 2)
                    for item in as_list(parts[0], "intervals", max_items=MAX_INTERVALS)
                )
            ),
            encryption_key=None
            if parts[1] is None
            else as_bytes(parts[1], "encryption key", size=HASH_BYTES),
            suspect_since=None if parts[2] is None else as_uint(parts[2], "suspect since", U64),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalEntry:
    """A role proposal and who approved it."""

    payload: bytes
    """The proposal's payload bytes."""
    height: int
    approvals: tuple[bytes, ...]
    """Administrators, in the order of approval; the proposer first."""
    effective_height: int
    """Height of the block in which the quorum was reached; 0 while open."""

    def encode(self) -> bytes:
        """Return the canonical value."""
        return pack([self.payload, self.height, self.approvals, self.effective_height])

    @classmethod
    def decode(cls, data: bytes) -> ProposalEntry:
        """Read a value; raises DecodeError."""
        payload, height, approvals, effective = as_array(
            unpack(data, max_bytes=MAX_ENTRY_BYTES), "proposal entry", 4
        )
        return cls(
            payload=as_bytes(payload, "payload"),
            height=as_uint(height, "height", U64),
            approvals=tuple(
                as_bytes(item, "approval", size=HASH_BYTES)
                for item in as_list(approvals, "approvals", max_items=64)
            ),
            effective_height=as_uint(effective, "effective height", U64),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StageEntry:
    """A statement that others may refer to: a stage, or a batch."""

    kind: Kind
    stage_type: int
    """A StageType, or 0 for a batch."""
    height: int
    author: bytes
    retracted_height: int = 0
    """Height of the block that retracts it as a whole; 0 when it stands."""

    def encode(self) -> bytes:
        """Return the canonical value."""
        return pack([self.kind, self.stage_type, self.height, self.author, self.retracted_height])

    @classmethod
    def decode(cls, data: bytes) -> StageEntry:
        """Read a value; raises DecodeError."""
        parts = as_array(unpack(data, max_bytes=MAX_ENTRY_BYTES), "stage entry", 5)
        kind = as_uint(parts[0], "kind", U8)
        if kind not in Kind.__members__.values():
            raise DecodeError("kind", expected=f"1 to {max(Kind)}", got=str(kind))
        return cls(
            kind=Kind(kind),
            stage_type=as_uint(parts[1], "stage type", U8),
            height=as_uint(parts[2], "height", U64),
            author=as_bytes(parts[3], "author", size=HASH_BYTES),
            retracted_height=as_uint(parts[4], "retracted height", U64),
        )


def role_key(role: Role, key: bytes) -> bytes:
    """Key of a role entry in bucket ROLES."""
    return _ROLE + bytes([role]) + key


def proposal_key(proposal: bytes) -> bytes:
    """Key of a proposal entry in bucket ROLES."""
    return _PROPOSAL + proposal


def tree_key(key: bytes) -> bytes:
    """Path of an entry in its sparse Merkle tree: SHA-256 of the entry's key."""
    return sha256(key)


class StateView:
    """Typed read access to a state."""

    def __init__(self, reader: StateReader) -> None:
        """Look at ``reader``; nothing is cached."""
        self._reader = reader

    @property
    def reader(self) -> StateReader:
        """What the view looks at, to try changes on top of it."""
        return self._reader

    def role(self, role: Role, key: bytes) -> RoleEntry:
        """Return what is known of (role, key); without intervals when never granted."""
        value = self._reader.get(Bucket.ROLES, role_key(role, key))
        return RoleEntry(intervals=()) if value is None else RoleEntry.decode(value)

    def roles_at(self, key: bytes, height: int) -> frozenset[Role]:
        """Return the roles that give ``key`` authority for block ``height``."""
        return frozenset(role for role in Role if self.role(role, key).holds_at(height))

    def administrators(self) -> tuple[bytes, ...]:
        """Return the administrators after this state's block, ascending."""
        value = self._reader.get(Bucket.ROLES, _ADMINS) or b""
        return tuple(value[start : start + HASH_BYTES] for start in range(0, len(value), HASH_BYTES))

    def proposal(self, proposal: bytes) -> ProposalEntry | None:
        """Return a role proposal by statement id."""
        value = self._reader.get(Bucket.ROLES, proposal_key(proposal))
        return None if value is None else ProposalEntry.decode(value)

    def next_sequence(self, author: bytes) -> int:
        """Return the sequence number that the author's next statement must carry."""
        value = self._reader.get(Bucket.SEQUENCES, author)
        return 0 if value is None else int.from_bytes(value, "big")

    def stage(self, statement: bytes) -> StageEntry | None:
        """Return a stage or batch by statement id."""
        value = self._reader.get(Bucket.STAGES, statement)
        return None if value is None else StageEntry.decode(value)

    def checkpoint(self) -> tuple[int, bytes] | None:
        """Return the highest checkpoint that reached the quorum, as (height, block hash)."""
        value = self._reader.get(Bucket.PARAMETERS, _CHECKPOINT)
        return None if value is None else (int.from_bytes(value[:8], "big"), value[8:])

    def endorsers(self, height: int, block_hash: bytes) -> tuple[bytes, ...]:
        """Return the administrators that vouched for a block, in order."""
        value = (
            self._reader.get(Bucket.PARAMETERS, _ENDORSEMENT + height.to_bytes(8, "big") + block_hash) or b""
        )
        return tuple(value[start : start + HASH_BYTES] for start in range(0, len(value), HASH_BYTES))

    def schedule(self) -> Schedule:
        """Return which protocol version is in force, and which one follows."""
        value = self._reader.get(Bucket.PARAMETERS, _SCHEDULE)
        return Schedule() if value is None else Schedule.decode(value)

    def upgrade_endorsers(self, decisions: int, version: int, height: int) -> tuple[bytes, ...]:
        """Return who asked, since that many decisions, for a protocol version from a height on."""
        value = self._reader.get(Bucket.PARAMETERS, upgrade_key(decisions, version, height)) or b""
        return tuple(value[start : start + HASH_BYTES] for start in range(0, len(value), HASH_BYTES))

    def history_size(self) -> int:
        """Return how many header hashes the history holds."""
        value = self._reader.get(Bucket.META_STATE, _HISTORY_SIZE)
        return 0 if value is None else int.from_bytes(value, "big")


class FixedView(StateView):
    """A view of a state that does not change while the view is in use: a key's roles are looked up once."""

    def __init__(self, reader: StateReader) -> None:
        """Look at ``reader``."""
        super().__init__(reader)
        self._held: dict[tuple[bytes, int], frozenset[Role]] = {}

    def roles_at(self, key: bytes, height: int) -> frozenset[Role]:
        """Return the roles that give ``key`` authority for block ``height``."""
        held = self._held.get((key, height))
        if held is None:
            held = self._held[key, height] = super().roles_at(key, height)
        return held


def upgrade_prefix(decisions: int) -> bytes:
    """Start of the keys in bucket PARAMETERS of the requests since that many decisions."""
    return _UPGRADE + decisions.to_bytes(4, "big")


def upgrade_key(decisions: int, version: int, height: int) -> bytes:
    """Key in bucket PARAMETERS of who asked for a version from a height on."""
    return upgrade_prefix(decisions) + version.to_bytes(4, "big") + height.to_bytes(8, "big")


class State(StateView):
    """A state that is being changed by one block, over the parent's state."""

    def __init__(self, reader: StateReader) -> None:
        """Start from ``reader``, which is left as it is."""
        self.overlay = Overlay(reader)
        super().__init__(self.overlay)

    def _put(self, bucket: Bucket, key: bytes, value: bytes) -> None:
        self.overlay.put(bucket, key, value)

    def put_role(self, role: Role, key: bytes, entry: RoleEntry) -> None:
        """Store what is known of (role, key)."""
        self._put(Bucket.ROLES, role_key(role, key), entry.encode())

    def open_role(self, role: Role, key: bytes, height: int, encryption_key: bytes | None) -> None:
        """Grant a role from ``height`` on; a role that is held stays as it is."""
        entry = replace(self.role(role, key), encryption_key=encryption_key)
        if not entry.is_open:
            entry = replace(entry, intervals=(*entry.intervals, (height, OPEN_END)))
        self.put_role(role, key, entry)
        if role is Role.ADMIN:
            self._put_administrators({*self.administrators(), key})

    def close_role(self, role: Role, key: bytes, height: int, suspect_since: int | None) -> None:
        """Revoke a role from ``height`` on; a role that is not held stays as it is."""
        entry = replace(self.role(role, key), suspect_since=suspect_since)
        if entry.is_open:
            start = entry.intervals[-1][0]
            kept = entry.intervals[:-1]
            entry = replace(entry, intervals=(*kept, (start, height)) if start < height else kept)
        self.put_role(role, key, entry)
        if role is Role.ADMIN:
            self._put_administrators({*self.administrators()} - {key})

    def _put_administrators(self, keys: set[bytes]) -> None:
        self._put(Bucket.ROLES, _ADMINS, b"".join(sorted(keys)))

    def put_proposal(self, proposal: bytes, entry: ProposalEntry) -> None:
        """Store a role proposal under its statement id."""
        self._put(Bucket.ROLES, proposal_key(proposal), entry.encode())

    def put_sequence(self, author: bytes, following: int) -> None:
        """Store the author's next sequence number."""
        self._put(Bucket.SEQUENCES, author, following.to_bytes(8, "big"))

    def put_stage(self, statement: bytes, entry: StageEntry) -> None:
        """Store a stage or batch under its statement id."""
        self._put(Bucket.STAGES, statement, entry.encode())

    def put_endorsers(self, height: int, block_hash: bytes, keys: tuple[bytes, ...]) -> None:
        """Store who vouched for a block."""
        self._put(Bucket.PARAMETERS, _ENDORSEMENT + height.to_bytes(8, "big") + block_hash, b"".join(keys))

    def put_checkpoint(self, height: int, block_hash: bytes) -> None:
        """Store the highest checkpoint in force."""
        self._put(Bucket.PARAMETERS, _CHECKPOINT, height.to_bytes(8, "big") + block_hash)

    def put_upgrade_endorsers(
        self, decisions: int, version: int, height: int, keys: tuple[bytes, ...]
    ) -> None:
        """Store who asked for a protocol version."""
        self._put(Bucket.PARAMETERS, upgrade_key(decisions, version, height), b"".join(keys))

    def put_schedule(self, schedule: Schedule) -> None:
        """Store what a quorum decided on the protocol version."""
        self._put(Bucket.PARAMETERS, _SCHEDULE, schedule.encode())

    def put_network(self, network_id: bytes) -> None:
        """Commit to the network's parameters."""
        self._put(Bucket.PARAMETERS, _PARAMS, network_id)

    def append_history(self, block_hash: bytes) -> None:
        """Add the parent's hash to the Merkle mountain range over all ancestors."""
        size = self.history_size()
        history.append(self.overlay.bucket(Bucket.HISTORY), size, merkle.leaf_hash(block_hash))
        self.overlay.put(Bucket.META_STATE, _HISTORY_SIZE, (size + 1).to_bytes(8, "big"))

    def root(self) -> bytes:
        """Bring the trees up to date and return the state root (O(changes * log entries))."""
        touched: dict[Bucket, dict[bytes, bytes | None]] = {bucket: {} for bucket in TREES}
        for bucket, key, value in self.overlay.changed():
            if bucket in touched:
                touched[bucket][tree_key(key)] = value
        for bucket, changes in touched.items():
            sparse.update(self.overlay.bucket(TREES[bucket]), changes)
        return state_root(sub_roots(self.overlay))


class _BucketReader:
    """One bucket of a reader, as the tree functions read it."""

    def __init__(self, reader: StateReader, bucket: Bucket) -> None:
        self._reader = reader
        self._bucket = bucket

    def get(self, key: bytes) -> bytes | None:
        return self._reader.get(self._bucket, key)

    def put(self, key: bytes, value: bytes) -> None:
        raise TypeError(f"{self._bucket}: a reader takes no writes (key {key.hex()}, {len(value)} bytes)")

    def delete(self, key: bytes) -> None:
        raise TypeError(f"{self._bucket}: a reader takes no writes (key {key.hex()})")


def sub_roots(reader: StateReader) -> tuple[bytes, ...]:
    """Return the six sub-roots of a state, in the order of :data:`SUB_ROOTS`."""
    mapped = tuple(sparse.root(_BucketReader(reader, tree)) for tree in TREES.values())
    size = StateView(reader).history_size()
    return (*mapped, history.root(_BucketReader(reader, Bucket.HISTORY), size), EMPTY_INDEX_ROOT)


def sub_root_leaf(name: str, root: bytes) -> bytes:
    """Leaf hash of one named sub-root under the state root."""
    return merkle.leaf_hash(pack([name, root]))


def state_root(roots: tuple[bytes, ...]) -> bytes:
    """Return the RFC 6962 root over the named sub-roots."""
    return merkle.root([sub_root_leaf(name, root) for name, root in zip(SUB_ROOTS, roots, strict=True)])


def prove_entry(reader: StateReader, bucket: Bucket, key: bytes) -> sparse.SparseProof:
    """Prove under ``bucket``'s sub-root what stands (or does not) under an entry's key."""
    return sparse.prove(_BucketReader(reader, TREES[bucket]), tree_key(key))


def prove_history(reader: StateReader, height: int) -> tuple[bytes, ...]:
    """Prove under the history sub-root which header hash stands at ``height``."""
    size = StateView(reader).history_size()
    if not 0 <= height < size:
        raise DecodeError("height", expected=f"0 to {size - 1}", got=str(height))
    return history.prove(_BucketReader(reader, Bucket.HISTORY), size, height)
