"""`facechain expression`: train, measure and apply the seven-class classifier of facial expression."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .errors import UsageError
from .expression_report import distribution_content, distribution_lines, headline, score_lines, scores_content
from .options import LongNameOption, examples, json_option
from .output import emit, say
from .producer_options import device_option, progress_bar, show
from .stopping import stop_on_signals

if TYPE_CHECKING:
    from ..gan.expression.checkpoints import LoadedClassifier
    from ..gan.expression.config import ExpressionConfig
    from ..gan.expression.faces import LabelledFaces
    from ..gan.expression.inference import Probabilities
    from ..gan.expression.records import ExpressionTable
    from ..gan.expression.runs import ExpressionRun

PRESETS = ("fer-wide", "fer-compact", "tiny")

classifier_option = click.option(
    "--classifier",
    type=click.Path(path_type=Path, exists=True),
    default=None,
    help="Classifier file or run folder. [default: the embedded classifier]",
)


@click.group()
def expression() -> None:
    """Tell the facial expressions of faces, with their confidence.

    Seven classes: angry, disgust, fear, happy, sad, surprise, neutral. The classifier names what a face looks like in
    posed or found photographs, not what anyone feels. Faces without labels, such as synthetic ones, get a
    distribution with its confidence, never an accuracy.
    """


@expression.command(
    epilog=examples(
        "facechain expression train --data fer2013.zip --out run",
        "facechain expression train --data fer2013.zip --out run --resume",
    )
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder or zip: class folders and labels.csv with usage Training and PublicTest.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run folder.")
@click.option("--preset", type=click.Choice(PRESETS), default=PRESETS[0], help="Network and recipe.")
@click.option(
    "--images", type=click.IntRange(1), default=None, help="Length of the run. [default: the preset's]"
)
@click.option(
    "--decay-share",
    type=click.FloatRange(0, 1, min_open=True),
    default=None,
    help="Last share of the run, over which the learning rate falls. [default: the preset's]",
)
@click.option("--seed", type=click.IntRange(0), default=0, help="Decides initial weights, order and noise.")
@click.option(
    "--checkpoint-images", type=click.IntRange(1), default=50_000, help="Images between two checkpoints."
)
@click.option(
    "--resume", is_flag=True, help="Go on from the newest checkpoint in --out, which must hold one."
)
@click.option("--dry-run", is_flag=True, help="Print the resolved configuration and stop.")
@device_option
@json_option
def train(
    *,
    data: Path,
    out: Path,
    preset: str,
    images: int | None,
    decay_share: float | None,
    seed: int,
    checkpoint_images: int,
    resume: bool,
    dry_run: bool,
    device: str,
    as_json: bool,
) -> None:
    """Train a classifier on usage Training and keep the checkpoint that is best on usage PublicTest.

    A run that was interrupted continues with --resume exactly as if it had not been. Its --images and
    --decay-share may be changed as long as the learning rate has not begun to fall.
    """
    config = _resolve(preset, seed=seed, total_images=images, decay_share=decay_share)
    if dry_run:
        from ..gan.expression.config import to_json

        click.echo(to_json(config))
        return
    from ..gan.device import open_device
    from ..gan.expression.runs import ExpressionRun
    from ..gan.run_lock import held

    where = open_device(device, bf16=config.bf16)
    faces = _load(data, config.classifier.resolution)
    with held(out):
        run = ExpressionRun(out, config=config, faces=faces, device=where, resume=resume)
        counts = f"{len(run.training):,} faces for training, {len(run.selection):,} for selection"
        say(f"{preset}: {counts}; {where.name}")
        result = _run(run, checkpoint_images)
    show(
        {name: str(value) if isinstance(value, Path) else value for name, value in result.items()},
        as_json=as_json,
    )


def _resolve(preset: str, *, seed: int, **given: float | None) -> "ExpressionConfig":
    """Return the preset with what was given in place of its own values."""
    from ..gan.expression.config import find_preset

    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(find_preset(preset), seed=seed, **changes)


def _run(run: "ExpressionRun", checkpoint_images: int) -> dict[str, Any]:
    with stop_on_signals() as stopped, progress_bar(run.config.total_images, "train") as advance:
        advance(run.trainer.images_seen)
        return dataclasses.asdict(run.run(on_step=advance, stop=stopped, checkpoint_images=checkpoint_images))


@expression.command(
    epilog=examples(
        "facechain expression evaluate --data fer2013.zip --json",
        "facechain expression evaluate --data faces/ --classifier run/",
    )
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="Labelled photographs, folder or zip: class folders, labels.csv (file, name, usage), or both.",
)
@click.option(
    "--usage",
    "usages",
    cls=LongNameOption,
    multiple=True,
    metavar="NAME",
    help="Take only images of this usage (repeat for more). [default: all but Training]",
)
@classifier_option
@device_option
@json_option
def evaluate(
    *, data: Path, usages: tuple[str, ...], classifier: Path | None, device: str, as_json: bool
) -> None:
    """Score the classifier on labelled photographs.

    Images of any size are cut to their central square, resized and turned to grey. Prints accuracy with Wilson's
    interval, macro-F1 with a bootstrap interval, each class, and the confusion matrix. With --json the result is one
    line. Folders of synthetic faces are refused: nobody labelled them.
    """
    from ..gan.expression.scores import score
    from ..gan.expression.sources import is_produced

    if data.exists() and is_produced(data):
        raise UsageError(
            f"{data} holds synthetic faces",
            expected="labelled photographs",
            got="images without true expressions",
            advice="use: facechain expression predict",
        )
    loaded = _open_classifier(classifier)
    found = _load(data, loaded.config.classifier.resolution)
    say(f"found {_counts(found.usage_counts())}; {_counts(found.class_counts())}")
    chosen = _choose(found, usages)
    probabilities = _predict(loaded, chosen, device)
    scores = score(probabilities, chosen.labels)
    content = scores_content(scores, chosen, loaded) | _without_copies(found, chosen, probabilities)
    if as_json:
        emit_line(content)
        return
    emit(content, as_json=False, lines=score_lines(scores, content))


def _without_copies(
    found: "LabelledFaces", chosen: "LabelledFaces", probabilities: "Probabilities"
) -> dict[str, Any]:
    """Return the scores of images that are no copies of the set's training images, where there are such copies."""
    from ..gan.expression.faces import TRAINING
    from ..gan.expression.scores import score

    fresh = ~chosen.copies_of(found.of_usage(TRAINING))
    if fresh.all() or not fresh.any() or TRAINING in chosen.usages:
        return {}
    return {"without_training_copies": headline(score(probabilities[fresh], chosen.labels[fresh]))}


def emit_line(content: dict[str, Any]) -> None:
    """Print one line of JSON, so that the last line of the output is the result."""
    import json

    click.echo(json.dumps(content, ensure_ascii=False))


def _choose(found: "LabelledFaces", usages: tuple[str, ...]) -> "LabelledFaces":
    from ..gan.expression.faces import TRAINING

    counts = found.usage_counts()
    wanted = usages or tuple(name for name in counts if name != TRAINING)
    chosen = found.of_usage(*wanted)
    if len(chosen) == 0:
        raise UsageError(
            "nothing to evaluate", expected=f"images of usage {_names(wanted)}", got=_counts(counts)
        )
    left_out = {name: count for name, count in counts.items() if name not in wanted}
    if left_out:
        say(f"left out: {_counts(left_out)} (choose with --usage)")
    return chosen


def _names(usages: tuple[str, ...]) -> str:
    return " or ".join(usages) or "other than Training; --usage Training to measure the fit"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name or 'without usage'}" for name, count in counts.items())


@expression.command(
    epilog=examples(
        "facechain expression predict face.png",
        "facechain expression predict faces/ --out expressions.jsonl",
        "facechain expression predict batch/ --annotate --json",
    )
)
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="Write a JSON line per image.",
)
@click.option("--annotate", is_flag=True, help="Write expressions.jsonl into the batch folder IMAGES.")
@classifier_option
@device_option
@json_option
def predict(
    *,
    images: tuple[Path, ...],
    out: Path | None,
    annotate: bool,
    classifier: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Tell how the classifier's answers to IMAGES are distributed.

    IMAGES are image files, folders, zips or produced batches. Works without labels and looks for none; so it prints
    shares and confidence with 95% intervals, and no accuracy.
    """
    from ..gan.expression.annotation import check_whole
    from ..gan.expression.records import make_table, write_table
    from ..gan.expression.sources import open_images

    target = _annotation_path(images) if annotate else None
    loaded = _open_classifier(classifier)
    with progress_bar(None, "decode") as advance:
        faces = open_images(images, resolution=loaded.config.classifier.resolution, progress=advance)
    if target is not None:
        check_whole(images[0], faces)
    table = make_table(
        faces.names, faces.file_hashes, _predict(loaded, faces, device), classifier=loaded.digest
    )
    for path in (out, target):
        if path is not None:
            write_table(path, table)
    _show_table(table, [str(path) for path in (out, target) if path is not None], as_json=as_json)


@expression.command(
    "show", epilog=examples("facechain expression show batch/", "facechain expression show e.jsonl --json")
)
@click.argument("table", metavar="PATH", type=click.Path(path_type=Path, exists=True))
@json_option
def show_table(*, table: Path, as_json: bool) -> None:
    """Check a file of predictions and summarise it.

    PATH is a file that `predict` wrote, or a batch folder with expressions.jsonl, which must speak of exactly the
    images of that batch.
    """
    from ..gan.expression.annotation import read_annotation
    from ..gan.expression.records import read_table

    found = read_annotation(table) if table.is_dir() else read_table(table)
    _show_table(found, [], as_json=as_json)


def _annotation_path(images: tuple[Path, ...]) -> Path:
    from ..gan.expression.records import EXPRESSIONS_FILE
    from ..gan.expression.sources import is_batch

    if len(images) != 1 or not is_batch(images[0]):
        raise UsageError(
            "--annotate", expected="one batch folder", got=" ".join(str(path) for path in images)
        )
    return images[0] / EXPRESSIONS_FILE


def _show_table(table: "ExpressionTable", written: list[str], *, as_json: bool) -> None:
    from ..gan.expression.distribution import distribution

    found = distribution(table.probabilities())
    content = distribution_content(found, table.classifier, written)
    emit(content, as_json=as_json, lines=distribution_lines(found, content))


def _open_classifier(path: Path | None) -> "LoadedClassifier":
    from ..gan.expression.checkpoints import load_classifier

    return load_classifier(path)


def _load(path: Path, resolution: int) -> "LabelledFaces":
    from ..gan.expression.faces import open_faces

    with progress_bar(None, "decode") as advance:
        return open_faces(path, resolution=resolution, progress=lambda _: advance(1))


def _predict(loaded: "LoadedClassifier", faces: "LabelledFaces", device: str) -> "Probabilities":
    from ..gan.device import open_device
    from ..gan.expression.inference import predict as probabilities_of

    with progress_bar(len(faces), "predict") as advance:
        return probabilities_of(
            loaded.module, faces.images, open_device(device, bf16=False), on_images=advance
        )
