"""Blocks and headers as JSON."""

from __future__ import annotations

from typing import Any

from ....consensus.block import Block, SealedHeader
from ....consensus.params import MEDIAN_TIME_SPAN
from ....consensus.statement import Statement
from ....consensus.validation import median_time_past
from ....consensus.work import bits_to_target, block_work
from ..problems import not_found
from ..snapshot import Snapshot

JsonObject = dict[str, Any]


def header_view(sealed: SealedHeader) -> JsonObject:
    """Return every field of a header, its hash and its seal."""
    header = sealed.header
    return {
        "height": header.height,
        "hash": header.hash.hex(),
        "version": header.version,
        "previous": header.previous.hex(),
        "body_root": header.body_root.hex(),
        "state_root": header.state_root.hex(),
        "time_ms": header.time_ms,
        "bits": header.bits,
        "target": f"{bits_to_target(header.bits):064x}",
        "work": f"{block_work(header.bits):x}",
        "producer": header.producer.hex(),
        "nonce": header.nonce,
        "seal": sealed.seal.hex(),
    }


def statement_summary(statement: Statement, index: int) -> JsonObject:
    """Return what a list of statements shows of each."""
    batch = statement.header.batch
    return {
        "index": index,
        "id": statement.id.hex(),
        "leaf": statement.leaf.hex(),
        "kind": statement.kind.label,
        "author": statement.author.hex(),
        "sequence": statement.sequence,
        "size_bytes": statement.size_bytes,
        "images": 0 if batch is None else batch.record_count,
    }


def block_summary(snapshot: Snapshot, height: int) -> JsonObject:
    """Return what a list of blocks shows of one."""
    sealed = snapshot.header_at(height)
    counts = snapshot.counts.get(snapshot.chain, sealed.hash)
    return {
        "height": height,
        "hash": sealed.hash.hex(),
        "time_ms": sealed.header.time_ms,
        "producer": sealed.header.producer.hex(),
        "statements": 0 if counts is None else counts.statements,
        "images": 0 if counts is None else counts.images,
        "size_bytes": 0 if counts is None else counts.size_bytes,
        "pruned": counts is None,
        "confirmations": snapshot.confirmations(height),
    }


def blocks_view(snapshot: Snapshot, *, before: int | None, limit: int) -> JsonObject:
    """Return summaries of blocks below height `before`, newest first, and where the next page starts."""
    top = snapshot.height if before is None else min(before - 1, snapshot.height)
    heights = range(top, max(top - limit, -1), -1)
    blocks = [block_summary(snapshot, height) for height in heights]
    last = heights[-1] if blocks else 0
    return {"blocks": blocks, "next_before": last or None, "height": snapshot.height}


def find_block(snapshot: Snapshot, at: int | bytes) -> tuple[SealedHeader, Block | None, bool]:
    """Return (header, block with its body if it is here, on the active chain) by height or hash.

    Raises:
        ApiProblem: 404 `block-not-found`.
    """
    chain = snapshot.chain
    block_hash = chain.block_hash(at) if isinstance(at, int) else at
    sealed = None if block_hash is None else chain.sealed_header(block_hash)
    if sealed is None:
        name = f"height {at}" if isinstance(at, int) else at.hex()
        raise not_found(
            "block-not-found",
            f"block {name}: expected a height from 0 to {snapshot.height} or the hash of a known block",
            expected=f"0 to {snapshot.height}, or a known hash",
            got=name,
        )
    body = chain.body(sealed.hash)
    active = chain.block_hash(sealed.height) == sealed.hash
    return sealed, None if body is None else Block(sealed, body), active


def block_view(snapshot: Snapshot, at: int | bytes) -> JsonObject:
    """Return a whole block but for the payloads."""
    sealed, block, active = find_block(snapshot, at)
    statements = () if block is None else block.body.statements
    following = snapshot.chain.block_hash(sealed.height + 1) if active else None
    return {
        **header_view(sealed),
        "active": active,
        "confirmations": snapshot.confirmations(sealed.height) if active else 0,
        "next": None if following is None else following.hex(),
        "pruned": block is None,
        "size_bytes": sum(item.size_bytes for item in statements),
        "images": sum(
            0 if item.header.batch is None else item.header.batch.record_count for item in statements
        ),
        "statements": [statement_summary(item, index) for index, item in enumerate(statements)],
    }


def time_interval(snapshot: Snapshot, sealed: SealedHeader) -> JsonObject:
    """Return when an active block was sealed: after its median time past, before its time plus the limit."""
    first = max(sealed.height - MEDIAN_TIME_SPAN, 0)
    heights = range(first, sealed.height)
    times = [snapshot.header_at(height).header.time_ms for height in heights] or [sealed.header.time_ms]
    return {
        "from_ms": median_time_past(times),
        "until_ms": sealed.header.time_ms + snapshot.genesis.params.future_limit_ms,
        "header_ms": sealed.header.time_ms,
    }
