"""A small chain with registered images: real PNG files, real stages, real blocks, in the node's own chain state."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from facechain.consensus.block import Block
from facechain.consensus.image import decode_image, file_hash, pixel_hash
from facechain.consensus.kinds import StageType
from facechain.consensus.params import Genesis
from facechain.consensus.payloads import Checkpoint, ImageBatch
from facechain.consensus.perceptual import perceptual_hash
from facechain.consensus.records import Record, Records
from facechain.consensus.signing import LedgerKey
from facechain.consensus.statement import ABSENT, BatchHeader, Statement, group_id, seed_commitment
from facechain.node.chainstate import ChainState
from facechain.node.store.memory import MemoryStore
from support.chain import ADMIN, SUBMITTER, ChainBuilder, make_genesis, make_stage, seed

STAGES = (StageType.DATASET, StageType.TRAINING, StageType.FILTER, StageType.CLUSTERING)


def make_png(number: int, *, size: int = 32, name: str = "picture") -> bytes:
    """Return a PNG of smooth random colours, the same in every run."""
    source = np.random.Generator(np.random.PCG64([number, *name.encode()]))
    small = source.integers(0, 256, size=(8, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC)
    return encode_png(np.asarray(picture))


def encode_png(pixels: Any) -> bytes:
    """Return the PNG of an (h, w, 3) array of uint8."""
    output = io.BytesIO()
    Image.fromarray(pixels).save(output, format="PNG")
    return output.getvalue()


def make_image_batch(
    files: Sequence[bytes], *, public: bool = True, **header: Any
) -> tuple[ImageBatch, BatchHeader]:
    """Return payload and true header of a batch of real images; `header` fields are changed."""
    decoded = [decode_image(data) for data in files]
    records = Records.of(
        Record(
            pixel_hash=pixel_hash(pixels),
            file_hash=file_hash(data),
            generator_index=number,
            cluster=number % 3,
        )
        for number, (data, pixels) in enumerate(zip(files, decoded, strict=True))
    )
    looks = b"".join(perceptual_hash(pixels) for pixels in decoded)
    payload = ImageBatch(
        records=records, perceptual=looks if public else None, seed=seed("batch") if public else None
    )
    root = records.root()
    fields: dict[str, Any] = {
        "record_count": len(records),
        "records_root": root,
        "perceptual_root": payload.perceptual_root() or ABSENT,
        "width": decoded[0].width,
        "height": decoded[0].height,
        "public": public,
        "model": ABSENT,
        "clustering": ABSENT,
        "filter": ABSENT,
        "seed_commitment": seed_commitment(seed("batch")),
        "micro_batch": 64,
        "manifest_hash": seed("manifest"),
        "group": group_id([root]),
        "part_index": 0,
        "part_count": 1,
    }
    return payload, BatchHeader(**{**fields, **header})


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A chain with one batch."""

    chain: ChainState
    builder: ChainBuilder
    files: tuple[bytes, ...]
    batch: Statement
    stages: dict[StageType, Statement]
    """Empty for a batch that names none."""

    def mine(self, statements: Sequence[Statement] = ()) -> Block:
        """Append one block to both chains."""
        block = self.builder.mine(statements)
        return follow(self.chain, block)


def follow(chain: ChainState, block: Block) -> Block:
    """Hand a block to the node's chain state; it must become the tip."""
    update = chain.accept_block(block, now_ms=block.header.time_ms)
    assert update.connected[-1].hash == block.hash, update.refused
    return block


def open_chain(genesis: Genesis) -> ChainState:
    """Return an empty chain state on a store in memory."""
    return ChainState.open(MemoryStore.open(), genesis)


def register(
    files: Sequence[bytes],
    *,
    key: LedgerKey = SUBMITTER,
    with_stages: bool = True,
    blocks_after: int = 2,
    genesis: Genesis | None = None,
    **header: Any,
) -> Registered:
    """Anchor stages, then the batch, then more blocks with a checkpoint of the batch's block."""
    builder = ChainBuilder(genesis or make_genesis())
    chain = open_chain(builder.genesis)
    stages: dict[StageType, Statement] = {}
    previous: tuple[bytes, ...] = ()
    for stage_type in STAGES if with_stages else ():
        stage = make_stage(stage_type, *previous, name=f"the {stage_type.label}", source="test")
        stages[stage_type] = builder.statement(key, stage)
        previous = (stages[stage_type].id,)
    if stages:
        follow(chain, builder.mine(list(stages.values())))
        header = {
            "model": stages[StageType.TRAINING].id,
            "filter": stages[StageType.FILTER].id,
            "clustering": stages[StageType.CLUSTERING].id,
            **header,
        }
    payload, batch_header = make_image_batch(files, **header)
    batch = builder.statement(key, payload, batch=batch_header)
    sealed = follow(chain, builder.mine([batch]))
    for number in range(blocks_after):
        vouch = [builder.statement(ADMIN, Checkpoint(height=sealed.header.height, block_hash=sealed.hash))]
        follow(chain, builder.mine(vouch if number == 0 else []))
    return Registered(chain=chain, builder=builder, files=tuple(files), batch=batch, stages=stages)
