"""Evidence: all that is needed to check one registered image without a node and without a network.

Owns the structure and its bytes. It proves nothing by itself: :mod:`.proofs` walks it layer by layer,
and the node fills it from one snapshot of its store. The *anchor* is the newest header that the
prover had: its state root commits to the roles of all heights, to the named statements and to the
hashes of all its ancestors, so everything older hangs on it by Merkle paths.

Source: ``docs/audit.md``, section "The proof file".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .block import HEADER_BYTES, SEALED_HEADER_BYTES, Header, SealedHeader
from .encoding import U32, U64, Value, as_array, as_bytes, as_list, as_uint, pack, split_fixed, unpack
from .errors import DecodeError
from .hashing import HASH_BYTES
from .params import MAX_GENESIS_BYTES, MEDIAN_TIME_SPAN
from .records import RECORD_BYTES
from .state_proof import EntryProof, read_path, read_sub_roots
from .statement import MAX_HEADER_BYTES, SIGNATURE_BYTES, Statement

MAGIC: Final = b"FCPROOF\x00"
VERSION: Final = 1
"""Version of the file format, u16 big-endian after the magic bytes."""

SUFFIX: Final = ".fcproof"

MAX_STATEMENTS: Final = 32
"""Statements besides the batch: its stages, retractions and attestations."""

MAX_BLOCKS: Final = MAX_STATEMENTS + 1
MAX_STATEMENT_PAYLOAD_BYTES: Final = 131_072
"""The longest stage payload takes about 73,000 bytes."""

MAX_AUTHOR_ROLES: Final = 4
MAX_EVIDENCE_BYTES: Final = 6 * 2**20
"""All parts at their own limits stay below this."""

_PREFIX_BYTES: Final = len(MAGIC) + 2


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockProof:
    """A sealed header and its path under the anchor's history."""

    sealed: SealedHeader
    path: tuple[bytes, ...]
    """Empty when the block is the anchor itself."""

    def values(self) -> list[object]:
        """Return the fields in wire order."""
        return [self.sealed.encode(), b"".join(self.path)]

    @classmethod
    def of(cls, value: Value) -> BlockProof:
        """Read the array of fields; raises DecodeError."""
        sealed, path = as_array(value, "block proof", 2)
        return cls(
            sealed=SealedHeader.decode(as_bytes(sealed, "sealed header", size=SEALED_HEADER_BYTES)),
            path=read_path(path, "history path"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementProof:
    """A statement and where it stands in the body of one of the evidence's blocks."""

    block: int
    """Index into :attr:`Evidence.blocks`."""
    statement: Statement
    """The batch comes without its payload (empty bytes): the record is proven by its own path."""
    index: int
    """Position in the body."""
    count: int
    """Statements in the body."""
    byte_count: int
    """Bytes of all statements in the body; part of the body root."""
    tree_root: bytes
    """RFC 6962 root over the leaves of the body."""
    path: tuple[bytes, ...]

    def values(self) -> list[object]:
        """Return the fields in wire order."""
        statement = self.statement
        return [
            self.block,
            statement.header_bytes,
            statement.signature,
            statement.payload,
            self.index,
            self.count,
            self.byte_count,
            self.tree_root,
            b"".join(self.path),
        ]

    @classmethod
    def of(cls, value: Value) -> StatementProof:
        """Read the array of fields; raises DecodeError."""
        fields = as_array(value, "statement proof", 9)
        return cls(
            block=as_uint(fields[0], "block", U32),
            statement=Statement(
                as_bytes(fields[1], "statement header", max_size=MAX_HEADER_BYTES),
                as_bytes(fields[2], "signature", size=SIGNATURE_BYTES),
                as_bytes(fields[3], "payload", max_size=MAX_STATEMENT_PAYLOAD_BYTES),
            ),
            index=as_uint(fields[4], "body index", U64),
            count=as_uint(fields[5], "body count", U64),
            byte_count=as_uint(fields[6], "body bytes", U64),
            tree_root=as_bytes(fields[7], "body tree root", size=HASH_BYTES),
            path=read_path(fields[8], "body path"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordProof:
    """One record of the batch and its path under the records root."""

    record: bytes
    """70 bytes."""
    index: int
    path: tuple[bytes, ...]

    def values(self) -> list[object]:
        """Return the fields in wire order."""
        return [self.record, self.index, b"".join(self.path)]

    @classmethod
    def of(cls, value: Value) -> RecordProof:
        """Read the array of fields; raises DecodeError."""
        record, index, path = as_array(value, "record proof", 3)
        return cls(
            record=as_bytes(record, "record", size=RECORD_BYTES),
            index=as_uint(index, "record index", U32),
            path=read_path(path, "record path"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointProof:
    """The highest checkpoint of the anchor's state, or that there is none, and its block's place."""

    entry: EntryProof
    path: tuple[bytes, ...]
    """Path of the checkpoint's block under the anchor's history; empty without a checkpoint."""

    def values(self) -> list[object]:
        """Return the fields in wire order."""
        return [self.entry.values(), b"".join(self.path)]

    @classmethod
    def of(cls, value: Value) -> CheckpointProof:
        """Read the array of fields; raises DecodeError."""
        entry, path = as_array(value, "checkpoint proof", 2)
        return cls(entry=EntryProof.of(entry), path=read_path(path, "checkpoint path"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """See the module's text. ``blocks[0]`` holds the batch; ``statements`` are about it."""

    genesis: bytes
    """Encoded genesis, signatures included."""
    anchor: SealedHeader
    sub_roots: tuple[bytes, ...]
    """The parts of the anchor's state root, in the order of ``SUB_ROOTS``."""
    genesis_path: tuple[bytes, ...]
    """Path of block 0 under the anchor's history."""
    anchor_role: EntryProof
    """Role ``producer`` of the key that sealed the anchor."""
    blocks: tuple[BlockProof, ...]
    ancestors: tuple[Header, ...]
    """The (up to 11) headers before ``blocks[0]``, oldest first: its median time past."""
    sealer_role: EntryProof
    """Role ``producer`` of the key that sealed ``blocks[0]``."""
    author_roles: tuple[EntryProof, ...]
    """Every role that may send batches, of the batch's author, ascending by role."""
    batch: StatementProof
    batch_entry: EntryProof
    """What the state says of the batch: height, author, retracted or not."""
    record: RecordProof
    statements: tuple[StatementProof, ...]
    """Stages that the batch builds on, retractions and attestations of it."""
    checkpoint: CheckpointProof

    def encode(self) -> bytes:
        """Return the proof file: magic, version, canonical MessagePack."""
        values = [
            self.genesis,
            self.anchor.encode(),
            b"".join(self.sub_roots),
            b"".join(self.genesis_path),
            self.anchor_role.values(),
            [block.values() for block in self.blocks],
            b"".join(header.encode() for header in self.ancestors),
            self.sealer_role.values(),
            [entry.values() for entry in self.author_roles],
            self.batch.values(),
            self.batch_entry.values(),
            self.record.values(),
            [statement.values() for statement in self.statements],
            self.checkpoint.values(),
        ]
        return MAGIC + VERSION.to_bytes(2, "big") + pack(values)

    @classmethod
    def decode(cls, data: bytes) -> Evidence:
        """Read a proof file.

        Raises:
            DecodeError: not a proof file, of another version, malformed or over a limit.
        """
        _check_prefix(data)
        fields = as_array(unpack(data[_PREFIX_BYTES:], max_bytes=MAX_EVIDENCE_BYTES), "evidence", 14)
        return cls(
            genesis=as_bytes(fields[0], "genesis", max_size=MAX_GENESIS_BYTES),
            anchor=SealedHeader.decode(as_bytes(fields[1], "anchor", size=SEALED_HEADER_BYTES)),
            sub_roots=read_sub_roots(fields[2]),
            genesis_path=read_path(fields[3], "genesis path"),
            anchor_role=EntryProof.of(fields[4]),
            blocks=tuple(
                BlockProof.of(item)
                for item in as_list(fields[5], "blocks", max_items=MAX_BLOCKS, min_items=1)
            ),
            ancestors=_headers(fields[6]),
            sealer_role=EntryProof.of(fields[7]),
            author_roles=tuple(
                EntryProof.of(item) for item in as_list(fields[8], "author roles", max_items=MAX_AUTHOR_ROLES)
            ),
            batch=StatementProof.of(fields[9]),
            batch_entry=EntryProof.of(fields[10]),
            record=RecordProof.of(fields[11]),
            statements=tuple(
                StatementProof.of(item)
                for item in as_list(fields[12], "statements", max_items=MAX_STATEMENTS)
            ),
            checkpoint=CheckpointProof.of(fields[13]),
        )


def _check_prefix(data: bytes) -> None:
    if len(data) > MAX_EVIDENCE_BYTES:
        raise DecodeError(
            "proof file", expected=f"at most {MAX_EVIDENCE_BYTES} bytes", got=f"{len(data)} bytes"
        )
    if len(data) < _PREFIX_BYTES or not data.startswith(MAGIC):
        raise DecodeError("proof file", expected="a facechain proof file", got="other content")
    version = int.from_bytes(data[len(MAGIC) : _PREFIX_BYTES], "big")
    if version != VERSION:
        raise DecodeError("proof file version", expected=VERSION, got=version)


def _headers(value: Value) -> tuple[Header, ...]:
    packed = as_bytes(value, "ancestors")
    parts = split_fixed(packed, "ancestors", size=HEADER_BYTES, max_items=MEDIAN_TIME_SPAN)
    return tuple(Header.decode(part) for part in parts)
