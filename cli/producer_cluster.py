"""`facechain cluster`: faces into clusters, with charts."""

from pathlib import Path

import click

from .options import examples, json_option
from .producer_options import load_faces, show


@click.command(
    epilog=examples(
        "facechain cluster --images faces/ --out clusters/",
        "facechain cluster --images faces.zip --clusters 25 --out clusters/ --json",
    )
)
@click.option(
    "--images", type=click.Path(path_type=Path), required=True, help="Folder or zip of synthetic faces."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the result.")
@click.option("--clusters", type=click.IntRange(1), default=125, help="Number of clusters.")
@click.option(
    "--k-min-cluster-size",
    type=click.IntRange(1),
    default=1,
    help="Merge smaller clusters into their nearest. This is no k-anonymity.",
)
@click.option("--components", type=click.IntRange(1), default=64, help="Principal components of the pixels.")
@click.option("--seed", default="0", help="64 hex digits, or any text that is hashed.")
@json_option
def cluster(
    *,
    images: Path,
    out: Path,
    clusters: int,
    k_min_cluster_size: int,
    components: int,
    seed: str,
    as_json: bool,
) -> None:
    """Sort faces into clusters by mini-batch k-means.

    The feature space is the leading principal components of the pixels (docs/producer.md says why). Writes the model,
    a table of labels, a scatter of the first two components and a histogram of sizes.
    """
    from ..gan.clustering import ClusteringOptions, cluster_images, write_clustering
    from ..gan.latents import parse_seed
    from ..gan.provenance import clustering_record
    from ..gan.stages import STAGE_FILE, extend, read_stages, write_stages

    options = ClusteringOptions(
        clusters=clusters, k_min_cluster_size=k_min_cluster_size, components=components
    )
    faces = load_faces(images, None)
    found = cluster_images(faces.images, options=options, seed=parse_seed(seed))
    digest = write_clustering(found, list(faces.names), out)
    before = read_stages(images / STAGE_FILE) if images.is_dir() else ()
    write_stages(out, extend(before, clustering_record(found, options, before[-1].label if before else None)))
    show(
        {
            "out": str(out),
            "images": len(faces),
            "clusters": len(found.centroids),
            "smallest": int(found.sizes.min()),
            "largest": int(found.sizes.max()),
            "variance_kept": round(found.explained, 4),
            "model_sha256": digest.hex(),
        },
        as_json=as_json,
    )
