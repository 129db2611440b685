"""Records: what the chain keeps of one image, 70 bytes each.

Owns the packed form. A batch is one packed array, so that hundreds of thousands of images cost no
per-image object; :class:`Records` gives single records, leaves and proofs from it.

Source: ``docs/protocol.md``, section "Records".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import DecodeError
from .merkle import inclusion_proof, leaf_hash, root

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

RECORD_BYTES = 70
NO_CLUSTER = 0xFFFF
"""Cluster number of an image that was not clustered."""

_LAYOUT = struct.Struct(">32s32sIH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One registered image."""

    pixel_hash: bytes
    """32 bytes; see :func:`facechain.consensus.image.pixel_hash`."""
    file_hash: bytes
    """32 bytes; SHA-256 of the registered file."""
    generator_index: int
    """u32; with the batch seed it gives the latent vector."""
    cluster: int
    """u16; :data:`NO_CLUSTER` when the batch was not clustered."""

    def encode(self) -> bytes:
        """Return the 70 bytes: pixel hash, file hash, index (u32), cluster (u16), big-endian."""
        return _LAYOUT.pack(self.pixel_hash, self.file_hash, self.generator_index, self.cluster)

    @classmethod
    def decode(cls, data: bytes) -> Record:
        """Read 70 bytes; every bit pattern is a record.

        Raises:
            DecodeError: not 70 bytes.
        """
        if len(data) != RECORD_BYTES:
            raise DecodeError("record", expected=f"{RECORD_BYTES} bytes", got=f"{len(data)} bytes")
        pixel, file, index, cluster = _LAYOUT.unpack(data)
        return cls(pixel_hash=pixel, file_hash=file, generator_index=index, cluster=cluster)


@dataclass(frozen=True, slots=True)
class Records:
    """A packed array of records; ``packed`` holds ``70 * len(records)`` bytes."""

    packed: bytes

    def __post_init__(self) -> None:
        """Refuse a length that is not a whole number of records."""
        if len(self.packed) % RECORD_BYTES:
            raise DecodeError(
                "records", expected=f"a multiple of {RECORD_BYTES} bytes", got=f"{len(self.packed)} bytes"
            )

    @classmethod
    def of(cls, records: Iterable[Record]) -> Records:
        """Pack single records."""
        return cls(b"".join(record.encode() for record in records))

    def __len__(self) -> int:
        """Number of records."""
        return len(self.packed) // RECORD_BYTES

    def __getitem__(self, index: int) -> Record:
        """Return record ``index``; negative indices are not accepted."""
        return Record.decode(self.raw(index))

    def __iter__(self) -> Iterator[Record]:
        """Yield the records in order."""
        return (self[index] for index in range(len(self)))

    def raw(self, index: int) -> bytes:
        """Return the 70 bytes of record ``index``."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        return self.packed[index * RECORD_BYTES : (index + 1) * RECORD_BYTES]

    def leaf_hashes(self) -> list[bytes]:
        """Return the RFC 6962 leaf hash of every record."""
        packed = self.packed
        return [
            leaf_hash(packed[start : start + RECORD_BYTES]) for start in range(0, len(packed), RECORD_BYTES)
        ]

    def root(self) -> bytes:
        """Return the records root that a batch header commits to."""
        return root(self.leaf_hashes())

    def prove(self, index: int) -> tuple[bytes, ...]:
        """Return the RFC 6962 inclusion proof of record ``index``."""
        return inclusion_proof(self.leaf_hashes(), index)
