"""`facechain train`: a generator from a data set of real faces."""

import dataclasses
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import LongNameOption, examples, json_option
from .producer_options import device_option, load_faces, progress_bar, show
from .producer_privacy import dp_options, made_private, with_privacy
from .stopping import stop_on_signals

if TYPE_CHECKING:
    from ..gan.config import TrainingConfig
    from ..gan.loop import Tick
    from ..gan.runs import RunResult, TrainingRun

PRESETS = ("ppsa-plus", "ppsa-paper", "r3-attn-32", "r3-attn-64", "tiny")


@click.command(
    epilog=examples(
        "facechain train --data faces.zip --out run",
        "facechain train --data celeba/ --out run --preset ppsa-paper --device cuda",
        "facechain train --data faces.zip --out run --resume",
        "facechain train --data faces.zip --out run --dp-epsilon 10 --dp-unit identity",
        "facechain train --preset ppsa-plus --set optimizer.learning_rate=1e-4 --set batch=128 --dry-run",
        "torchrun --nproc-per-node 4 -m facechain.cli train --data faces.zip --out run --preset r3-attn-64",
    )
)
@click.option("--data", type=click.Path(path_type=Path), help="Folder, zip or CelebA root.")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder.")
@click.option(
    "--preset", type=click.Choice(PRESETS), default=PRESETS[0], help="Networks and training recipe."
)
@click.option(
    "--images", type=click.IntRange(1), default=None, help="Length of the run. [default: the preset's]"
)
@click.option("--seed", type=click.IntRange(0), default=0, help="Decides initial weights, order and noise.")
@click.option(
    "--holdout-share",
    type=click.FloatRange(0, 0.9),
    default=0.125,
    help="Share of the people that training never sees.",
)
@click.option(
    "--checkpoint-images", type=click.IntRange(1), default=50_000, help="Images between two checkpoints."
)
@click.option(
    "--resume", is_flag=True, help="Go on from the newest checkpoint in --out, which must hold one."
)
@click.option(
    "--evaluate",
    type=click.IntRange(0),
    default=0,
    help="At the end, measure the distance of so many images to held-out faces; 0: do not.",
)
@click.option(
    "--set",
    "assignments",
    cls=LongNameOption,
    multiple=True,
    metavar="FIELD=VALUE",
    help="Replace a field of the preset, as in loss.penalty_start=0.5; may be repeated.",
)
@click.option(
    "--compile",
    "compiled",
    cls=LongNameOption,
    is_flag=True,
    help="Let torch.compile make the kernels (losses without penalties).",
)
@click.option(
    "--dry-run", is_flag=True, help="Print the resolved configuration and its cost as JSON, and stop."
)
@dp_options
@device_option
@json_option
def train(
    *,
    data: Path | None,
    out: Path | None,
    preset: str,
    images: int | None,
    seed: int,
    holdout_share: float,
    checkpoint_images: int,
    resume: bool,
    evaluate: int,
    assignments: tuple[str, ...],
    compiled: bool,
    dry_run: bool,
    dp_epsilon: float | None,
    dp_delta: float | None,
    dp_unit: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Train a generator on real faces.

    A run that was interrupted continues with --resume exactly as if it had not been. Ctrl-C and SIGTERM end the
    step at hand, write a checkpoint and stop. Under torchrun the processes share each batch.
    """
    chosen = with_privacy(_preset(preset, images, seed), epsilon=dp_epsilon, delta=dp_delta, unit=dp_unit)
    config = made_private(_override(chosen, assignments))
    if dry_run:
        _print_plan(config)
        return
    if data is None or out is None:
        raise click.UsageError("training needs --data FACES and --out RUN (only --dry-run does without).")
    from ..gan.device import open_device
    from ..gan.distributed import open_group
    from ..gan.run_lock import held
    from ..gan.runs import TrainingRun

    with open_group(cuda=device != "cpu") as group, held(out) if group.leads else nullcontext():
        where = open_device(device, bf16=config.bf16, number=group.local_rank)
        faces = load_faces(data, config.generator.resolution)
        run = TrainingRun(
            out,
            config=config,
            faces=faces,
            device=where,
            holdout_share=holdout_share,
            resume=resume,
            group=group,
            compiled=compiled,
        )
        if group.leads:
            _announce(config, where.name, run)
        result = _run(run, checkpoint_images)
        run.close()
        if not group.leads:
            return
        distances = _evaluate(run, evaluate) if evaluate and result.finished else {}
        show({**_facts(run, result), **distances}, as_json=as_json)


def _facts(run: "TrainingRun", result: "RunResult") -> dict[str, object]:
    return {
        "generator": str(result.generator),
        "preset": run.config.preset,
        "images_seen": result.images_seen,
        "finished": result.finished,
        "images_per_second": round(result.images_per_second, 1),
        "device": run.trainer.device.name,
        "processes": run.group.size,
        **run.trainer.privacy_facts(),
    }


def _preset(preset: str, images: int | None, seed: int) -> "TrainingConfig":
    from ..gan.presets import find_preset

    chosen = dataclasses.replace(find_preset(preset), seed=seed)
    return chosen if images is None else dataclasses.replace(chosen, total_images=images)


def _override(config: "TrainingConfig", assignments: tuple[str, ...]) -> "TrainingConfig":
    from ..gan.config import override

    return override(config, assignments)


def _print_plan(config: "TrainingConfig") -> None:
    import json

    from ..gan.config import to_json
    from ..gan.cost import training_cost

    click.echo(json.dumps({"config": json.loads(to_json(config)), **training_cost(config)}, sort_keys=True))


def _announce(config: "TrainingConfig", device: str, run: "TrainingRun") -> None:
    from ..gan.networks import parameter_count
    from ..gan.presets import deviations

    trainer = run.trainer
    click.echo(
        f"{config.preset}: generator {parameter_count(trainer.generator):,} weights, discriminator "
        f"{parameter_count(trainer.discriminator):,}; {run.training_images:,} faces of "
        f"{run.training_images + run.heldout_images:,} for training; {device}",
        err=True,
    )
    for line in deviations(config.preset):
        click.echo(f"deviation from the paper: {line}", err=True)
    if trainer.images_seen:
        click.echo(f"resumed after {trainer.images_seen:,} images", err=True)


def _run(run: "TrainingRun", checkpoint_images: int) -> "RunResult":
    with (
        stop_on_signals() as stopped,
        progress_bar(run.config.total_images, "train", quiet=not run.group.leads) as advance,
    ):
        advance(run.trainer.images_seen)
        seen = run.trainer.images_seen

        def on_tick(tick: "Tick") -> None:
            nonlocal seen
            advance(tick.images_seen - seen)
            seen = tick.images_seen

        return run.run(on_tick=on_tick, stop=stopped, checkpoint_images=checkpoint_images)


def _evaluate(run: "TrainingRun", count: int) -> dict[str, object]:
    from ..gan.assessment import assess_run

    with progress_bar(None, "evaluate") as advance:
        return assess_run(run, count=count, on_images=advance)
