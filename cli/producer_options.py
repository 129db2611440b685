"""Options and output that the producer's commands share. Imports nothing heavy."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from .options import gathered
from .output import emit, facts, plain

if TYPE_CHECKING:
    from ..gan.clustering import ClusteringOptions
    from ..gan.datasets import FaceSet

DEVICES: Final = ("auto", "cpu", "cuda")

device_option = click.option(
    "--device", type=click.Choice(DEVICES), default="auto", help="Where to compute; auto takes a GPU."
)
seed_option = click.option(
    "--seed",
    default=None,
    help="Batch seed: 64 hex digits, or any text that is hashed. [default: drawn at random and printed]",
)
checkpoint_option = click.option(
    "--checkpoint",
    type=click.Path(path_type=Path, exists=True),
    default=None,
    help="Generator file or run folder. [default: the embedded generator]",
)
micro_batch_option = click.option(
    "--micro-batch", type=click.IntRange(1), default=64, help="Images per generator call; goes on chain."
)


def clustering_options(command: Callable[..., object]) -> Callable[..., object]:
    """How images are sorted into clusters, handed on as `clustering: ClusteringOptions`."""
    names = ("clusters", "k_min_cluster_size", "small_clusters", "cluster_backend")
    command = gathered("clustering", _clustering, *names)(command)
    for option in reversed(
        (
            click.option(
                "--clusters",
                type=click.IntRange(0),
                default=125,
                help="Number of clusters; 0 takes the least that explains nearly as much as more of them would.",
            ),
            click.option(
                "--k-min-cluster-size",
                type=click.IntRange(1),
                default=1,
                help="Least size of a cluster. This is no k-anonymity.",
            ),
            click.option(
                "--small-clusters",
                type=click.Choice(("merge", "withhold")),
                default="merge",
                help="Smaller ones join their nearest, or their images are not released.",
            ),
            click.option(
                "--cluster-backend",
                type=click.Choice(("sklearn", "faiss")),
                default="sklearn",
                help="faiss needs the extra 'faiss'.",
            ),
        )
    ):
        command = option(command)
    return command


def _clustering(
    *, clusters: int, k_min_cluster_size: int, small_clusters: str, cluster_backend: str
) -> "ClusteringOptions":
    from ..gan.clustering import ClusteringOptions, SmallClusters
    from ..gan.kmeans import Backend

    return ClusteringOptions(
        clusters=clusters,
        k_min_cluster_size=k_min_cluster_size,
        small=SmallClusters(small_clusters),
        backend=Backend(cluster_backend),
    )


def batch_seed(given: str | None) -> bytes:
    """Return 32 bytes: parsed from the option, or fresh from the system."""
    import secrets

    from ..gan.latents import parse_seed

    return secrets.token_bytes(32) if given is None else parse_seed(given)


@contextmanager
def progress_bar(
    total: int | None, title: str, *, unit: str = "img", quiet: bool = False
) -> Iterator[Callable[[int], None]]:
    """A bar on stderr when that is a terminal and not `quiet`; yields a function that advances it."""
    from tqdm import tqdm

    with tqdm(total=total, desc=title, unit=unit, disable=quiet or None, file=sys.stderr) as bar:

        def advance(amount: int) -> None:
            bar.update(amount)

        yield advance


@contextmanager
def step_bars() -> Iterator[Callable[[str, int, int], None]]:
    """One bar after another on stderr; yields a function of step, done and total."""
    from tqdm import tqdm

    bars: dict[str, Any] = {}

    def report(step: str, done: int, total: int) -> None:
        if step not in bars:
            bars[step] = tqdm(total=total, desc=step, disable=None, file=sys.stderr)
        bars[step].update(done - bars[step].n)

    try:
        yield report
    finally:
        for bar in bars.values():
            bar.close()


def load_faces(path: Path, resolution: int | None) -> "FaceSet":
    """Decode a data set with a progress bar."""
    from ..gan.datasets import open_dataset

    with progress_bar(None, "decode") as advance:
        return open_dataset(path, resolution=resolution, progress=lambda _: advance(1))


def show(result: dict[str, object], *, as_json: bool) -> None:
    """Print a result: one JSON object, or one line per fact."""
    emit(
        result,
        as_json=as_json,
        lines=facts([(key.replace("_", " "), plain(value)) for key, value in result.items()]),
    )
