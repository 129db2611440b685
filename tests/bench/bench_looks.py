"""How far apart looks are: images of one generator from one another, and altered copies from their originals.

Prints one JSON line. Run: python tests/bench/bench_looks.py [--count N] [--images FOLDER|ZIP]
(default: the embedded generator). `MATCH_DISTANCE` in consensus/perceptual.py is chosen from it, and the table in
docs/audit.md is its output.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[2] / ".layout"))

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facechain.consensus.perceptual import MATCH_DISTANCE, perceptual_hashes

Images = NDArray[np.uint8]
QUANTILES: Final = (0.0, 0.0001, 0.001, 0.01, 0.1, 0.5)
THRESHOLDS: Final = (8, 16, 24, 32, 40, 48, 56, 64, 72)
ALTERED_MAX: Final = 1_000


def render(count: int, seed: int) -> Images:
    """Return faces of the embedded generator."""
    from facechain.gan.device import open_device
    from facechain.gan.embedded import open_generator
    from facechain.gan.generation import Renderer

    loaded, _ = open_generator(None)
    renderer = Renderer(loaded, seed=bytes([seed]) * 32, device=open_device("cpu", bf16=False))
    return np.stack([pixels for _, pixels in renderer.render(range(count))])


def load(path: Path, count: int) -> Images:
    """Return images of a data set at 32 x 32."""
    from facechain.gan.datasets import open_dataset

    return open_dataset(path, resolution=32).images[:count]


def bits(images: Images) -> NDArray[np.uint8]:
    """Return the looks as rows of 256 bits."""
    packed = np.frombuffer(b"".join(perceptual_hashes(images)), dtype=np.uint8)
    return np.unpackbits(packed.reshape(len(images), 32), axis=1)


def distances(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Return all Hamming distances, shape (len(left), len(right))."""
    a, b = left.astype(np.float32), right.astype(np.float32)
    apart: NDArray[np.int16] = (a.sum(axis=1)[:, None] + b.sum(axis=1)[None, :] - 2 * (a @ b.T)).astype(
        np.int16
    )
    return apart


def _each(change: Callable[[Image.Image], Image.Image]) -> Callable[[Images], Images]:
    return lambda images: np.stack([np.asarray(change(Image.fromarray(image))) for image in images])


def _jpeg(quality: int) -> Callable[[Image.Image], Image.Image]:
    def change(picture: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer).convert("RGB")

    return change


def _resized(picture: Image.Image, scale: float) -> Image.Image:
    side = round(picture.width * scale)
    return picture.resize((side, side), Image.Resampling.BICUBIC)


def _cropped(picture: Image.Image) -> Image.Image:
    side = picture.width
    return picture.crop((1, 1, side - 1, side - 1)).resize((side, side), Image.Resampling.BICUBIC)


def _one_pixel(images: Images) -> Images:
    """Invert the colour of one pixel, another one in each image."""
    changed = images.copy()
    random = np.random.Generator(np.random.PCG64(2))
    rows, columns = (random.integers(0, images.shape[axis], len(images)) for axis in (1, 2))
    changed[np.arange(len(images)), rows, columns] ^= 0xFF
    return changed


def _noisy(images: Images) -> Images:
    noise = np.random.Generator(np.random.PCG64(1)).normal(0, 4, images.shape)
    return (images + noise).round().clip(0, 255).astype(np.uint8)


ALTERATIONS: Final[Mapping[str, Callable[[Images], Images]]] = {
    "one pixel inverted": _one_pixel,
    "JPEG, quality 90": _each(_jpeg(90)),
    "JPEG, quality 75": _each(_jpeg(75)),
    "JPEG, quality 50": _each(_jpeg(50)),
    "enlarged to 200 %": _each(lambda picture: _resized(picture, 2)),
    "enlarged and shrunk back": _each(lambda picture: _resized(_resized(picture, 2), 0.5)),
    "shrunk to 75 %": _each(lambda picture: _resized(picture, 0.75)),
    "brighter by 20 levels": lambda images: np.clip(images.astype(np.int16) + 20, 0, 255).astype(np.uint8),
    "contrast at 120 %": lambda images: ((images - 128.0) * 1.2 + 128).round().clip(0, 255).astype(np.uint8),
    "noise, 4 levels": _noisy,
    "grey": _each(lambda picture: picture.convert("L").convert("RGB")),
    "cropped by 1 pixel a side": _each(_cropped),
    "mirrored": lambda images: images[:, :, ::-1].copy(),
}


def measure(images: Images, others: Images) -> dict[str, Any]:
    """Compare registered images with one another, with others of the same source, and with altered copies."""
    registered, queries = bits(images), bits(others)
    pairs = distances(registered, registered)[np.triu_indices(len(registered), 1)]
    nearest = distances(queries, registered).min(axis=1)
    originals = registered[:ALTERED_MAX]
    altered = {
        name: (bits(change(images[:ALTERED_MAX])) != originals).sum(axis=1)
        for name, change in ALTERATIONS.items()
    }
    return {
        "registered": len(images),
        "pairs": len(pairs),
        "pair_distance_quantiles": {str(q): int(np.quantile(pairs, q)) for q in QUANTILES},
        "pairs_within": {str(t): int((pairs <= t).sum()) for t in THRESHOLDS},
        "queries": len(others),
        "nearest_distance_quantiles": {str(q): int(np.quantile(nearest, q)) for q in QUANTILES},
        "queries_within": {str(t): int((nearest <= t).sum()) for t in THRESHOLDS},
        "altered": {
            name: {
                "median": int(np.median(found)),
                "q99": int(np.quantile(found, 0.99)),
                "most": int(found.max()),
                "recognised": float((found <= MATCH_DISTANCE).mean()),
            }
            for name, found in altered.items()
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2_000, help="registered images, and as many queries")
    parser.add_argument(
        "--images", type=Path, default=None, help="a data set instead of the embedded generator"
    )
    options = parser.parse_args()
    if options.images is None:
        source, images, others = "embedded generator", render(options.count, 1), render(options.count, 2)
    else:
        found = load(options.images, 2 * options.count)
        source, images, others = options.images.name, found[: options.count], found[options.count :]
    print(json.dumps({"source": source, "threshold": MATCH_DISTANCE, **measure(images, others)}))


if __name__ == "__main__":
    main()
