"""`facechain ablation`: what attention, smoothed labels and the space of the clusters change."""

from pathlib import Path
from typing import Any

import click

from .options import examples, json_option
from .output import emit, say
from .producer_options import device_option, load_faces


@click.command(
    epilog=examples(
        "facechain ablation --data faces.zip --out ablation/",
        "facechain ablation --data faces.zip --images 200000 --seeds 3 --count 5000 --out ablation/",
    )
)
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True), required=True, help="Real faces with identities."
)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder of the trainings; goes on there."
)
@click.option(
    "--preset",
    type=click.Choice(("ppsa-paper", "ppsa-plus", "tiny")),
    default="ppsa-paper",
    help="What is varied.",
)
@click.option("--images", type=click.IntRange(1), default=20_000, help="Images shown in each training.")
@click.option("--seeds", type=click.IntRange(1), default=2, help="Trainings of each variant.")
@click.option(
    "--count", type=click.IntRange(10), default=1_000, help="Faces for each distance, and to cluster."
)
@click.option("--clusters", type=click.IntRange(2), default=125, help="Number of clusters.")
@click.option(
    "--holdout-share", type=click.FloatRange(0, 0.9), default=0.125, help="People never trained on."
)
@device_option
@json_option
def ablation(
    *,
    data: Path,
    out: Path,
    preset: str,
    images: int,
    seeds: int,
    count: int,
    clusters: int,
    holdout_share: float,
    device: str,
    as_json: bool,
) -> None:
    """Rerun the paper's ablation on a small budget and tabulate it.

    Trains the preset as it is, without attention and without smoothed labels, each with several seeds, and clusters the
    first one's faces in three spaces. A difference below the spread between seeds is no effect.
    """
    from ..gan import ablation as study
    from ..gan.checkpoints import GENERATOR_FILE
    from ..gan.device import open_device
    from ..gan.metrics.extractors import open_network
    from ..gan.presets import find_preset

    config = find_preset(preset)
    options = study.AblationOptions(
        images=images, seeds=seeds, count=count, clusters=clusters, holdout_share=holdout_share
    )
    faces = load_faces(data, config.generator.resolution)
    network = open_network("efficientnet-lite0")
    where = open_device(device, bf16=config.bf16)
    trainings = study.run_trainings(
        config,
        faces,
        network,
        out,
        options=options,
        device=where,
        on_step=lambda text: say(f"training: {text}"),
    )
    made = study.generate(out / "as-printed-0" / GENERATOR_FILE, count, where)
    spaces = study.compare_spaces(made, network, clusters=clusters)
    facts = {
        "preset": preset,
        "images": images,
        "seeds": seeds,
        "count": count,
        "metric": f"fd_{network.name}",
        "weights_sha256": network.weights_sha256,
        "data_sha256": faces.digest,
    }
    document = study.write_ablation(out, trainings, spaces, facts)
    emit(document, as_json=as_json, lines=_lines(document))


def _lines(document: dict[str, Any]) -> list[str]:
    lines = [f"{document['metric']} after {document['images']:,} images, {document['count']:,} faces"]
    for row in document["trainings"]:
        spread = row["deviation_between_seeds"]
        between = f" ± {spread:g} between seeds" if spread is not None else ""
        lines.append(
            f"  {row['variant']:<14} {row['mean']:g}{between}  ({row['images_per_second']:g} images/s)"
        )
    lines.append(f"clusters of {document['count']:,} faces")
    lines += [
        f"  {row['space']:<32} silhouette {row['silhouette_here']} here, {row['silhouette_pixels']} in pixels; "
        f"agreement {row['agreement']:g}"
        for row in document["clusterings"]
    ]
    return lines
