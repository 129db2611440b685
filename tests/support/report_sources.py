"""Everything that a report can be made of, small: a run, its evaluation, batch, receipt, ablation and real faces."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from facechain.consensus.kinds import StageType
from facechain.consensus.records import Records
from facechain.consensus.statement import group_id
from facechain.gan.ablation import ClusterRow, TrainingRow, write_ablation
from facechain.gan.clustering import ClusteringOptions
from facechain.gan.datasets import open_dataset
from facechain.gan.device import Device
from facechain.gan.embedded import open_generator
from facechain.gan.expression.records import make_table, write_table
from facechain.gan.expression.sources import batch_file_hashes
from facechain.gan.metrics.evaluate import EvaluationOptions, evaluate, evaluation_record, write_evaluation
from facechain.gan.metrics.measure import Measure
from facechain.gan.produce import produce
from facechain.gan.provenance import ProduceOptions
from facechain.gan.stages import StageRecord, extend, write_stages
from support.faces import made_faces, write_zip

OPTIONS = ("evaluation", "batch", "receipt", "ablation", "faces")
"""Names of the options of `facechain report` that take one of these."""
STATEMENTS = {"training": "ab" * 32, "part": "cd" * 32}
HOSTILE_NAME = "no <guarantee>"
CLASSES = 7
DISTANCE = Measure(
    name="fd_a_network_with_a_long_name",
    value=310.5,
    low=300.25,
    high=320.75,
    method="normal, deviation of 3 resamples",
    left="generated (12)",
    right="held-out people (24)",
    space="a_network_with_a_long_name, SHA-256 " + "ef" * 32,
    resizer="bicubic",
    stamp="biased upwards: 12 images, 10000 are the least",
)


def make_report_sources(run_folder: Path, folder: Path, device: Device) -> dict[str, Path]:
    """Make them in `folder` from a finished run of the tiny preset; keys are `run` and `OPTIONS`."""
    loaded, stages = open_generator(run_folder)
    faces = made_faces(people=20, per_person=3)
    options = EvaluationOptions(count=12, rounds=0, holdout_share=0.4)
    found = evaluate(loaded, faces, [], options=options, device=device)
    found = replace(found, measures=(DISTANCE, *found.measures))
    document = write_evaluation(found, folder / "measured")
    stages = extend(stages, evaluation_record(found, document, stages))
    privacy = StageRecord(label="privacy", stage_type=StageType.PRIVACY, name=HOSTILE_NAME)
    write_stages(folder / "measured", extend(stages, privacy))
    produced = ProduceOptions(count=30, seed=bytes(32), clustering=ClusteringOptions(clusters=5))
    produce(folder / "batch", loaded=loaded, model_stages=stages, options=produced, device=device)
    count = _write_expressions(folder / "batch")
    _write_receipt(folder / "receipt.json", folder / "batch", count)
    _write_ablation(folder / "ablation")
    data = write_zip(made_faces(people=12, per_person=3), folder / "faces.zip")
    return {
        "run": _run_on(data, run_folder, folder / "run"),
        "evaluation": folder / "measured",
        "batch": folder / "batch",
        "receipt": folder / "receipt.json",
        "ablation": folder / "ablation",
        "faces": data,
    }


def _write_expressions(batch: Path) -> int:
    names = [path.name for path in sorted((batch / "images").iterdir())]
    even = np.full((len(names), CLASSES), 1 / CLASSES, dtype=np.float32)
    table = make_table(names, batch_file_hashes(batch), even, classifier=bytes(32))
    write_table(batch / "expressions.jsonl", table)
    return len(names)


def _write_receipt(path: Path, batch: Path, images: int) -> None:
    root = Records((batch / "records.bin").read_bytes()).root()
    stage = {"label": "training", "id": STATEMENTS["training"], "level": "block", "height": 7}
    part = {
        "label": "part 1 of 1",
        "id": STATEMENTS["part"],
        "level": "confirmed",
        "height": 9,
        "images": images,
    }
    told = {"group": group_id([root]).hex(), "stages": [stage], "parts": [part]}
    path.write_text(json.dumps({"receipt": told}))


def _write_ablation(folder: Path) -> None:
    folder.mkdir()
    row = TrainingRow(variant="no attention", overrides=(), distances=(310.0, 330.0), images_per_second=99.0)
    space = ClusterRow(
        space="pixels", dimensions=768, silhouette_here=0.1, silhouette_pixels=None, agreement=0.5
    )
    facts = {"preset": "tiny", "images": 16, "seeds": 2, "count": 12, "metric": "fd_some_network"}
    write_ablation(folder, [row], [space], facts)


def _run_on(data: Path, run_folder: Path, target: Path) -> Path:
    """The run as if it had been trained on the file of faces instead of on faces in memory."""
    shutil.copytree(run_folder, target)
    known = json.loads((target / "dataset.json").read_text())
    known["digest"] = open_dataset(data, resolution=known["resolution"]).digest
    (target / "dataset.json").write_text(json.dumps(known))
    return target
