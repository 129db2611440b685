"""What `submit` and `audit` ask of a node's API beyond `client`: batches, images, looks, evidence.

Owns the requests and the types of their answers. Nothing that is answered here is believed by an audit: it
tells where to look, and what is found is verified.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar

from .answers import Fields
from .client import OCTETS, NodeClient, api_token
from .errors import NotFoundError

if TYPE_CHECKING:
    from ..consensus.params import Genesis
    from ..node.data_dir import DataDir

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class LookMatch:
    """A registered image near a perceptual hash, by the node's word."""

    distance: int
    pixel_hash: bytes
    file_hash: bytes

    @classmethod
    def of(cls, fields: Fields) -> Self:
        """Read one entry."""
        claim = Fields.of("look: claim", fields.content.get("claim"))
        return cls(
            distance=fields.number("distance"),
            pixel_hash=claim.hash("pixel_hash"),
            file_hash=claim.hash("file_hash"),
        )


class ImageClient(NodeClient):
    """A `NodeClient` that also asks about images."""

    async def genesis(self) -> Genesis:
        """Return the network's genesis, its signatures checked; DecodeError when it is none."""
        from ..consensus.params import Genesis

        return Genesis.decode(await self._request("GET", "/v1/genesis", octets=True))

    async def batches_by_root(self, author: bytes, root: bytes) -> tuple[bytes, ...]:
        """Return the ids of an author's batches with a records root, on the chain or waiting."""
        answer = await self.get(f"/v1/batches/by-root/{author.hex()}/{root.hex()}")
        return Fields.of("batches", answer).hashes("ids")

    async def claims(self, digest: bytes) -> int:
        """Return how often a pixel hash or file hash is registered, 0 when it is not."""
        try:
            answer = Fields.of("image", await self.get(f"/v1/images/{digest.hex()}"))
        except NotFoundError:
            return 0
        return len(answer.items("claims"))

    async def evidence(self, digest: bytes, claim: int) -> bytes:
        """Return the proof file of one claim of a pixel hash or file hash; NotFoundError without one."""
        content: bytes = await self._request(
            "GET", f"/v1/evidence/{digest.hex()}", query={"claim": str(claim)}, octets=True
        )
        return content

    async def looks(self, look: bytes, *, max_distance: int, limit: int) -> tuple[LookMatch, ...]:
        """Return registered images near a perceptual hash, nearest first."""
        query = {"max_distance": str(max_distance), "limit": str(limit)}
        answer = Fields.of("looks", await self.get(f"/v1/looks/{look.hex()}", query))
        found = answer.objects("matches")
        return tuple(LookMatch.of(item) for item in found if not _is_pruned(item))

    async def image_object(self, digest: bytes) -> bytes | None:
        """Return an image that the node holds, None when it does not."""
        try:
            content: bytes = await self._request("GET", f"/v1/objects/{digest.hex()}", octets=True)
        except NotFoundError:
            return None
        return content

    async def put_object(self, digest: bytes, data: bytes) -> None:
        """Hand in an image of a public batch; the refusals are those of the node."""
        await self._request("PUT", f"/v1/objects/{digest.hex()}", body=data, content_type=OCTETS)


def ask_images(api: str, data_dir: DataDir, action: Callable[[ImageClient], Awaitable[Result]]) -> Result:
    """Run `action` with a client of the node at `api` and return what it returns."""

    async def run() -> Result:
        async with ImageClient(api, token=api_token(data_dir)) as client:
            return await action(client)

    return asyncio.run(run())


def _is_pruned(match: Fields) -> bool:
    """Tell whether the node no longer keeps the batch of a match, so that nothing can be proven of it."""
    return Fields.of("look: claim", match.content.get("claim")).flag("pruned")
