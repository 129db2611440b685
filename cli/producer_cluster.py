"""`facechain cluster`: faces into clusters, with charts."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import examples, json_option
from .producer_options import clustering_options, load_faces, show

if TYPE_CHECKING:
    from ..gan.clustering import ClusteringOptions


@click.command(
    epilog=examples(
        "facechain cluster --images faces/ --out clusters/",
        "facechain cluster --images faces.zip --clusters 25 --out clusters/ --json",
        "facechain cluster --images faces.npy --clusters 0 --umap --out clusters/",
    )
)
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder or zip of synthetic faces, or a NumPy file of uint8 (N, H, W, 3), which is not read as a whole.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the result.")
@clustering_options
@click.option("--components", type=click.IntRange(1), default=64, help="Principal components of the pixels.")
@click.option("--umap", is_flag=True, help="Draw a UMAP scatter, too (extra 'umap').")
@click.option("--seed", default="0", help="64 hex digits, or any text that is hashed.")
@json_option
def cluster(
    *,
    images: Path,
    out: Path,
    clustering: "ClusteringOptions",
    components: int,
    umap: bool,
    seed: str,
    as_json: bool,
) -> None:
    """Sort faces into clusters by mini-batch k-means.

    The feature space is the leading principal components of the pixels (docs/producer.md says why). Writes the model,
    a table of labels, a scatter of the first two components, a histogram of sizes and the face nearest to each centroid,
    and prints how well the clusters are parted.
    """
    from ..gan.cluster_files import write_clustering, write_umap
    from ..gan.cluster_quality import measure_quality
    from ..gan.clustering import cluster_images
    from ..gan.datasets import ARRAY_SUFFIX, open_array
    from ..gan.latents import parse_seed
    from ..gan.provenance import clustering_record
    from ..gan.stages import STAGE_FILE, extend, read_stages, write_stages

    options = replace(clustering, components=components)
    faces = open_array(images) if images.suffix == ARRAY_SUFFIX else load_faces(images, None)
    found = cluster_images(faces.images, options=options, seed=parse_seed(seed))
    digest = write_clustering(found, faces.names, faces.images, out)
    if umap:
        write_umap(found, out, seed=parse_seed(seed))
    before = read_stages(images / STAGE_FILE) if images.is_dir() else ()
    write_stages(out, extend(before, clustering_record(found, options, before[-1].label if before else None)))
    show(
        {
            "out": str(out),
            "images": len(faces),
            "withheld": len(faces) - int(found.sizes.sum()),
            "clusters": len(found.centroids),
            "smallest": int(found.sizes.min()),
            "largest": int(found.sizes.max()),
            "variance_kept": round(found.explained, 4),
            **measure_quality(found, seed=parse_seed(seed)).to_json(),
            "model_sha256": digest.hex(),
        },
        as_json=as_json,
    )
