"""`facechain generate`: synthetic faces as PNG files."""

from pathlib import Path

import click

from .options import examples, json_option
from .producer_options import (
    batch_seed,
    checkpoint_option,
    device_option,
    micro_batch_option,
    progress_bar,
    seed_option,
    show,
)


@click.command(
    epilog=examples(
        "facechain generate --count 64 --out faces/",
        "facechain generate --count 1000 --seed 7 --checkpoint run/ --out faces/",
    )
)
@click.option("--count", type=click.IntRange(1), required=True, help="Number of images.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the images.")
@click.option("--first", type=click.IntRange(0), default=0, help="Generator index of the first image.")
@seed_option
@checkpoint_option
@micro_batch_option
@device_option
@json_option
def generate(
    *,
    count: int,
    out: Path,
    first: int,
    seed: str | None,
    checkpoint: Path | None,
    micro_batch: int,
    device: str,
    as_json: bool,
) -> None:
    """Render synthetic faces.

    The same generator, seed and index give the same file, byte for byte, on the same machine. Nothing is filtered:
    use `produce` for images that leave the house.
    """
    from ..gan.device import open_device
    from ..gan.embedded import open_generator
    from ..gan.generation import Renderer, write_images
    from ..gan.provenance import generation_only
    from ..gan.stages import write_stages

    value = batch_seed(seed)
    loaded, stages = open_generator(checkpoint)
    where = open_device(device, bf16=False)
    renderer = Renderer(loaded, seed=value, device=where, micro_batch=micro_batch)
    with progress_bar(count, "generate") as advance:
        written = write_images(renderer, out, count=count, first=first, on_image=lambda: advance(1))
    write_stages(
        out, generation_only(stages, written=written, loaded=loaded, renderer=renderer, device=where)
    )
    show(
        {
            "out": str(out),
            "images": count,
            "seed": value.hex(),
            "micro_batch": micro_batch,
            "checkpoint_sha256": loaded.digest.hex(),
            "manifest_sha256": written.manifest_digest.hex(),
            "images_per_second": round(written.images_per_second, 1),
        },
        as_json=as_json,
    )
