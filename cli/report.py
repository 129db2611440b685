"""`facechain report`: one page about a run."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import examples, json_option
from .producer_options import load_faces, show
from .report_mining import mine_blocks

if TYPE_CHECKING:
    from ..gan.datasets import Pixels

DEFAULT_WATTS = 100.0
MINING_BLOCKS_MAX = 10_000
"""Some five minutes on one core."""


@click.command(
    epilog=examples(
        "facechain report run/ --out report.html",
        "facechain report run/ --evaluation measured/ --batch batch/ --receipt receipt.json --out report.html",
        "facechain report run/ --faces faces.zip --ablation ablation/ --mining-blocks 256 --out report.html",
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
    "--ablation",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="What 'ablation --out' wrote.",
)
@click.option(
    "--faces",
    type=click.Path(path_type=Path, exists=True),
    help="Real faces with identities, as in the training run. Puts 64 photographs of held-out people beside the generated "
    "faces: the page is then under the data set's terms.",
)
@click.option(
    "--mining-blocks",
    type=click.IntRange(0, MINING_BLOCKS_MAX),
    default=64,
    help="Headers to mine at the paper's four zeros for the page; 0 mines none.",
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
    ablation: Path | None,
    faces: Path | None,
    mining_blocks: int,
    watts: float,
    as_json: bool,
) -> None:
    """Write a page with the paper's tables and figures as this run has them.

    One HTML file with everything inside: it opens without a network and prints. What was not measured is named with the
    command that measures it.
    """
    from ..gan.checkpoints import write_atomically
    from ..gan.report.collect import Sources, gather
    from ..gan.report.page import render

    sources = Sources(
        run=run,
        evaluation=evaluation,
        batch=batch,
        receipt=receipt,
        ablation=ablation,
        real=None if faces is None else _unseen(run, faces),
        mined=mine_blocks(mining_blocks) if mining_blocks else None,
        watts=watts,
    )
    gathered = gather(sources)
    page = render(gathered).encode()
    write_atomically(out, lambda path: path.write_bytes(page))
    show(
        {"report": str(out), "bytes": len(page), "missing": list(gathered.missing)},
        as_json=as_json,
    )


def _unseen(run: Path, faces: Path) -> "Pixels":
    """Photographs of people that the run held out, one of each as far as they go."""
    from ..gan.report.unseen import unseen_faces

    return unseen_faces(run, lambda side: load_faces(faces, side))
