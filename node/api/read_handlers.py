"""Handlers of the JSON API that only read: parameters in, a view out."""

from __future__ import annotations

import re
from typing import Final

from aiohttp import web

from ..evidence import EvidenceUnavailable, build_evidence
from ..genesis_file import params_to_json
from .context import context_of
from .limits import (
    BATCHES_BY_ROOT_MAX,
    BLOCKS_PER_PAGE,
    BLOCKS_PER_PAGE_MAX,
    LOOK_BITS,
    LOOK_MATCH_DISTANCE,
    LOOKS_FOUND_DEFAULT,
    LOOKS_FOUND_MAX,
    RETRY_AFTER_SECONDS,
)
from .objects import media_type
from .parameters import path_hash, query_uint, read_hash, read_uint, wants_bytes
from .problems import ApiProblem, bad_request, not_found
from .snapshot import Snapshot
from .views.accounts import account_view, proposals_view, roles_view
from .views.blocks import block_view, blocks_view
from .views.equivocations import equivocations_view
from .views.images import find_places, image_view, looks_view
from .views.network import genesis_view, live_status, stored_status
from .views.statements import statement_bytes, statement_view
from .views.trail import trail_view
from .views.upgrades import upgrades_view

OCTETS: Final = "application/octet-stream"
_DIGITS: Final = re.compile(r"[0-9]{1,19}")
_IMMUTABLE: Final = "public, max-age=31536000, immutable"


def _octets(data: bytes) -> web.Response:
    return web.Response(body=data, content_type=OCTETS)


async def get_status(request: web.Request) -> web.Response:
    """Answer with the node's status."""
    context = context_of(request)
    stored = await context.reader.view(stored_status)
    return web.json_response({**live_status(context.node), **stored})


async def get_params(request: web.Request) -> web.Response:
    """Answer with the consensus parameters."""
    return web.json_response(params_to_json(context_of(request).node.chain.params))


async def get_genesis(request: web.Request) -> web.Response:
    """Answer with the genesis: encoded when asked for octets, else as JSON."""
    genesis = context_of(request).node.chain.genesis
    return _octets(genesis.encode()) if wants_bytes(request) else web.json_response(genesis_view(genesis))


async def get_account(request: web.Request) -> web.Response:
    """Answer with a key's roles and sequences."""
    key = path_hash(request, "key")
    context = context_of(request)
    return web.json_response(
        await context.reader.view(
            lambda snapshot: account_view(snapshot, key, pooled_sequence=context.next_sequence(key, snapshot))
        )
    )


async def get_roles(request: web.Request) -> web.Response:
    """Answer with all role entries."""
    text = request.query.get("height")
    height = None if text is None else read_uint(text, "height")
    return web.json_response(
        await context_of(request).reader.view(lambda snapshot: roles_view(snapshot, height))
    )


async def get_proposals(request: web.Request) -> web.Response:
    """Answer with the role proposals."""
    return web.json_response(await context_of(request).reader.view(proposals_view))


async def get_checkpoint(request: web.Request) -> web.Response:
    """Answer with the highest checkpoint; `null` when there is none."""
    return web.json_response(await context_of(request).reader.view(stored_status))


async def get_upgrade(request: web.Request) -> web.Response:
    """Answer with the protocol versions in force, known, scheduled and asked for."""
    context = context_of(request)
    versions = context.node.chain.versions
    return web.json_response(await context.reader.view(lambda snapshot: upgrades_view(snapshot, versions)))


async def get_equivocations(request: web.Request) -> web.Response:
    """Answer with the keys that said two things in one place, those that did it last first."""
    return web.json_response(equivocations_view(context_of(request).node.equivocations))


async def get_blocks(request: web.Request) -> web.Response:
    """Answer with a page of block summaries, newest first."""
    text = request.query.get("before")
    before = None if text is None else read_uint(text, "before")
    limit = query_uint(request, "limit", BLOCKS_PER_PAGE, maximum=BLOCKS_PER_PAGE_MAX, minimum=1)
    return web.json_response(
        await context_of(request).reader.view(
            lambda snapshot: blocks_view(snapshot, before=before, limit=limit)
        )
    )


def read_block_name(text: str) -> int | bytes:
    """Read a height or a block hash; ApiProblem otherwise."""
    return int(text) if _DIGITS.fullmatch(text) else read_hash(text, "block")


async def get_block(request: web.Request) -> web.Response:
    """Answer with one block by height or hash."""
    at = read_block_name(request.match_info["block"])
    return web.json_response(await context_of(request).reader.view(lambda snapshot: block_view(snapshot, at)))


async def get_header(request: web.Request) -> web.Response:
    """Answer with the 224 bytes of a sealed header, whichever branch it is on."""
    block_hash = path_hash(request, "hash")
    sealed = context_of(request).node.chain.sealed_header(block_hash)
    if sealed is None:
        raise not_found(
            "block-not-found", f"header {block_hash.hex()} is not known here", got=block_hash.hex()
        )
    return _octets(sealed.encode())


async def get_statement(request: web.Request) -> web.Response:
    """Answer with a statement and its receipt, or with its encoded bytes."""
    statement_id = path_hash(request, "id")
    context = context_of(request)
    if wants_bytes(request):
        return _octets(
            await context.statement_view(
                statement_id, lambda snapshot, pooled: statement_bytes(snapshot, statement_id, pooled)
            )
        )
    return web.json_response(
        await context.statement_view(
            statement_id, lambda snapshot, pooled: statement_view(snapshot, statement_id, pooled)
        )
    )


async def get_batches_by_root(request: web.Request) -> web.Response:
    """Answer with the ids of an author's batches that have a records root, on the chain or waiting."""
    author, root = path_hash(request, "author"), path_hash(request, "root")
    context = context_of(request)
    sealed = await context.reader.view(lambda snapshot: snapshot.chain.batches_of(author, root))
    pool = context.node.pool
    waiting = [
        item.id
        for item in (pool.get(leaf) for leaf in pool.leaves())
        if item is not None
        and item.author == author
        and item.header.batch is not None
        and item.header.batch.records_root == root
    ]
    ids = list(dict.fromkeys([*sealed, *waiting]))[:BATCHES_BY_ROOT_MAX]
    return web.json_response({"ids": [item.hex() for item in ids]})


async def get_image(request: web.Request) -> web.Response:
    """Answer with every registration of a pixel hash or file hash."""
    digest = path_hash(request, "hash")
    return web.json_response(
        await context_of(request).reader.view(lambda snapshot: image_view(snapshot, digest))
    )


async def get_looks(request: web.Request) -> web.Response:
    """Answer with the registered images that look most like a perceptual hash."""
    look = path_hash(request, "look")
    distance = query_uint(request, "max_distance", LOOK_MATCH_DISTANCE, maximum=LOOK_BITS)
    limit = query_uint(request, "limit", LOOKS_FOUND_DEFAULT, maximum=LOOKS_FOUND_MAX, minimum=1)
    return web.json_response(
        await context_of(request).reader.view(
            lambda snapshot: looks_view(snapshot, look, max_distance=distance, limit=limit)
        )
    )


async def get_evidence(request: web.Request) -> web.Response:
    """Answer with a self-contained proof of one claim of a pixel hash (or file hash)."""
    digest = path_hash(request, "hash")
    number = query_uint(request, "claim", 0)

    def build(snapshot: Snapshot) -> bytes:
        places = find_places(snapshot, digest)[1]
        if number >= len(places):
            raise bad_request("claim", expected=f"0 to {len(places) - 1}", got=number)
        try:
            return build_evidence(snapshot.chain, places[number])
        except EvidenceUnavailable as error:
            raise not_found(error.code, error.diagnostics(), got=digest.hex()) from error

    response = _octets(await context_of(request).reader.view(build))
    response.headers["Content-Disposition"] = f'attachment; filename="{digest.hex()[:16]}.fcproof"'
    return response


async def get_trail(request: web.Request) -> web.Response:
    """Answer with the steps that lead to a batch or stage."""
    statement_id = path_hash(request, "id")
    return web.json_response(
        await context_of(request).reader.view(lambda snapshot: trail_view(snapshot, statement_id))
    )


async def get_object(request: web.Request) -> web.Response:
    """Answer with a held image; 404 `object-not-available` when this node does not hold it."""
    digest = path_hash(request, "hash")
    context = context_of(request)
    objects = context.objects
    data = None if objects is None else await context.reader.run(lambda: objects.get(digest))
    if data is None:
        raise ApiProblem(
            404,
            "object-not-available",
            f"this node does not hold the image {digest.hex()}; that says nothing about its registration",
            got=digest.hex(),
        )
    return web.Response(
        body=data,
        content_type=media_type(data),
        headers={"Cache-Control": _IMMUTABLE, "ETag": f'"{digest.hex()}"'},
    )


async def get_metrics(request: web.Request) -> web.Response:
    """Answer with the Prometheus exposition."""
    return web.Response(
        body=context_of(request).metrics.render(),
        headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
    )


async def get_health(request: web.Request) -> web.Response:
    """Answer 200 while the node can read its chain and write to it; never needs a token."""
    context = context_of(request)
    height = await context.reader.view(lambda snapshot: snapshot.height)
    trouble = context.node.store_trouble()
    if trouble is not None:
        raise ApiProblem(
            503,
            "store-unavailable",
            f"the chain can be read to height {height}, but the store takes no changes: {trouble.reason}",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )
    return web.json_response({"status": "ok", "height": height})
