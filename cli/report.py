"""`facechain report`: one page about a run."""

from pathlib import Path

import click

from .options import examples, json_option
from .producer_options import show

DEFAULT_WATTS = 100.0


@click.command(
    epilog=examples(
        "facechain report run/ --out report.html",
        "facechain report run/ --evaluation measured/ --batch batch/ --receipt receipt.json --out report.html",
    )
)
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="HTML file to write."
)
@click.option(
    "--evaluation",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="What 'evaluate --out' wrote. [default: the run folder]",
)
@click.option(
    "--batch",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A batch folder of this generator.",
)
@click.option(
    "--receipt",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="What 'submit --json' or 'produce --json' printed: says where the stages stand on the chain.",
)
@click.option(
    "--watts",
    type=click.FloatRange(0, min_open=True),
    default=DEFAULT_WATTS,
    help="Power that the energy estimate assumes for the whole machine.",
)
@json_option
def report(
    *,
    run: Path,
    out: Path,
    evaluation: Path | None,
    batch: Path | None,
    receipt: Path | None,
    watts: float,
    as_json: bool,
) -> None:
    """Write a page with the paper's tables and figures as this run has them.

    One HTML file with everything inside: it opens without a network and prints. What was not measured is named with the
    command that measures it.
    """
    from ..gan.checkpoints import write_atomically
    from ..gan.report.collect import gather
    from ..gan.report.page import render

    gathered = gather(run, evaluation=evaluation, batch=batch, receipt=receipt, watts=watts)
    page = render(gathered).encode()
    write_atomically(out, lambda path: path.write_bytes(page))
    show(
        {"report": str(out), "bytes": len(page), "missing": list(gathered.missing)},
        as_json=as_json,
    )
