import io
import json
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facechain.consensus.hashing import sha256
from facechain.consensus.kinds import StageType
from facechain.consensus.records import NO_CLUSTER
from facechain.gan.batchfolder import BatchFacts, encode_images, write_batch
from facechain.gan.stages import StageRecord, write_stages
from facechain.node.batch_folder import BatchFolder, read_batch, read_objects
from facechain.node.batch_source import BatchRejected
from support.registry import make_png

SEED = bytes(range(32))


def produce(path: Path, *, count: int = 5, public: bool = True) -> Path:
    """Write a batch folder with the producer's own writer."""
    random = np.random.Generator(np.random.PCG64(7))
    images = random.integers(0, 256, size=(count, 32, 32, 3), dtype=np.uint8)
    stages = (
        StageRecord(label="training", stage_type=StageType.TRAINING, name="a model", inputs=("ab" * 32,)),
        StageRecord(
            label="generation",
            stage_type=StageType.GENERATION,
            name="images",
            inputs=("training",),
            details=(("seed_commitment", "cd" * 32),),
        ),
        StageRecord(
            label="clusters", stage_type=StageType.CLUSTERING, name="k-means", inputs=("generation",)
        ),
    )
    return write_batch(
        path,
        encode_images(range(10, 10 + 2 * count, 2), images),
        labels=[index % 3 for index in range(count)],
        facts=BatchFacts(
            public=public,
            seed=SEED,
            micro_batch=64,
            stages=stages,
            model="training",
            clustering="clusters",
            filter=None,
            store=None,
        ),
        fill=lambda folder: (folder / "notes").mkdir(),
    )


def zipped(path: Path, members: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def zip_folder(folder: Path, path: Path, *, prefix: str = "") -> Path:
    members = {
        prefix + item.relative_to(folder).as_posix(): item.read_bytes()
        for item in folder.rglob("*")
        if item.is_file()
    }
    return zipped(path, members)


def test_a_produced_batch_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = produce(tmp_path / "batch")
    seen: list[tuple[int, int]] = []
    batch = read_batch(path, on_progress=lambda done, total: seen.append((done, total)))
    assert [record.generator_index for record in batch.records] == [10, 12, 14, 16, 18]
    assert [record.cluster for record in batch.records] == [0, 1, 2, 0, 1]
    assert b"".join(batch.looks) == (path / "perceptual.bin").read_bytes()
    assert (batch.width, batch.height, batch.public, batch.seed) == (32, 32, True, SEED)
    assert (batch.model, batch.clustering, batch.filter) == ("training", "clusters", None)
    assert [stage.label for stage in batch.stages] == ["training", "generation", "clusters"]
    assert batch.manifest_hash == sha256((path / "manifest.json").read_bytes())
    assert seen[-1] == (5, 5)
    training = batch.stages[0].payload({})
    assert training.inputs == (bytes.fromhex("ab" * 32),)
    assert batch.stages[1].payload({"training": SEED}).inputs == (SEED,)


@pytest.mark.parametrize("prefix", ["", "a batch/"])
def test_a_zip_of_a_produced_batch_is_the_same_batch(tmp_path: Path, prefix: str) -> None:
    folder = produce(tmp_path / "batch")
    archive = zip_folder(folder, tmp_path / "batch.zip", prefix=prefix)
    left, right = read_batch(folder), read_batch(archive)
    assert left.records == right.records
    assert left.stages == right.stages
    assert list(read_objects(left)) == list(read_objects(right))


def test_a_private_batch_keeps_its_commitment(tmp_path: Path) -> None:
    path = produce(tmp_path / "batch", public=False)
    assert not (path / "perceptual.bin").exists()
    batch = read_batch(path)
    assert not batch.public
    assert batch.seed is None
    assert batch.seed_commitment == bytes.fromhex("cd" * 32)


def change_json(path: Path, **changes: object) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))


DAMAGE: Mapping[str, tuple[Callable[[Path], object], str]] = {
    "an image was exchanged": (
        lambda path: (path / "images/00000012.png").write_bytes(make_png(1)),
        "00000012.png: expected pixel hash",
    ),
    "an image is gone": (
        lambda path: (path / "images/00000012.png").unlink(),
        "expected the image of a record",
    ),
    "records were cut": (
        lambda path: (path / "records.bin").write_bytes((path / "records.bin").read_bytes()[:-1]),
        "records.bin: expected 5 records, 350 bytes",
    ),
    "records are gone": (lambda path: (path / "records.bin").unlink(), "records.bin"),
    "the manifest is gone": (
        lambda path: (path / "manifest.json").unlink(),
        "expected manifest.json, got none",
    ),
    "another manifest": (
        lambda path: (path / "manifest.json").write_bytes(b"{}"),
        "manifest.json: expected the manifest of these images",
    ),
    "another look": (
        lambda path: (path / "perceptual.bin").write_bytes(bytes(160)),
        "perceptual.bin: expected the perceptual hashes of these images",
    ),
    "looks are gone": (
        lambda path: (path / "perceptual.bin").unlink(),
        "perceptual.bin: expected the perceptual hashes of a public batch, 160 bytes, got nothing",
    ),
    "another format": (lambda path: change_json(path / "batch.json", format="x"), "format facechain-batch-1"),
    "no JSON": (lambda path: (path / "batch.json").write_text("{"), "expected JSON"),
    "another size": (lambda path: change_json(path / "batch.json", width=33), "the images' size 32 x 32"),
    "no number": (lambda path: change_json(path / "batch.json", count="5"), "count: expected a whole number"),
    "no flag": (lambda path: change_json(path / "batch.json", public=1), "public: expected true or false"),
    "a bad seed": (lambda path: change_json(path / "batch.json", seed="00"), "seed: expected 64"),
    "an unknown label": (
        lambda path: change_json(path / "batch.json", model="x"),
        "model: expected the label",
    ),
    "stages are no list": (
        lambda path: change_json(path / "batch.json", stages=3),
        "stages: expected a list",
    ),
    "a stage is no record": (
        lambda path: change_json(path / "batch.json", stages=[{}]),
        "stage 0: expected a stage",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_batch_is_refused_by_name(tmp_path: Path, name: str) -> None:
    path = produce(tmp_path / "batch")
    spoil, message = DAMAGE[name]
    spoil(path)
    with pytest.raises(BatchRejected) as raised:
        read_batch(path)
    assert message in raised.value.diagnostics()


def test_stage_records_that_break_a_limit_or_an_order_are_refused(tmp_path: Path) -> None:
    path = produce(tmp_path / "batch")
    stages = json.loads((path / "batch.json").read_text())["stages"]
    for changed, message in (
        ([{**stages[0], "name": "x" * 200}], "name: expected at most 128 bytes"),
        ([{**stages[0], "label": ""}], "a label of its own"),
        ([stages[0], stages[0]], "a label of its own"),
        ([stages[1]], "inputs that come before it"),
        ([{**stages[0], "stage_type": "nap"}], "expected a stage record"),
        ([{**stages[0], "details": [["b", "1"], ["a", "1"]]}], "strictly ascending"),
    ):
        change_json(path / "batch.json", stages=changed, model=None, clustering=None)
        with pytest.raises(BatchRejected, match=message):
            read_batch(path)


def test_plain_images_nested_and_renamed_are_a_batch(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "one.png").write_bytes(make_png(1))
    (tmp_path / "a" / "two.png").write_bytes(make_png(2))
    (tmp_path / ".DS_Store").write_bytes(b"litter")
    batch = read_batch(tmp_path)
    assert batch.names == ("a/b/one.png", "a/two.png")
    assert [record.generator_index for record in batch.records] == [0, 1]
    assert {record.cluster for record in batch.records} == {NO_CLUSTER}
    assert (batch.seed, batch.stages, batch.model) == (None, (), None)
    webp = io.BytesIO()
    Image.open(io.BytesIO(make_png(3))).save(webp, format="WEBP", lossless=True)
    (tmp_path / "three.webp").write_bytes(webp.getvalue())
    assert len(read_batch(tmp_path).records) == 3


def test_a_folder_of_the_generate_command_keeps_indices_and_stages(tmp_path: Path) -> None:
    for index in (3, 70):
        (tmp_path / f"{index:08d}.png").write_bytes(make_png(index))
    (tmp_path / "manifest.json").write_text("{}")
    write_stages(tmp_path, [StageRecord(label="t", stage_type=StageType.TRAINING, name="m")])
    batch = read_batch(tmp_path)
    assert [record.generator_index for record in batch.records] == [3, 70]
    assert batch.model == "t"


def test_what_is_no_image_of_the_batch_is_refused_by_name(tmp_path: Path) -> None:
    wide = struct.pack(">II5B", 40_000, 1, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + wide
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    for number, (name, data, message) in enumerate(
        (
            ("notes.txt", b"hello", "notes.txt: expected a PNG or a lossless WebP file"),
            ("cut.png", make_png(1)[:90], "cut.png: expected a complete image"),
            ("wide.png", png, "wide.png: expected 1 to 8192 pixels a side"),
            ("big.png", make_png(9, size=64), "expected 64 x 64 pixels as big.png, got 32 x 32"),
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "good.png").write_bytes(make_png(1))
        (folder / name).write_bytes(data)
        for source in (folder, zip_folder(folder, tmp_path / f"{number}.zip")):
            with pytest.raises(BatchRejected) as raised:
                read_batch(source)
            assert message in raised.value.diagnostics()


def test_empty_and_missing_sources_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("hello")
    for path, message in (
        (tmp_path / "empty", "at least one image, got none"),
        (zipped(tmp_path / "empty.zip", {}), "at least one image, got none"),
        (tmp_path / "missing", "a folder or a zip archive, got nothing there"),
        (tmp_path / "text", "a folder or a zip archive"),
    ):
        with pytest.raises(BatchRejected, match=message):
            read_batch(path)


def test_names_that_lead_out_of_an_archive_and_links_are_refused(tmp_path: Path) -> None:
    for number, name in enumerate(("../x.png", "/x.png", "a/../../x.png", "a\\x.png", "C:x.png")):
        with pytest.raises(BatchRejected, match="leads out"):
            read_batch(zipped(tmp_path / f"{number}.zip", {name: make_png(1)}))
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(BatchRejected, match="a link"):
        read_batch(tmp_path / "link.zip")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x.png").symlink_to("/etc/passwd")
    with pytest.raises(BatchRejected, match="a link"):
        read_batch(tmp_path / "folder")


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"x.png": make_png(1)})
    data = bytearray(path.read_bytes())
    data[60] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(BatchRejected, match=r"x\.png"):
        read_batch(path)


def test_objects_are_read_once_and_never_another_file(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(make_png(1))
    batch: BatchFolder = read_batch(tmp_path)
    assert list(read_objects(batch)) == [(sha256(make_png(1)), make_png(1))]
    (tmp_path / "a.png").write_bytes(make_png(2))
    with pytest.raises(BatchRejected, match="another file"):
        list(read_objects(batch))
    shutil.rmtree(tmp_path)
    with pytest.raises(BatchRejected):
        list(read_objects(batch))
