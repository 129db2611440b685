"""The explorer's pages: handlers that put views into templates.

Owns the routes of the pages. They show what the JSON API says; nothing here changes anything.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from ..api.context import ApiContext, context_of
from ..api.limits import BLOCKS_PER_PAGE, FACES_PER_PAGE, SEARCH_CHARACTERS_MAX
from ..api.parameters import late_body, path_hash, query_uint, read_uint
from ..api.problems import ApiProblem, bad_request, not_found
from ..api.read_handlers import read_block_name
from ..api.snapshot import Snapshot
from ..api.views.accounts import account_view, proposals_view, role_entries, roles_view
from ..api.views.blocks import block_view, blocks_view, find_block
from ..api.views.equivocations import equivocations_view, key_view
from ..api.views.images import image_view
from ..api.views.network import live_status, peer_view, stored_status
from ..api.views.statements import Pooled, statement_view
from ..api.views.trail import trail_view
from ..genesis_file import params_to_json
from ..wire.limits import MAX_HTTP_BODY_BYTES
from .audit import audit, examine
from .faces import face_page, is_held, newest_faces
from .rendering import render, static_files

Page = Callable[[web.Request], Awaitable[web.StreamResponse]]
PAGE_MAX: Final = 10_000_000
STATIC_CACHE: Final = "public, max-age=31536000, immutable"
_HEX: Final = re.compile(r"[0-9a-f]{64}")


async def _page(request: web.Request, template: str, **values: Any) -> web.Response:
    """Render a page with what every page shows: the network and the tip."""
    status = live_status(context_of(request).node)
    return web.Response(
        text=render(template, status=status, path=request.path, **values), content_type="text/html"
    )


async def index(request: web.Request) -> web.Response:
    """The tip, the newest faces and the latest blocks."""
    text = request.query.get("before")
    before = None if text is None else read_uint(text, "before")
    context = context_of(request)

    def compute(snapshot: Snapshot) -> tuple[Any, Any]:
        listed = blocks_view(snapshot, before=before, limit=BLOCKS_PER_PAGE)
        return listed, newest_faces(snapshot, context.objects) if before is None else None

    listed, newest = await context.reader.view(compute)
    return await _page(request, "index.html", listed=listed, newest=newest, is_latest=before is None)


async def block(request: web.Request) -> web.Response:
    """One block with its faces beside height and hash (the paper's figure 10)."""
    at = read_block_name(request.match_info["block"])
    number = query_uint(request, "page", 1, maximum=PAGE_MAX, minimum=1)
    context = context_of(request)

    def compute(snapshot: Snapshot) -> tuple[Any, Any]:
        found = find_block(snapshot, at)[1]
        statements = () if found is None else found.body.statements
        faces = face_page(statements, context.objects, number=number, per_page=FACES_PER_PAGE)
        return block_view(snapshot, at), faces

    view, faces = await context.reader.view(compute)
    return await _page(request, "block.html", block=view, faces=faces)


async def statement(request: web.Request) -> web.Response:
    """One statement, with the faces of a batch."""
    statement_id = path_hash(request, "id")
    number = query_uint(request, "page", 1, maximum=PAGE_MAX, minimum=1)
    context = context_of(request)

    def compute(snapshot: Snapshot, pooled: Pooled) -> tuple[Any, Any]:
        found = snapshot.chain.statement(statement_id)
        held = pooled.statement if found is None else found[1]
        statements = () if held is None else (held,)
        faces = face_page(statements, context.objects, number=number, per_page=FACES_PER_PAGE)
        return statement_view(snapshot, statement_id, pooled), faces

    view, faces = await context.statement_view(statement_id, compute)
    return await _page(request, "statement.html", statement=view, faces=faces)


async def image(request: web.Request) -> web.Response:
    """One image with its trail (the paper's figure 11)."""
    digest = path_hash(request, "hash")
    context = context_of(request)

    def compute(snapshot: Snapshot) -> tuple[Any, Any, bool]:
        view = image_view(snapshot, digest)
        first = next((claim for claim in view["claims"] if not claim["pruned"]), None)
        if first is None:
            return view, {"steps": []}, False
        trail = trail_view(snapshot, bytes.fromhex(first["batch"]))
        return view, trail, is_held(context.objects, bytes.fromhex(first["file_hash"]))

    view, trail, held = await context.reader.view(compute)
    return await _page(request, "image.html", image=view, trail=trail, held=held)


async def account(request: web.Request) -> web.Response:
    """One public key: its roles and sequences."""
    key = path_hash(request, "key")
    context = context_of(request)
    view = await context.reader.view(
        lambda snapshot: account_view(snapshot, key, pooled_sequence=context.next_sequence(key, snapshot))
    )
    found = key_view(context.node.equivocations, key)
    return await _page(request, "account.html", account=view, equivocations=found)


async def network(request: web.Request) -> web.Response:
    """Peers, roles, proposals and parameters."""
    context = context_of(request)
    stored, roles, proposals = await context.reader.view(
        lambda snapshot: (stored_status(snapshot), roles_view(snapshot, None), proposals_view(snapshot))
    )
    return await _page(
        request,
        "network.html",
        checkpoint=stored["checkpoint"],
        roles=roles,
        proposals=proposals["proposals"],
        peers=[peer_view(peer) for peer in context.node.peers()],
        params=params_to_json(context.node.chain.params),
        equivocations=equivocations_view(context.node.equivocations),
    )


async def search(request: web.Request) -> web.Response:
    """Go to what a height, hash, id or key names."""
    wanted = request.query.get("q", "").strip().lower().replace(" ", "")
    if len(wanted) > SEARCH_CHARACTERS_MAX:
        raise bad_request("q", expected=f"at most {SEARCH_CHARACTERS_MAX} characters", got=len(wanted))
    if not wanted:
        return await _page(request, "search.html", wanted="", message="")
    place = await _find(context_of(request), wanted)
    if place is not None:
        return web.Response(status=303, headers={"Location": place})
    response = await _page(
        request,
        "search.html",
        wanted=wanted,
        message="expected a height, or 64 hex digits of a block, image, statement or key",
    )
    response.set_status(404)
    return response


async def _find(context: ApiContext, wanted: str) -> str | None:
    """Return the page of what `wanted` names."""
    if wanted.isascii() and wanted.isdigit() and len(wanted) < 20:
        height = int(wanted)
        known = await context.reader.view(lambda snapshot: height <= snapshot.height)
        return f"/block/{height}" if known else None
    if not _HEX.fullmatch(wanted):
        return None
    digest = bytes.fromhex(wanted)
    pool = context.node.pool
    if pool.get_by_id(digest) is not None or pool.dropped(digest) is not None:
        return f"/statement/{wanted}"
    return await context.reader.view(lambda snapshot: _find_hash(snapshot, digest))


def _find_hash(snapshot: Snapshot, digest: bytes) -> str | None:
    chain, name = snapshot.chain, digest.hex()
    if chain.sealed_header(digest) is not None:
        return f"/block/{name}"
    if chain.place_of(digest) is not None:
        return f"/statement/{name}"
    if chain.claims_of_pixels(digest, limit=1) or chain.claims_of_file(digest, limit=1):
        return f"/image/{name}"
    if any(key == digest for _, key, _ in role_entries(snapshot)) or snapshot.state.next_sequence(digest):
        return f"/account/{name}"
    return None


async def audit_form(request: web.Request) -> web.Response:
    """The page on which an image is dropped."""
    return await _page(request, "audit.html", result=None)


async def audit_image(request: web.Request) -> web.Response:
    """The verdict on a dropped image."""
    data = await _uploaded(request)
    context = context_of(request)
    upload = await context.reader.run(lambda: examine(data))
    result = await context.reader.view(lambda snapshot: audit(snapshot, upload))
    claims = result["claims"] or [item["claim"] for item in result["nearest"]]
    digests = [claim["file_hash"] for claim in claims if not claim["pruned"]]
    held = await context.reader.run(
        lambda: {name for name in digests if is_held(context.objects, bytes.fromhex(name))}
    )
    return await _page(request, "audit.html", result=result, held=held)


async def _uploaded(request: web.Request) -> bytes:
    """Return the bytes of the form's file field."""
    seconds = context_of(request).config.read_body_seconds
    if request.content_type != "multipart/form-data":
        raise bad_request("form", expected="multipart/form-data", got=request.content_type)
    try:
        async with asyncio.timeout(seconds):
            form = await request.post()
    except TimeoutError:
        raise late_body(seconds) from None
    except web.HTTPRequestEntityTooLarge:
        raise ApiProblem(
            413, "oversized", f"expected a form of at most {MAX_HTTP_BODY_BYTES} bytes, got more"
        ) from None
    except ValueError as error:
        raise bad_request("form", expected="multipart/form-data", got=str(error)) from error
    field = form.get("image")
    if not isinstance(field, web.FileField) or not (data := field.file.read()):
        raise bad_request("image", expected="a file", got="none; choose one and try again")
    return data


async def static(request: web.Request) -> web.Response:
    """One static file; its address carries the version of its content."""
    found = static_files().get(request.match_info["name"])
    if found is None:
        raise not_found("no-such-path", f"{request.path} is no file of the explorer", got=request.path)
    media_type, data = found
    return web.Response(
        body=data, content_type=media_type, charset="utf-8", headers={"Cache-Control": STATIC_CACHE}
    )


def _as_page(handler: Page) -> Page:
    """Show a problem as a page."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except ApiProblem as problem:
            response = await _page(request, "error.html", problem=problem)
            response.set_status(problem.status)
            response.headers.update(problem.headers)
            return response

    return answer


PAGES: Final[tuple[tuple[str, str, Page], ...]] = (
    ("GET", "/", index),
    ("GET", "/block/{block}", block),
    ("GET", "/statement/{id}", statement),
    ("GET", "/image/{hash}", image),
    ("GET", "/account/{key}", account),
    ("GET", "/network", network),
    ("GET", "/search", search),
    ("GET", "/audit", audit_form),
    ("POST", "/audit", audit_image),
)
"""Every page."""


def add_pages(app: web.Application) -> None:
    """Add the explorer's pages and its static files."""
    for method, path, handler in PAGES:
        app.router.add_route(method, path, _as_page(handler))
    app.router.add_get("/static/{name}", static)
