import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from facechain.consensus.image import decode_image, pixel_hash
from facechain.consensus.perceptual import perceptual_hash
from facechain.consensus.records import Records
from facechain.gan.checkpoints import LoadedGenerator
from facechain.gan.clustering import ClusteringOptions
from facechain.gan.datasets import Pixels
from facechain.gan.device import Device
from facechain.gan.embedded import ASSETS, MAX_EMBEDDED_BYTES, export_generator, open_generator
from facechain.gan.engine import LocalEngine
from facechain.gan.errors import BatchFolderError, CheckpointError, FilterError
from facechain.gan.filter import Verdict
from facechain.gan.generation import Renderer
from facechain.gan.imagestore import ImageStore
from facechain.gan.produce import ProducedBatch, produce
from facechain.gan.provenance import ProduceOptions
from facechain.gan.selection import select_images
from facechain.gan.stages import read_stages

SEED = b"\x05" * 32


class DarkFilter:
    """Rejects images that are brighter than a level; a real rule, simple enough to predict."""

    name = "dark"

    def __init__(self, level: float) -> None:
        self.level = level

    def check(self, images: Pixels) -> Verdict:
        return Verdict(accepted=images.mean(axis=(1, 2, 3)) <= self.level)

    def facts(self) -> dict[str, object]:
        return {"level": self.level}


def options(**changes: object) -> ProduceOptions:
    fields: dict[str, object] = {
        "count": 30,
        "seed": SEED,
        "micro_batch": 8,
        "clustering": ClusteringOptions(clusters=6, components=8),
        "duplicate_rms": 0.0,
    }
    return ProduceOptions(**(fields | changes))  # type: ignore[arg-type]


def make(run_folder: Path, out: Path, cpu: Device, **changes: object) -> ProducedBatch:
    loaded, stages = open_generator(run_folder)
    release = changes.pop("release_filter", None)
    store = changes.pop("store", None)
    return produce(
        out,
        loaded=loaded,
        model_stages=stages,
        options=options(**changes),
        device=cpu,
        release_filter=release,  # type: ignore[arg-type]
        store=store,  # type: ignore[arg-type]
    )


def test_batch_folder_agrees_with_its_images(run_folder: Path, cpu: Device, tmp_path: Path) -> None:
    store = ImageStore(str(tmp_path / "store"))
    batch = make(run_folder, tmp_path / "batch", cpu, store=store)
    folder = batch.path
    told = json.loads((folder / "batch.json").read_text())
    records = Records((folder / "records.bin").read_bytes())
    files = sorted((folder / "images").iterdir())
    assert told["count"] == batch.count == len(records) == len(files) == 30
    assert (told["width"], told["height"]) == (16, 16)
    perceptual = (folder / "perceptual.bin").read_bytes()
    for number, (record, file) in enumerate(zip(records, files, strict=True)):
        data = file.read_bytes()
        pixels = decode_image(data)
        assert file.name == f"{record.generator_index:08d}.png"
        assert record.pixel_hash == pixel_hash(pixels)
        assert record.file_hash == hashlib.sha256(data).digest()
        assert perceptual[number * 32 : number * 32 + 32] == perceptual_hash(pixels)
        assert store.get(record.file_hash) == data
        assert record.cluster < batch.clusters
    manifest = (folder / "manifest.json").read_bytes()
    assert told["manifest_sha256"] == hashlib.sha256(manifest).hexdigest()
    names = [item["name"] for item in json.loads(manifest)["objects"]]
    assert names == [record.file_hash.hex() for record in records]
    assert told["seed"] == SEED.hex()


def test_without_a_filter_the_batch_says_none(run_folder: Path, cpu: Device, tmp_path: Path) -> None:
    batch = make(run_folder, tmp_path / "batch", cpu)
    told = json.loads((batch.path / "batch.json").read_text())
    assert batch.filter == "none"
    assert told["filter"] is None
    labels = [stage["label"] for stage in told["stages"]]
    assert labels == ["dataset", "training", "generation", "clustering"]
    assert (told["model"], told["clustering"]) == ("training", "clustering")


def test_filtered_images_leave_before_anything_else(run_folder: Path, cpu: Device, tmp_path: Path) -> None:
    loaded, _ = open_generator(run_folder)
    renderer = Renderer(loaded, seed=SEED, device=cpu, micro_batch=8)
    brightness = [float(pixels.mean()) for _, pixels in renderer.render(range(64))]
    level = float(np.median(brightness))
    batch = make(run_folder, tmp_path / "batch", cpu, release_filter=DarkFilter(level))
    told = json.loads((batch.path / "batch.json").read_text())
    indices = [r.generator_index for r in Records((batch.path / "records.bin").read_bytes())]
    dark = [index for index, mean in enumerate(brightness) if mean <= level]
    assert indices[: len(dark)] == dark[:30]
    assert batch.rejected > 0
    record = told["stages"][-2]
    assert (told["filter"], record["label"], record["inputs"]) == ("filter", "filter", ["generation"])
    assert ["rejected", str(batch.rejected)] in record["details"]
    assert told["stages"][-1]["inputs"] == ["filter"]


def test_a_filter_that_rejects_everything_ends_the_run(loaded: LoadedGenerator, cpu: Device) -> None:
    renderer = Renderer(loaded, seed=SEED, device=cpu, micro_batch=8)
    with pytest.raises(FilterError, match="memorised"):
        select_images(
            LocalEngine(renderer, release_filter=DarkFilter(-1.0), store=None),
            count=4,
            micro_batch=renderer.micro_batch,
        )


def test_duplicates_are_replaced_by_further_images(loaded: LoadedGenerator, cpu: Device) -> None:
    renderer = Renderer(loaded, seed=SEED, device=cpu, micro_batch=8)
    images = renderer.render_micro_batch(0)
    closest = min(
        float(np.sqrt(((images[a].astype(float) - images[b]) ** 2).mean()))
        for a in range(8)
        for b in range(a)
    )
    found = select_images(
        LocalEngine(renderer, release_filter=None, store=None),
        count=8,
        micro_batch=renderer.micro_batch,
        duplicate_rms=closest + 0.01,
    )
    assert found.duplicates >= 1
    assert len(set(found.indices)) == 8
    assert found.indices[-1] >= 8


def test_same_seed_same_folder(run_folder: Path, cpu: Device, tmp_path: Path) -> None:
    first = make(run_folder, tmp_path / "a", cpu).path
    second = make(run_folder, tmp_path / "b", cpu).path
    for path in sorted(first.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (second / path.relative_to(first)).read_bytes(), path.name


def test_private_batches_show_neither_seed_nor_look(run_folder: Path, cpu: Device, tmp_path: Path) -> None:
    folder = make(run_folder, tmp_path / "batch", cpu, public=False).path
    assert not (folder / "perceptual.bin").exists()
    assert SEED.hex() not in (folder / "batch.json").read_text()


def test_a_model_on_chain_is_referred_to_by_its_statement(
    run_folder: Path, cpu: Device, tmp_path: Path
) -> None:
    folder = make(run_folder, tmp_path / "batch", cpu, model_statement="ab" * 32).path
    told = json.loads((folder / "batch.json").read_text())
    assert told["model"] == "ab" * 32
    assert [stage["label"] for stage in told["stages"]] == ["generation", "clustering"]
    assert told["stages"][0]["inputs"] == ["ab" * 32]


def test_an_existing_folder_is_not_overwritten(run_folder: Path, cpu: Device, tmp_path: Path) -> None:
    make(run_folder, tmp_path / "batch", cpu)
    with pytest.raises(BatchFolderError, match="exists"):
        make(run_folder, tmp_path / "batch", cpu)
    assert not list(tmp_path.glob(".*"))


def test_embedded_generator_is_small_complete_and_described() -> None:
    loaded, stages = open_generator(None)
    assert loaded.path.stat().st_size <= MAX_EMBEDDED_BYTES
    assert loaded.config.preset == "ppsa-plus"
    assert stages[1].artifact == loaded.digest
    card = (ASSETS / "MODEL_CARD.md").read_text()
    assert "non-commercial" in card
    assert f"{loaded.images_seen:,}" in card


def test_exported_generator_names_itself(run_folder: Path, tmp_path: Path) -> None:
    stages = read_stages(run_folder / "stage.json")
    digest = export_generator(run_folder / "generator.safetensors", tmp_path, stages=stages)
    loaded, written = open_generator(tmp_path)
    assert loaded.digest == digest == written[1].artifact
    assert ("storage", "float16") in written[1].details
    with pytest.raises(CheckpointError):
        open_generator(tmp_path / "missing")
