"""What the demo shows to the audit and to people: faces of the batch, a changed one, a made-up one, the sheet.

Owns pictures only. What it says about the chain is read from a node, not from the producer's folder.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .answers import Fields
from .client import NodeClient

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..consensus.records import Record

SHEET_COLUMNS: Final = 15
IMAGES_FOLDER: Final = "images"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A batch as one node has it on its chain."""

    height: int
    block_hash: bytes
    records: tuple[Record, ...]

    @property
    def clusters(self) -> int:
        """Number of different clusters among the images."""
        return len({record.cluster for record in self.records})

    def one_of_each_cluster(self) -> tuple[Record, ...]:
        """Return the first image of every cluster, by cluster."""
        first = {record.cluster: record for record in reversed(self.records)}
        return tuple(first[cluster] for cluster in sorted(first))


class ChainClient(NodeClient):
    """A `NodeClient` that reads a whole batch back from the chain."""

    async def registered(self, pixel_hash: bytes) -> Registered:
        """Return the batch that registers an image; NotFoundError when the node has none."""
        from ..consensus.payloads import ImageBatch
        from ..consensus.statement import Statement

        answer = Fields.of("image", await self.get(f"/v1/images/{pixel_hash.hex()}"))
        claim = answer.objects("claims")[0]
        path = f"/v1/statements/{claim.hash('batch').hex()}"
        statement = Statement.decode(await self._request("GET", path, octets=True))
        return Registered(
            height=claim.number("height"),
            block_hash=claim.hash("block_hash"),
            records=tuple(ImageBatch.decode(statement.payload).records),
        )


def files_by_pixel_hash(batch: Path) -> dict[bytes, Path]:
    """Return the images of a batch folder in order, by hashes that are computed from their pixels."""
    from ..consensus.image import decode_image, pixel_hash

    files = sorted((batch / IMAGES_FOLDER).iterdir())
    return {pixel_hash(decode_image(path.read_bytes())): path for path in files}


def change_one_pixel(source: Path, target: Path) -> tuple[int, int]:
    """Write `source` with the middle pixel in its opposite colour; return width and height."""
    from PIL import Image

    with Image.open(source) as picture:
        copy = picture.convert("RGB")
    middle = (copy.width // 2, copy.height // 2)
    red, green, blue = _colour(copy, middle)
    copy.putpixel(middle, (red ^ 0xFF, green ^ 0xFF, blue ^ 0xFF))
    copy.save(target, format="PNG")
    return copy.width, copy.height


def _colour(picture: Image, at: tuple[int, int]) -> tuple[int, int, int]:
    red, green, blue = picture.tobytes()[3 * (at[1] * picture.width + at[0]) :][:3]
    return red, green, blue


def write_noise(target: Path, *, width: int, height: int) -> None:
    """Write an image that nobody has ever registered: fresh random pixels."""
    from PIL import Image

    Image.frombytes("RGB", (width, height), secrets.token_bytes(3 * width * height)).save(
        target, format="PNG"
    )


def write_sheet(target: Path, registered: Registered, files: Mapping[bytes, Path]) -> int:
    """Write the contact sheet, one face of each cluster over its block and hash; return how many."""
    import numpy as np
    from PIL import Image

    from ..gan.sheets import RegisteredFace, contact_sheet

    faces = []
    for record in registered.one_of_each_cluster():
        with Image.open(files[record.pixel_hash]) as picture:
            pixels = np.asarray(picture.convert("RGB"), dtype=np.uint8)
        faces.append(
            RegisteredFace(pixels=pixels, block_height=registered.height, pixel_hash=record.pixel_hash)
        )
    title = (
        f"{len(registered.records)} synthetic faces in {registered.clusters} clusters, registered in block "
        f"{registered.height} {registered.block_hash.hex()}; one face of each cluster"
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(contact_sheet(faces, columns=SHEET_COLUMNS, title=title))
    return len(faces)
