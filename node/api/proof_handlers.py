"""Handlers of the JSON API that answer with proofs for light clients: binary, checked by whoever asks."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from ...consensus.kinds import Role
from ...consensus.proof_files import encode_frames
from ..evidence import EvidenceUnavailable
from ..light_proofs import prove_role
from .context import context_of
from .parameters import path_hash, query_uint
from .problems import bad_request, not_found
from .snapshot import Snapshot

HEADERS_PROVEN: Final = 500
HEADERS_PROVEN_MAX: Final = 5_000
"""Headers of one answer, about 2 MiB; the way back from the tip costs more than they do."""

OCTETS: Final = "application/octet-stream"


async def get_role_proof(request: web.Request) -> web.Response:
    """Answer with the proof of what the tip's state knows of a key in a role."""
    name, key = request.match_info["role"], path_hash(request, "key")
    role = next((role for role in Role if role.label == name), None)
    if role is None:
        raise bad_request("role", expected=", ".join(role.label for role in Role), got=name[:80])

    def prove(snapshot: Snapshot) -> bytes:
        try:
            return prove_role(snapshot.chain, role, key)
        except EvidenceUnavailable as error:
            raise not_found(error.code, error.diagnostics(), got=key.hex()) from error

    data = await context_of(request).reader.view(prove)
    return web.Response(body=data, content_type=OCTETS)


async def get_header_proofs(request: web.Request) -> web.Response:
    """Answer with proven headers from a height on, lowest first; nothing above the tip."""
    first = query_uint(request, "first", 1, minimum=1)
    limit = query_uint(request, "limit", HEADERS_PROVEN, maximum=HEADERS_PROVEN_MAX, minimum=1)

    context = context_of(request)

    def prove(snapshot: Snapshot) -> bytes:
        try:
            return encode_frames(context.headers.prove(snapshot.chain, first, limit))
        except EvidenceUnavailable as error:
            raise not_found(error.code, error.diagnostics(), got=first) from error

    data = await context.reader.view(prove)
    return web.Response(body=data, content_type=OCTETS)
