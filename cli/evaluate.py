"""`facechain evaluate`: every figure about a generator, with its interval."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import LongNameOption, examples, json_option
from .output import emit
from .producer_options import checkpoint_option, device_option, load_faces, step_bars

if TYPE_CHECKING:
    from ..gan.metrics.evaluate import Evaluation

NETWORKS = ("efficientnet-lite0", "inception", "dlib-face")


@click.command(
    epilog=examples(
        "facechain evaluate --data faces.zip --count 5000",
        "facechain evaluate --checkpoint run/ --data faces.zip --network inception --inception-weights pt_inception.pth",
    )
)
@checkpoint_option
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True),
    required=True,
    help="Real faces with identities: the training set, of which held-out people are the reference.",
)
@click.option(
    "--count", type=click.IntRange(10), default=5_000, help="Faces to generate, and to compare with."
)
@click.option(
    "--network",
    "names",
    cls=LongNameOption,
    type=click.Choice(NETWORKS),
    multiple=True,
    default=NETWORKS[:1],
    help="Feature network; may be repeated. Only 'inception' with the canonical weights gives a FID.",
)
@click.option(
    "--inception-weights",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Weights of 2015 as torch-fidelity converted them. [default: torch's cache; never downloaded]",
)
@click.option("--holdout-share", type=click.FloatRange(0, 0.9), default=0.125, help="As in the training run.")
@click.option(
    "--rounds", type=click.IntRange(0), default=5, help="Resamples for the interval of a Fréchet distance."
)
@click.option("--seed", type=click.IntRange(0), default=0, help="Decides latents, pairs and resamples.")
@click.option(
    "--distances/--no-distances",
    default=True,
    help="Whether any feature network is asked; without, only discriminator, pixels and speed.",
)
@click.option(
    "--beside",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="What an earlier 'evaluate --out' of the same generator wrote; its figures that are not taken again are kept.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for evaluation.json and its pictures.")
@device_option
@json_option
def evaluate(
    *,
    checkpoint: Path | None,
    data: Path,
    count: int,
    names: tuple[str, ...],
    inception_weights: Path | None,
    holdout_share: float,
    rounds: int,
    seed: int,
    distances: bool,
    beside: Path | None,
    out: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Measure a generator against people it never saw.

    Distances, precision and recall in the features of a network under that network's name; the discriminator's verdicts
    where the training state is at hand; statistics of pixels; speed. Training faces get the same figures, as a scale.
    """
    from ..gan.device import open_device
    from ..gan.embedded import open_generator
    from ..gan.metrics import evaluate as evaluation
    from ..gan.metrics.earlier import join_earlier, read_earlier
    from ..gan.metrics.extractors import open_network
    from ..gan.stages import STAGE_FILE, extend, write_stages

    earlier = None if beside is None else read_earlier(beside)
    asked = dict.fromkeys(names) if distances else ()
    networks = [open_network(name, inception_weights=inception_weights) for name in asked]
    loaded, stages = open_generator(checkpoint)
    faces = load_faces(data, loaded.config.generator.resolution)
    options = evaluation.EvaluationOptions(count=count, seed=seed, rounds=rounds, holdout_share=holdout_share)
    with step_bars() as report:
        found = evaluation.evaluate(
            loaded,
            faces,
            networks,
            options=options,
            device=open_device(device, bf16=False),
            on_progress=report,
        )
    if earlier is not None:
        found = join_earlier(found, earlier)
    if out is not None:
        document = evaluation.write_evaluation(found, out)
        write_stages(out, extend(stages, evaluation.evaluation_record(found, document, stages)))
        click.echo(f"written: {out / evaluation.REPORT_FILE}, {out / STAGE_FILE}", err=True)
    emit(found.to_json(), as_json=as_json, lines=_lines(found))


def _lines(found: "Evaluation") -> list[str]:
    lines = []
    for measure in found.measures:
        interval = f" [{measure.low:.4g}, {measure.high:.4g}]" if measure.low is not None else ""
        against = f" against {measure.right}" if measure.right else ""
        stamp = f"  ({measure.stamp})" if measure.stamp else ""
        lines.append(f"{measure.name:<34} {measure.value:>10.4g}{interval}  {measure.left}{against}{stamp}")
    if found.judgement is not None:
        matrix = found.judgement
        lines.append(
            f"discriminator: {matrix.true_real} of {matrix.true_real + matrix.false_fake} held-out faces and "
            f"{matrix.true_fake} of {matrix.true_fake + matrix.false_real} fakes told at {matrix.threshold_method}, "
            f"area {matrix.auc:.3f} [{matrix.auc_interval[0]:.3f}, {matrix.auc_interval[1]:.3f}]"
        )
    codec = found.codec
    lines.append(
        f"PNG {codec.png_encode_ms:g} ms to encode and {codec.png_decode_ms:g} ms to decode, commitment "
        f"{codec.commit_ms:g} ms, {codec.png_bytes} bytes an image"
    )
    lines += [
        f"speed at {item.batch}: {item.images_per_second:g} images/s, {item.latency_ms:g} ms a call"
        for item in found.speed
    ]
    return lines
