"""A lone node with its HTTP server on a real port, a client, and a small registered collection."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from facechain.consensus.kinds import StageType
from facechain.consensus.statement import Statement
from facechain.node.api.access import AdminAccess
from facechain.node.api.context import ApiConfig
from facechain.node.api.server import ApiServer
from support.chain import SUBMITTER, make_stage
from support.lone_node import LoneNode
from support.pictures import Picture, make_picture, picture_batch

TOKEN = "f" * 64
ADMIN_TOKEN = "e" * 64
ADMIN = AdminAccess(token=ADMIN_TOKEN)


@dataclass(kw_only=True)
class Served:
    """A running server and a client session of it."""

    node: LoneNode
    server: ApiServer
    session: aiohttp.ClientSession

    async def get(self, path: str, *, status: int = 200, **options: Any) -> Any:
        """Return the JSON of a GET, which must have this status."""
        async with self.session.get(self.server.url + path, **options) as response:
            text = await response.text()
            assert response.status == status, f"{path}: {response.status} {text}"
            return json.loads(text)

    async def get_bytes(self, path: str, **options: Any) -> bytes:
        """Return the octets of a GET."""
        headers = {"Accept": "application/octet-stream"}
        async with self.session.get(self.server.url + path, headers=headers, **options) as response:
            data = await response.read()
            assert response.status == 200, f"{path}: {response.status} {data!r}"
            return data

    async def page(self, path: str, *, status: int = 200) -> str:
        """Return the text of a page."""
        async with self.session.get(self.server.url + path) as response:
            text = await response.text()
            assert response.status == status, f"{path}: {response.status} {text}"
            return text

    async def post(
        self,
        body: bytes | io.BytesIO,
        *,
        content_type: str = "application/octet-stream",
        token: str | None = TOKEN,
        path: str = "/v1/statements",
    ) -> tuple[int, Any, Any]:
        """Return status, JSON and headers of a POST of octets."""
        headers = {"Content-Type": content_type, **bearer(token)}
        async with self.session.post(self.server.url + path, data=body, headers=headers) as response:
            return response.status, await response.json(), response.headers

    async def put_object(self, digest: bytes, data: bytes, *, token: str | None = TOKEN) -> tuple[int, Any]:
        """Return status and JSON of a PUT of an image."""
        url = f"{self.server.url}/v1/objects/{digest.hex()}"
        async with self.session.put(url, data=data, headers=bearer(token)) as response:
            return response.status, await response.json()


def bearer(token: str | None) -> dict[str, str]:
    """Return the header that carries the token."""
    return {} if token is None else {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def serve(node: LoneNode | None = None, **config: Any) -> AsyncIterator[Served]:
    """Run a node and its server."""
    async with (
        node or LoneNode() as running,
        ApiServer(running, ApiConfig(token=TOKEN, **{"admin": ADMIN, **config})) as server,
        aiohttp.ClientSession() as session,
    ):
        yield Served(node=running, server=server, session=session)


@dataclass(frozen=True, kw_only=True)
class Collection:
    """What `register` put on the chain."""

    pictures: tuple[Picture, ...]
    dataset: Statement
    training: Statement
    privacy: Statement
    generation: Statement
    clustering: Statement
    filter: Statement
    batch: Statement


async def register(node: LoneNode, count: int = 5, *, start: int = 0) -> Collection:
    """Seal a whole story, from the data set to a batch of `count` pictures."""

    async def put(stage_type: StageType, *inputs: Statement, name: str, **details: str) -> Statement:
        stage = make_stage(stage_type, *(item.id for item in inputs), name=name, **details)
        return await node.put(SUBMITTER, stage)

    dataset = await put(StageType.DATASET, name="blobs", images="1000", licence="CC0")
    training = await put(StageType.TRAINING, dataset, name="blob-gan", steps="1200")
    privacy = await put(StageType.PRIVACY, training, name="no differential privacy", epsilon="none")
    generation = await put(StageType.GENERATION, training, name="200 samples", seed_bits="256")
    release = await put(StageType.FILTER, generation, name="nearest neighbour", threshold="0.35")
    clustering = await put(StageType.CLUSTERING, generation, name="k-means", clusters="5")
    pictures = tuple(make_picture(number) for number in range(start, start + count))
    payload, header = picture_batch(pictures, model=training.id, clustering=clustering.id, filter=release.id)
    batch = await node.put(SUBMITTER, payload, header)
    await node.seal(2)
    return Collection(
        pictures=pictures,
        dataset=dataset,
        training=training,
        privacy=privacy,
        generation=generation,
        clustering=clustering,
        filter=release,
        batch=batch,
    )


def write_objects(folder: Path, pictures: tuple[Picture, ...]) -> None:
    """Put images where a node keeps them."""
    for item in pictures:
        path = folder / item.file_hash.hex()[:2] / item.file_hash.hex()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(item.data)
