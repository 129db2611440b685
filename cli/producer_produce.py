"""`facechain produce`: generate, filter, cluster, store and submit in one go."""

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .errors import UsageError
from .keyring import ledger_key_info
from .options import (
    LongNameOption,
    api_option,
    data_dir_option,
    examples,
    gathered,
    json_option,
    passphrase_file_option,
    wait_options,
)
from .output import emit, facts, say
from .producer_options import (
    batch_seed,
    checkpoint_option,
    clustering_options,
    device_option,
    load_faces,
    micro_batch_option,
    seed_option,
    step_bars,
)
from .submit import Target, receipt_lines, submit_batch_folder, target_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..gan.checkpoints import LoadedGenerator
    from ..gan.clustering import ClusteringOptions
    from ..gan.device import Device
    from ..gan.engine import Engine
    from ..gan.filter import ReleaseFilter
    from ..gan.imagestore import ImageStore
    from ..gan.produce import ProducedBatch
    from ..gan.provenance import ProduceOptions
    from ..gan.ray_engine import RayWork
    from ..node.data_dir import DataDir
    from .submission import SubmissionReceipt

STORE_FOLDER = "images"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reference:
    """Real faces that nothing released may resemble; none when there are no faces."""

    faces: Path | None
    false_match_rate: float
    holdout_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cluster:
    """Where images are computed: here (`local`), or on the workers of a Ray cluster."""

    engine: str
    workers: int | None
    ray_address: str | None


@click.command(
    epilog=examples(
        "facechain produce --count 1000 --out batch/ --key alice --wait 1",
        "facechain produce --checkpoint run/ --reference faces.zip --out batch/ --key alice",
        "facechain produce --count 100 --out batch/ --no-submit",
    )
)
@click.option("--count", type=click.IntRange(1), default=1_000, help="Images of the batch.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Batch folder to write.")
@clustering_options
@click.option(
    "--reference",
    "faces",
    cls=LongNameOption,
    type=click.Path(path_type=Path, exists=True),
    default=None,
    help="Data set the generator was trained on; switches the release filter on. Without it the batch says "
    "'filter: none'. No embedding of it is written anywhere.",
)
@click.option("--false-match-rate", type=float, default=1e-5, help="Target of the release filter.")
@click.option("--holdout-share", type=click.FloatRange(0, 0.9), default=0.125, help="As in the training run.")
@click.option(
    "--store",
    "store_url",
    cls=LongNameOption,
    default=None,
    help="Folder or URL. [default: images in the data directory]",
)
@click.option(
    "--expression",
    is_flag=True,
    help="Write each face's predicted expression into the batch folder (expressions.jsonl); stays off the chain.",
)
@click.option(
    "--engine",
    type=click.Choice(("local", "ray")),
    default="local",
    help="Compute here, or on the workers of a Ray cluster (extra 'ray'); the bytes are the same.",
)
@click.option(
    "--workers", type=click.IntRange(1), default=None, help="Ray workers. [default: one per processor]"
)
@click.option("--ray-address", default=None, help="Ray cluster to join. [default: one on this machine]")
@click.option("--private", is_flag=True, help="Keep seed and look of the images off the chain.")
@click.option("--model-statement", metavar="HEX", default=None, help="Training stage already on chain.")
@click.option("--submit/--no-submit", default=True, help="Sign and send the batch to a node.")
@click.option("--key", default=None, metavar="NAME", envvar="FACECHAIN_KEY", help="Ledger key that signs.")
@passphrase_file_option
@api_option
@wait_options
@data_dir_option
@seed_option
@checkpoint_option
@micro_batch_option
@device_option
@json_option
@gathered("cluster", _Cluster, "engine", "workers", "ray_address")
@gathered("reference", _Reference, "faces", "false_match_rate", "holdout_share")
@target_options
def produce(
    *,
    count: int,
    out: Path,
    clustering: "ClusteringOptions",
    reference: _Reference,
    store_url: str | None,
    cluster: _Cluster,
    expression: bool,
    private: bool,
    model_statement: str | None,
    submit: bool,
    key: str | None,
    target: Target,
    wait: int,
    seed: str | None,
    checkpoint: Path | None,
    micro_batch: int,
    device: str,
    as_json: bool,
) -> None:
    """Generate, filter, cluster, store and submit in one go.

    Writes a batch folder that `facechain submit --batch` also takes, so a node that is down loses nothing.
    """
    from ..gan.device import open_device
    from ..gan.embedded import open_generator
    from ..gan.imagestore import ImageStore
    from ..gan.produce import produce as make_batch
    from ..gan.provenance import ProduceOptions

    _check_options(model_statement=model_statement, submit=submit, key=key, data_dir=target.data_dir)
    options = ProduceOptions(
        count=count,
        seed=batch_seed(seed),
        micro_batch=micro_batch,
        clustering=clustering,
        public=not private,
        model_statement=model_statement,
    )
    loaded, stages = open_generator(checkpoint)
    where = open_device(device, bf16=False)
    store = ImageStore(store_url or str(target.data_dir.root / STORE_FOLDER))
    work = _ray_work(loaded, options, store, reference) if cluster.engine == "ray" else None
    release_filter = _release_filter(reference, loaded)
    with step_bars() as report, _engine(work, cluster) as engine:
        batch = make_batch(
            out,
            loaded=loaded,
            model_stages=stages,
            options=options,
            device=where,
            release_filter=release_filter,
            store=store,
            engine=engine,
            on_progress=report,
            annotate=_annotator(where) if expression else lambda _: None,
        )
    receipt = submit_batch_folder(out, key=key, target=target, wait=wait) if submit and key else None
    _report(batch, options.seed, receipt, as_json=as_json)


def _annotator(device: "Device") -> "Callable[[Path], object]":
    """Load the classifier before anything is rendered; return what annotates the finished folder."""
    from ..gan.expression.annotation import annotate_batch
    from ..gan.expression.checkpoints import load_classifier

    classifier = load_classifier(None)
    return lambda folder: annotate_batch(folder, classifier, device)


def _report(
    batch: "ProducedBatch", seed: bytes, receipt: "SubmissionReceipt | None", *, as_json: bool
) -> None:
    result: dict[str, object] = {
        "batch": str(batch.path),
        "images": batch.count,
        "clusters": batch.clusters,
        "filter": batch.filter,
        "rejected": batch.rejected,
        "duplicates_removed": batch.duplicates,
        "withheld": batch.withheld,
        "seed": seed.hex(),
    }
    lines = facts((name.replace("_", " "), text) for name, text in result.items())
    if receipt is not None:
        result["receipt"] = receipt.to_json()
        lines += ["", *receipt_lines(receipt)]
    emit(result, as_json=as_json, lines=lines)


def _check_options(
    *, model_statement: str | None, submit: bool, key: str | None, data_dir: "DataDir"
) -> None:
    """Refuse before anything is rendered what would fail after it."""
    from ..gan.stages import is_statement_id

    if submit and key is None:
        raise UsageError("no key to sign with", expected="--key NAME or --no-submit", got="neither")
    if submit and key is not None:
        ledger_key_info(data_dir, key)
    if model_statement is not None and not is_statement_id(model_statement):
        raise UsageError("--model-statement", expected="64 lower-case hex digits", got=model_statement)


def _release_filter(reference: _Reference, loaded: "LoadedGenerator") -> "ReleaseFilter | None":
    if reference.faces is None:
        say("no reference faces named: the batch will say 'filter: none'")
        return None
    from ..gan.references import calibrate_filter

    faces = load_faces(reference.faces, loaded.config.generator.resolution)
    return calibrate_filter(
        faces, holdout_share=reference.holdout_share, false_match_rate=reference.false_match_rate
    )


def _ray_work(
    loaded: "LoadedGenerator", options: "ProduceOptions", store: "ImageStore", reference: _Reference
) -> "RayWork":
    """Tell workers what to do; each of them builds the filter itself."""
    from ..gan.ray_engine import RayWork
    from ..gan.references import open_reference_filter

    make_filter = None
    if reference.faces is not None:
        make_filter = partial(
            open_reference_filter,
            reference.faces.resolve(),
            resolution=loaded.config.generator.resolution,
            holdout_share=reference.holdout_share,
            false_match_rate=reference.false_match_rate,
        )
    return RayWork(
        generator=loaded.path.resolve(),
        digest=loaded.digest,
        seed=options.seed,
        micro_batch=options.micro_batch,
        make_filter=make_filter,
        store_url=store.url if "://" in store.url else str(Path(store.url).resolve()),
    )


@contextmanager
def _engine(work: "RayWork | None", cluster: _Cluster) -> "Iterator[Engine | None]":
    """Join or start a cluster when there is work for one; without, the batch is computed in this process."""
    if work is None:
        yield None
        return
    import os

    from ..gan.ray_engine import RayEngine, connected

    count = cluster.workers or len(os.sched_getaffinity(0))
    with connected(workers=count, address=cluster.ray_address):
        yield RayEngine(work, workers=count)
