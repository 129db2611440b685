"""`facechain privacy-report`, and the options of `facechain train` that make training private."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .errors import UsageError
from .options import Command, examples, json_option
from .output import columns, emit, facts, say
from .producer_options import device_option, load_faces

if TYPE_CHECKING:
    from ..gan.config import TrainingConfig
    from ..gan.privacy.membership import Attack, OperatingPoint
    from ..gan.privacy.report import PrivacyReport

UNITS = ("image", "identity")


def dp_options(command: Command) -> Command:
    """`--dp-epsilon`, `--dp-delta` and `--dp-unit`, handed on under these names."""
    for option in (
        click.option(
            "--dp-unit",
            type=click.Choice(UNITS),
            default=None,
            help="What the guarantee is about: one image, or all images of one person. [default: image]",
        ),
        click.option(
            "--dp-delta",
            type=float,
            default=None,
            help="δ of the guarantee; below 1 / number of records. [default: 1e-05]",
        ),
        click.option(
            "--dp-epsilon",
            type=click.FloatRange(0, min_open=True),
            default=None,
            help="Train with differential privacy and stop before this ε is exceeded. [default: not private]",
        ),
    ):
        command = option(command)
    return command


def with_privacy(
    config: "TrainingConfig", *, epsilon: float | None, delta: float | None, unit: str | None
) -> "TrainingConfig":
    """Return `config` with the budget that was asked for, if one was; refuses half of a request."""
    import dataclasses

    from ..gan.config import PrivacyConfig, PrivacyUnit

    if epsilon is None:
        if delta is not None or unit is not None:
            raise UsageError(
                "private training", expected="--dp-epsilon with --dp-delta or --dp-unit", got="none"
            )
        return config
    privacy = PrivacyConfig(unit=PrivacyUnit(unit or UNITS[0]), epsilon=epsilon)
    if delta is not None:
        privacy = dataclasses.replace(privacy, delta=delta)
    return dataclasses.replace(config, privacy=privacy)


def made_private(config: "TrainingConfig") -> "TrainingConfig":
    """Return `config` without what private training cannot have, and say what that was."""
    from ..gan.privacy.recipe import changes, private_recipe

    if not config.privacy.active:
        return config
    for line in changes(config):
        say(f"private training: {line}")
    return private_recipe(config)


@click.command(
    epilog=examples(
        "facechain privacy-report run --data faces.zip",
        "facechain privacy-report run --data faces.zip --generated 10000 --probes 20000 --json",
    )
)
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True),
    required=True,
    help="The data set the run was trained on; its held-out people are the non-members.",
)
@click.option(
    "--generated", type=click.IntRange(1), default=2_000, help="Images to generate and compare with."
)
@click.option(
    "--probes",
    type=click.IntRange(1),
    default=3_000,
    help="Training images to attack, and as many of held-out people; whole people are drawn.",
)
@click.option("--false-match-rate", type=float, default=1e-5, help="Target of the release filter.")
@device_option
@json_option
def privacy_report(
    *,
    run: Path,
    data: Path,
    generated: int,
    probes: int,
    false_match_rate: float,
    device: str,
    as_json: bool,
) -> None:
    """Attack a trained generator and report what it gives away about its training faces.

    Appends a privacy record of aggregates to RUN/stage.json. The sheet of nearest training faces in
    RUN/operator-only shows real people: it is for the operator's eyes.
    """
    from ..gan.device import open_device
    from ..gan.privacy.report import ReportOptions, data_of_run, report_on

    about = data_of_run(run)
    faces = load_faces(data, int(about["resolution"]))
    options = ReportOptions(generated=generated, probes=probes, false_match_rate=false_match_rate)
    report = report_on(
        run,
        faces,
        device=open_device(device, bf16=False),
        options=options,
        on_step=lambda step: say(f"{step} …"),
    )
    emit(report.to_json(), as_json=as_json, lines=_lines(report))


def _lines(report: "PrivacyReport") -> list[str]:
    leaks = sorted({attack.name for attack in report.attacks if attack.succeeds})
    return [
        f"guarantee: {report.statement}",
        *(f"  {line}" for line in facts(report.guarantee.items())),
        "",
        "membership inference (0.5 is guessing; intervals hold 95%)",
        *columns(
            ("attack", "unit", "members", "others", "AUC", "interval", "TPR at 0.1% FPR", "TPR at 1% FPR"),
            [*(_row(attack) for attack in report.attacks), *_bound(report)],
        ),
        f"succeeds: {', '.join(leaks) or 'none'}",
        "",
        *facts((key.replace("_", " "), value) for key, value in report.measured.items()),
        *(f"not measured: {line}" for line in report.missing),
        "",
        f"sheet for the operator only: {report.sheet}",
        f"record: {report.stage}",
    ]


def _row(attack: "Attack") -> tuple[str, ...]:
    return (
        attack.name,
        attack.unit,
        f"{attack.members:,}",
        f"{attack.non_members:,}",
        f"{attack.auc:.3f}",
        f"{attack.low:.3f} to {attack.high:.3f}",
        *(_operating(point) for point in attack.points),
    )


def _bound(report: "PrivacyReport") -> list[tuple[str, ...]]:
    """What the guarantee excludes, under the columns of what was found."""
    found = [f"at most {share:.2%}" for share in report.bounds.values()]
    name = f"any attack, by ε and δ per {report.guarantee.get('dp_unit')}"
    return [(name, "", "", "", "", "", *found)] if found else []


def _operating(point: "OperatingPoint") -> str:
    if point.true_positive_rate is None:
        return point.note
    return f"{point.true_positive_rate:.2%}" + (f" ({point.note})" if point.note else "")
