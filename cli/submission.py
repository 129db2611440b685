"""From a batch to what has to be said on the chain: parts within the network's limits, and receipts over them.

Owns the division into parts, the headers of the parts and the receipt that covers all of them. It asks no node
and writes no file; `delivery` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .answers import Receipt

if TYPE_CHECKING:
    from ..consensus.params import Params
    from ..consensus.payloads import ImageBatch
    from ..consensus.records import Records
    from ..consensus.statement import BatchHeader
    from ..node.batch_folder import BatchFolder
    from .outbox import Draft

STATEMENT_OVERHEAD_BYTES: Final = 704
"""Header (at most 420 bytes), signature, seed and MessagePack's own bytes, rounded up."""

LEVELS: Final = (Receipt.REFUSED, Receipt.QUEUED, Receipt.RELAYED, Receipt.SEALED, Receipt.CONFIRMED)
"""Receipt levels in rising order; a group is at the lowest level of its parts."""

MISSING: Final = "missing"
"""Level of a part that no node has acknowledged."""


def make_draft(
    folder: BatchFolder,
    *,
    author: bytes,
    network: bytes | None,
    key: str,
    private: bool,
    wait: int,
    with_objects: bool,
) -> Draft:
    """Return what is to be said of a batch; a producer's private batch stays private."""
    from ..consensus.statement import seed_commitment
    from .outbox import Draft

    public = folder.public and not private
    commitment = folder.seed_commitment if folder.seed is None else seed_commitment(folder.seed)
    return Draft(
        author=author,
        network=network,
        key=key,
        path=str(folder.path.absolute()),
        width=folder.width,
        height=folder.height,
        public=public,
        seed=folder.seed if public else None,
        # A public batch must open what it commits to.
        seed_commitment=commitment if folder.seed is not None or not public else None,
        micro_batch=folder.micro_batch,
        manifest_hash=folder.manifest_hash,
        stages=folder.stages,
        model=folder.model,
        clustering=folder.clustering,
        filter=folder.filter,
        wait=wait,
        with_objects=with_objects,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a batch, without its references to stages."""

    index: int
    payload: ImageBatch
    records_root: bytes


def records_per_part(params: Params, *, public: bool) -> int:
    """Return how many records fit into one statement under the network's limits."""
    from ..consensus.payloads import MAX_BATCH_RECORDS
    from ..consensus.perceptual import HASH_BYTES
    from ..consensus.records import RECORD_BYTES

    limit = min(params.max_statement_bytes, params.max_author_bytes, params.max_body_bytes)
    each = RECORD_BYTES + (HASH_BYTES if public else 0)
    return min((limit - STATEMENT_OVERHEAD_BYTES) // each, MAX_BATCH_RECORDS)


def split(draft: Draft, records: Records, looks: Sequence[bytes], params: Params) -> tuple[Part, ...]:
    """Divide a batch into as few parts as the limits allow, in record order."""
    from ..consensus.payloads import ImageBatch
    from ..consensus.records import RECORD_BYTES, Records

    size = records_per_part(params, public=draft.public)
    parts = []
    for index, start in enumerate(range(0, len(records), size)):
        piece = Records(records.packed[start * RECORD_BYTES : (start + size) * RECORD_BYTES])
        payload = ImageBatch(
            records=piece,
            perceptual=b"".join(looks[start : start + size]) if draft.public else None,
            seed=draft.seed,
        )
        parts.append(Part(index=index, payload=payload, records_root=piece.root()))
    return tuple(parts)


def part_header(draft: Draft, parts: Sequence[Part], part: Part, ids: Mapping[str, bytes]) -> BatchHeader:
    """Return the signed header of a part; `ids` are the statement ids of the batch's stages by label."""
    from ..consensus.statement import ABSENT, BatchHeader, group_id
    from ..node.batch_stages import resolve

    def reference(name: str | None) -> bytes:
        return ABSENT if name is None else resolve(name, ids)

    return BatchHeader(
        record_count=len(part.payload.records),
        records_root=part.records_root,
        perceptual_root=part.payload.perceptual_root() or ABSENT,
        width=draft.width,
        height=draft.height,
        public=draft.public,
        model=reference(draft.model),
        clustering=reference(draft.clustering),
        filter=reference(draft.filter),
        seed_commitment=draft.seed_commitment or ABSENT,
        micro_batch=draft.micro_batch,
        manifest_hash=draft.manifest_hash,
        group=group_id(item.records_root for item in parts),
        part_index=part.index,
        part_count=len(parts),
    )


@dataclass(slots=True, kw_only=True)
class Item:
    """One statement of a submission and how far it has come."""

    slot: str
    label: str
    """A stage's label; of a part, its number from 1."""
    images: int = 0
    id: bytes | None = None
    level: str = MISSING
    height: int | None = None
    confirmations: int = 0
    reused: bool = False
    """It was said before; nothing new was signed for it."""

    def to_json(self) -> dict[str, Any]:
        """Return the item as receipts show it."""
        return {
            "label": self.label,
            "id": None if self.id is None else self.id.hex(),
            "level": self.level,
            "height": self.height,
            "confirmations": self.confirmations,
            "images": self.images,
            "reused": self.reused,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionReceipt:
    """One receipt over all parts of a batch, or over what is missing of it."""

    network: bytes
    author: bytes
    group: bytes
    images: int
    stages: tuple[Item, ...]
    parts: tuple[Item, ...]
    objects: Mapping[str, Any]
    """How many images the node took, or why none."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Labels of what no node has acknowledged, or what was refused."""
        bad = (MISSING, Receipt.REFUSED.value)
        return tuple(f"{item.slot}" for item in (*self.stages, *self.parts) if item.level in bad)

    @property
    def level(self) -> str:
        """The lowest level of all parts; `missing` when one is missing."""
        levels = [item.level for item in self.parts]
        return MISSING if MISSING in levels else min(levels, key=LEVELS.index)

    @property
    def confirmations(self) -> int:
        """The fewest confirmations of all parts."""
        return min(item.confirmations for item in self.parts)

    @property
    def is_resubmission(self) -> bool:
        """Tell whether all parts had been submitted before."""
        return all(item.reused for item in self.parts)

    def to_json(self) -> dict[str, Any]:
        """Return the receipt for --json and for the outbox."""
        return {
            "network_id": self.network.hex(),
            "author": self.author.hex(),
            "group": self.group.hex(),
            "images": self.images,
            "level": self.level,
            "confirmations": self.confirmations,
            "complete": not self.missing,
            "missing": list(self.missing),
            "resubmission": self.is_resubmission,
            "batches": [item.id.hex() for item in self.parts if item.id is not None],
            "stages": [item.to_json() for item in self.stages],
            "parts": [item.to_json() for item in self.parts],
            "objects": dict(self.objects),
        }
