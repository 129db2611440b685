"""The faces of a block or a batch: which images it registers, page by page, and which this node can show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ...consensus.payloads import ImageBatch
from ...consensus.records import NO_CLUSTER
from ...consensus.statement import BatchHeader, Statement
from ..api.limits import NEWEST_FACES
from ..api.objects import ObjectFolder
from ..api.snapshot import Snapshot
from ..chain_index import Place
from ..store.schema import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of faces."""

    faces: list[dict[str, Any]]
    number: int
    """From 1."""
    pages: int
    total: int


def face_page(
    statements: Iterable[Statement], objects: ObjectFolder | None, *, number: int, per_page: int
) -> Page:
    """Return page `number` of the images in these statements, in order."""
    batches = [(item, item.header.batch) for item in statements]
    total = sum(0 if batch is None else batch.record_count for _, batch in batches)
    pages = max(-(-total // per_page), 1)
    number = min(number, pages)
    first = (number - 1) * per_page
    faces = list(_faces(batches, objects, first, first + per_page))
    return Page(faces=faces, number=number, pages=pages, total=total)


def _faces(
    batches: Iterable[tuple[Statement, BatchHeader | None]],
    objects: ObjectFolder | None,
    first: int,
    last: int,
) -> Iterator[dict[str, Any]]:
    """Yield faces number `first` to `last` - 1; only the batches that hold some of them are decoded."""
    start = 0
    for statement, batch in batches:
        if batch is None:
            continue
        stop = start + batch.record_count
        if start < last and first < stop:
            payload = ImageBatch.decode(statement.payload)
            for index in range(max(first - start, 0), min(last - start, batch.record_count)):
                yield _face(payload, statement, index, objects, public=batch.public)
        start = stop


def _face(
    payload: ImageBatch, statement: Statement, index: int, objects: ObjectFolder | None, *, public: bool
) -> dict[str, Any]:
    record = payload.records[index]
    return {
        "pixel_hash": record.pixel_hash.hex(),
        "file_hash": record.file_hash.hex(),
        "batch": statement.id.hex(),
        "index": index,
        "generator_index": record.generator_index,
        "cluster": None if record.cluster == NO_CLUSTER else record.cluster,
        "public": public,
        "held": is_held(objects, record.file_hash),
    }


def newest_faces(snapshot: Snapshot, objects: ObjectFolder | None) -> dict[str, Any] | None:
    """Return the first faces of the newest public batch, with its block; None before there is one."""
    rows = snapshot.chain.reader.scan(Table.LOOKS, reverse=True, limit=1)
    place = next((Place.decode(key) for key, _ in rows), None)
    statement = None if place is None else snapshot.chain.statement_at(place)
    if place is None or statement is None:
        return None
    return {
        "height": place.height,
        "block_hash": (snapshot.chain.block_hash(place.height) or b"").hex(),
        "batch": statement.id.hex(),
        "faces": face_page((statement,), objects, number=1, per_page=NEWEST_FACES),
    }


def is_held(objects: ObjectFolder | None, digest: bytes) -> bool:
    """Tell whether this node can show an image."""
    return objects is not None and digest in objects
