"""A batch as it lies on disk, read and checked before anything is signed.

Owns the reading of a produced batch folder (layout: docs/producer.md, "Batch folder"; neither torch nor the
producer is needed), of plain folders and of zip archives of either. Every image is decoded and hashed here:
what a folder says of its images is compared, never believed. Plain files are refused by name when they are
no images that can be registered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..consensus.hashing import sha256
from ..consensus.records import NO_CLUSTER, RECORD_BYTES, Record, Records
from .batch_images import IMAGES_MAX, ImageFacts, Progress, examine_all, manifest_bytes
from .batch_source import BatchRejected, Source, SubSource, open_source
from .batch_stages import StageDraft, read_stage_list

FORMAT: Final = "facechain-batch-1"
STAGES_FORMAT: Final = "facechain-stages-1"
BATCH_FILE: Final = "batch.json"
MANIFEST_FILE: Final = "manifest.json"
RECORDS_FILE: Final = "records.bin"
PERCEPTUAL_FILE: Final = "perceptual.bin"
STAGE_FILE: Final = "stage.json"
IMAGES: Final = "images/"
SIDECARS: Final = frozenset({MANIFEST_FILE, STAGE_FILE})
"""Files that `facechain generate` leaves beside its images."""

MANIFEST_BYTES_MAX: Final = 2**28
"""A million images take 150 MiB; the manifest is compared, not parsed."""
JSON_BYTES_MAX: Final = 2**23
"""Of the files that are parsed; 64 stage records at their limits take 5 MiB."""
HASH_BYTES: Final = 32
MAX_INDEX: Final = 2**32 - 1
_NUMBERED: Final = re.compile(r"(?:.*/)?([0-9]{8,10})\.png")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFolder:
    """A batch that was read and checked."""

    path: Path
    names: tuple[str, ...]
    """File of each record, in record order."""
    width: int
    height: int
    records: Records
    looks: tuple[bytes, ...]
    """Perceptual hash of each record."""
    public: bool
    """False when the producer marked the batch as private."""
    seed: bytes | None
    seed_commitment: bytes | None
    """Of a private batch: what its generation record commits to."""
    micro_batch: int
    manifest_hash: bytes
    stages: tuple[StageDraft, ...]
    model: str | None
    clustering: str | None
    filter: str | None
    """References: the label of a stage, or 64 hex digits of a statement id."""


def read_batch(path: Path, *, on_progress: Progress = lambda _done, _total: None) -> BatchFolder:
    """Read and check a produced batch, a folder of images or a zip archive of either.

    Raises:
        BatchRejected: names the file, what was expected and what came.
    """
    with open_source(path) as opened:
        source = _batch_root(opened)
        if BATCH_FILE in source.names:
            return _read_produced(path, source, on_progress)
        return _read_plain(path, source, on_progress)


def read_objects(folder: BatchFolder) -> Iterator[tuple[bytes, bytes]]:
    """Yield (file hash, bytes) of every image once, in record order; BatchRejected when one has changed."""
    sent: set[bytes] = set()
    with open_source(folder.path) as opened:
        source = _batch_root(opened)
        for name, record in zip(folder.names, folder.records, strict=True):
            if record.file_hash in sent:
                continue
            data = source.read(name)
            if sha256(data) != record.file_hash:
                raise BatchRejected(
                    source.describe(name), expected=f"SHA-256 {record.file_hash.hex()}", got="another file"
                )
            sent.add(record.file_hash)
            yield record.file_hash, data


def _batch_root(source: Source) -> Source:
    """Return the folder that holds batch.json: the root, or the one folder at the root of an archive."""
    tops = {name.split("/", 1)[0] for name in source.names}
    if len(tops) == 1:
        (top,) = tops
        if f"{top}/{BATCH_FILE}" in source.names:
            return SubSource(source, f"{top}/")
    return source


def _read_plain(path: Path, source: Source, on_progress: Progress) -> BatchFolder:
    names = tuple(name for name in source.names if name.rsplit("/", 1)[-1] not in SIDECARS)
    images = examine_all(path, source, names, on_progress)
    stages = _stages_beside(source)
    indices = _indices(names)
    records = Records.of(
        Record(
            pixel_hash=image.pixel_hash, file_hash=image.file_hash, generator_index=index, cluster=NO_CLUSTER
        )
        for image, index in zip(images, indices, strict=True)
    )
    return BatchFolder(
        path=path,
        names=names,
        width=images[0].width,
        height=images[0].height,
        records=records,
        looks=tuple(image.look for image in images),
        public=True,
        seed=None,
        seed_commitment=None,
        micro_batch=0,
        manifest_hash=sha256(manifest_bytes(images)),
        stages=stages,
        model=_last(stages, "training"),
        clustering=None,
        filter=None,
    )


def _stages_beside(source: Source) -> tuple[StageDraft, ...]:
    """Return the stage records that a run left beside its images, none when there are none."""
    if STAGE_FILE not in source.names:
        return ()
    content = _json(source, STAGE_FILE, STAGES_FORMAT)
    return read_stage_list(content.get("stages"), source.describe(STAGE_FILE))


def _last(stages: Sequence[StageDraft], stage_type: str) -> str | None:
    labels = [stage.label for stage in stages if stage.stage_type.label == stage_type]
    return labels[-1] if labels else None


def _indices(names: Sequence[str]) -> list[int]:
    """Return the generator indices that all names give, else the positions."""
    found = [_NUMBERED.fullmatch(name) for name in names]
    numbers = [int(match[1]) for match in found if match is not None]
    if len(numbers) == len(names) == len(set(numbers)) and max(numbers) <= MAX_INDEX:
        return numbers
    return list(range(len(names)))


def _read_produced(path: Path, source: Source, on_progress: Progress) -> BatchFolder:
    content = _json(source, BATCH_FILE, FORMAT)
    facts = _Facts(content, source.describe(BATCH_FILE))
    records = _records(source, facts)
    names = tuple(f"{IMAGES}{record.generator_index:08d}.png" for record in records)
    present = set(source.names)
    missing = next((name for name in names if name not in present), None)
    if missing is not None:
        raise BatchRejected(source.describe(missing), expected="the image of a record", got="nothing")
    images = examine_all(path, source, names, on_progress)
    _compare(source, facts, records, images)
    public = facts.flag("public")
    stages = read_stage_list(content.get("stages"), source.describe(BATCH_FILE))
    return BatchFolder(
        path=path,
        names=names,
        width=images[0].width,
        height=images[0].height,
        records=records,
        looks=tuple(image.look for image in images),
        public=public,
        seed=facts.optional_hash("seed"),
        seed_commitment=_commitment(stages),
        micro_batch=facts.number("micro_batch"),
        manifest_hash=facts.hash("manifest_sha256"),
        stages=stages,
        model=facts.reference("model", stages),
        clustering=facts.reference("clustering", stages),
        filter=facts.reference("filter", stages),
    )


def _records(source: Source, facts: _Facts) -> Records:
    count = facts.number("count")
    packed = (
        source.read(RECORDS_FILE, max_bytes=RECORD_BYTES * IMAGES_MAX)
        if RECORDS_FILE in source.names
        else b""
    )
    if len(packed) != count * RECORD_BYTES or not count:
        raise BatchRejected(
            source.describe(RECORDS_FILE),
            expected=f"{count} records, {count * RECORD_BYTES} bytes, at least one record",
            got=f"{len(packed)} bytes",
        )
    return Records(packed)


def _compare(source: Source, facts: _Facts, records: Records, images: Sequence[ImageFacts]) -> None:
    """Check every statement of the folder about its images against the images themselves."""
    for record, image in zip(records, images, strict=True):
        for what, expected, got in (
            ("pixel hash", record.pixel_hash, image.pixel_hash),
            ("file hash", record.file_hash, image.file_hash),
        ):
            if expected != got:
                raise BatchRejected(
                    source.describe(image.name),
                    expected=f"{what} {expected.hex()} as in {RECORDS_FILE}",
                    got=got.hex(),
                )
    size = (facts.number("width"), facts.number("height"))
    if size != (images[0].width, images[0].height):
        raise BatchRejected(
            facts.what,
            expected=f"the images' size {images[0].width} x {images[0].height}",
            got=f"{size[0]} x {size[1]}",
        )
    manifest = manifest_bytes(images)
    if MANIFEST_FILE not in source.names:
        raise BatchRejected(facts.what, expected=MANIFEST_FILE, got="none")
    stored = source.read(MANIFEST_FILE, max_bytes=MANIFEST_BYTES_MAX)
    if stored != manifest or sha256(manifest) != facts.hash("manifest_sha256"):
        raise BatchRejected(
            source.describe(MANIFEST_FILE),
            expected=f"the manifest of these images, SHA-256 {sha256(manifest).hex()}",
            got=sha256(stored).hex(),
        )
    _compare_looks(source, b"".join(image.look for image in images), public=facts.flag("public"))


def _compare_looks(source: Source, looks: bytes, *, public: bool) -> None:
    """Refuse a public folder without its perceptual hashes, though they follow from the images: a part of it is gone."""
    is_there = PERCEPTUAL_FILE in source.names
    column = source.read(PERCEPTUAL_FILE, max_bytes=HASH_BYTES * IMAGES_MAX) if is_there else b""
    if is_there and column != looks:
        raise BatchRejected(
            source.describe(PERCEPTUAL_FILE),
            expected="the perceptual hashes of these images",
            got="others",
            advice="it was written by another version of facechain: produce the batch again",
        )
    if public and not is_there:
        raise BatchRejected(
            source.describe(PERCEPTUAL_FILE),
            expected=f"the perceptual hashes of a public batch, {len(looks)} bytes",
            got="nothing",
            advice="the folder is not whole: copy it again, or submit its images/ as plain files",
        )


def _commitment(stages: Sequence[StageDraft]) -> bytes | None:
    """Return the seed commitment that the generation record states, None without one."""
    for stage in reversed(stages):
        text = dict(stage.details).get("seed_commitment", "")
        if re.fullmatch(r"[0-9a-f]{64}", text):
            return bytes.fromhex(text)
    return None


def _json(source: Source, name: str, expected_format: str) -> dict[str, Any]:
    what = source.describe(name)
    try:
        content = json.loads(source.read(name, max_bytes=JSON_BYTES_MAX))
    except (ValueError, RecursionError) as error:
        raise BatchRejected(what, expected="JSON", got=str(error)) from error
    found = content.get("format") if isinstance(content, dict) else None
    if not isinstance(content, dict) or found != expected_format:
        raise BatchRejected(what, expected=f"format {expected_format}", got=str(found)[:80])
    return content


class _Facts:
    """Fields of batch.json with their types."""

    def __init__(self, content: dict[str, Any], what: str) -> None:
        self.content = content
        self.what = what

    def _refuse(self, name: str, expected: str) -> BatchRejected:
        got = repr(self.content.get(name))[:80]
        return BatchRejected(f"{self.what}: {name}", expected=expected, got=got)

    def number(self, name: str) -> int:
        value = self.content.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**32:
            raise self._refuse(name, "a whole number below 2^32")
        return value

    def flag(self, name: str) -> bool:
        value = self.content.get(name)
        if not isinstance(value, bool):
            raise self._refuse(name, "true or false")
        return value

    def optional_hash(self, name: str) -> bytes | None:
        return None if self.content.get(name) is None else self.hash(name)

    def hash(self, name: str) -> bytes:
        value = self.content.get(name)
        if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
            raise self._refuse(name, "64 lower-case hex digits")
        return bytes.fromhex(value)

    def reference(self, name: str, stages: Sequence[StageDraft]) -> str | None:
        value = self.content.get(name)
        if value is None:
            return None
        labels = {stage.label for stage in stages}
        if not isinstance(value, str) or (value not in labels and not re.fullmatch(r"[0-9a-f]{64}", value)):
            raise self._refuse(name, "the label of a stage, a statement id or null")
        return value
