"""The one table of the API's routes: what the server serves and what the OpenAPI document says.

Owns paths, access and descriptions. A route that is not here is neither served nor documented.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aiohttp import web

from . import peer_handlers as peers
from . import proof_handlers as proofs
from . import read_handlers as read
from . import write_handlers as write
from .event_stream import get_events
from .limits import BLOCKS_PER_PAGE_MAX, LOOK_BITS, LOOKS_FOUND_MAX

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Access(StrEnum):
    """Who may call a route."""

    OPEN = "open"
    """Anybody, always."""
    READ = "read"
    """Anybody, unless the operator asked for the token on reads."""
    WRITE = "write"
    """Only with the token."""
    ADMIN = "admin"
    """Only with the admin token, and from this machine or where the operator allows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One parameter of a query string."""

    name: str
    about: str
    maximum: int | None = None
    """Given for numbers; a parameter without it is text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One row of the table."""

    method: str
    path: str
    """With `{name}` for what varies, as both aiohttp and OpenAPI have it."""
    handler: Handler
    summary: str
    access: Access = Access.READ
    query: tuple[Query, ...] = ()
    answers: tuple[str, ...] = ("application/json",)
    """Media types of a good answer."""
    takes: tuple[str, ...] = ()
    """Media types of the request's body."""
    statuses: tuple[int, ...] = (200,)
    """Good answers."""
    errors: tuple[int, ...] = ()
    """Errors beyond those that every route has."""

    @property
    def operation_id(self) -> str:
        """The handler's name, which is unique."""
        return str(self.handler.__name__)


JSON: Final = "application/json"
OCTETS: Final = "application/octet-stream"


def _get(path: str, handler: Handler, summary: str, **fields: object) -> Route:
    return Route(method="GET", path=path, handler=handler, summary=summary, **fields)  # type: ignore[arg-type]


ROUTES: Final[tuple[Route, ...]] = (
    _get("/v1/status", read.get_status, "The node: network, tip, progress, mempool, mining"),
    _get("/v1/params", read.get_params, "Consensus parameters"),
    _get("/v1/genesis", read.get_genesis, "The genesis, encoded or as JSON", answers=(JSON, OCTETS)),
    _get("/v1/accounts/{key}", read.get_account, "Roles and sequences of a public key"),
    _get(
        "/v1/roles",
        read.get_roles,
        "Who holds which role, and who ever did",
        query=(
            Query(name="height", about="block for which a role counts; default: the next", maximum=2**63 - 1),
        ),
    ),
    _get("/v1/proposals", read.get_proposals, "Role proposals and their approvals"),
    _get("/v1/checkpoint", read.get_checkpoint, "The highest checkpoint that reached the quorum"),
    _get("/v1/upgrade", read.get_upgrade, "Protocol versions: in force, known here, scheduled, asked for"),
    _get(
        "/v1/blocks",
        read.get_blocks,
        "Block summaries, newest first",
        query=(
            Query(name="before", about="only blocks below this height", maximum=2**63 - 1),
            Query(name="limit", about="how many", maximum=BLOCKS_PER_PAGE_MAX),
        ),
    ),
    _get("/v1/blocks/{block}", read.get_block, "One block by height or hash", errors=(404,)),
    _get(
        "/v1/headers/{hash}",
        read.get_header,
        "Header and seal, 224 bytes, of any known block",
        answers=(OCTETS,),
        errors=(404,),
    ),
    _get(
        "/v1/statements/{id}",
        read.get_statement,
        "A statement, its receipt and confirmations; encoded when octets are accepted",
        answers=(JSON, OCTETS),
        errors=(404,),
    ),
    _get(
        "/v1/batches/by-root/{author}/{root}",
        read.get_batches_by_root,
        "Ids of an author's batches with a records root",
    ),
    _get(
        "/v1/images/{hash}",
        read.get_image,
        "Every registration of a pixel hash or file hash, oldest first",
        errors=(404,),
    ),
    _get(
        "/v1/looks/{look}",
        read.get_looks,
        "Registered images nearest to a perceptual hash",
        query=(
            Query(name="max_distance", about="differing bits at most", maximum=LOOK_BITS),
            Query(name="limit", about="how many", maximum=LOOKS_FOUND_MAX),
        ),
    ),
    _get(
        "/v1/evidence/{hash}",
        read.get_evidence,
        "A self-contained proof of one registration, to be checked offline",
        query=(Query(name="claim", about="which registration, from 0, oldest first", maximum=2**31),),
        answers=(OCTETS,),
        errors=(404,),
    ),
    _get(
        "/v1/proofs/roles/{role}/{key}",
        proofs.get_role_proof,
        "The proof of a key's role at every height, to be checked offline",
        answers=(OCTETS,),
        errors=(404,),
    ),
    _get(
        "/v1/proofs/headers",
        proofs.get_header_proofs,
        "Headers with the proof of their seals' authority, for light clients",
        query=(
            Query(name="first", about="height of the first header; default: 1", maximum=2**63 - 1),
            Query(name="limit", about="how many", maximum=proofs.HEADERS_PROVEN_MAX),
        ),
        answers=(OCTETS,),
        errors=(404,),
    ),
    _get(
        "/v1/stages/{id}/trail",
        read.get_trail,
        "The steps that lead to a batch or stage",
        errors=(404,),
    ),
    _get(
        "/v1/equivocations",
        read.get_equivocations,
        "Keys that sealed or signed two things in one place, with evidence",
    ),
    _get("/v1/peers", peers.get_peers, "Connected peers, and those that the operator named"),
    Route(
        method="POST",
        path="/v1/peers",
        handler=peers.post_peer,
        summary="Name a peer to stay connected to",
        access=Access.ADMIN,
        takes=(JSON,),
        statuses=(200, 201),
        errors=(403, 408, 409, 413, 415),
    ),
    Route(
        method="DELETE",
        path="/v1/peers",
        handler=peers.delete_peer,
        summary="Forget a named peer, and end the connection to it",
        access=Access.ADMIN,
        query=(Query(name="peer", about="HOST:PORT where it listens"),),
        errors=(403, 404),
    ),
    _get("/v1/bans", peers.get_bans, "Who is kept out, why and until when"),
    Route(
        method="POST",
        path="/v1/bans",
        handler=peers.post_ban,
        summary="Keep a node key, an address or a network out",
        access=Access.ADMIN,
        takes=(JSON,),
        statuses=(201,),
        errors=(403, 408, 413, 415),
    ),
    Route(
        method="DELETE",
        path="/v1/bans",
        handler=peers.delete_ban,
        summary="End a ban",
        access=Access.ADMIN,
        query=(Query(name="peer", about="node key, address or network of the ban"),),
        errors=(403, 404),
    ),
    Route(
        method="POST",
        path="/v1/statements",
        handler=write.post_statements,
        summary="Submit one statement, or up to 256 as a canonical MessagePack array",
        access=Access.WRITE,
        takes=(write.ONE, write.MANY),
        statuses=(200, 202, 207),
        errors=(403, 408, 409, 413, 415, 422, 429, 503),
    ),
    _get(
        "/v1/objects/{hash}",
        read.get_object,
        "An image that this node holds, by file hash",
        answers=("image/png", "image/webp"),
        errors=(404,),
    ),
    Route(
        method="PUT",
        path="/v1/objects/{hash}",
        handler=write.put_object,
        summary="Keep an image of a public batch that is registered or waits here",
        access=Access.WRITE,
        takes=(OCTETS,),
        statuses=(200, 201),
        errors=(403, 404, 408, 413, 422, 507),
    ),
    _get(
        "/v1/events",
        get_events,
        "Server-sent events: tip and receipts",
        query=(Query(name="statement", about="only receipts of this statement id"),),
        answers=("text/event-stream",),
        errors=(503,),
    ),
    _get("/metrics", read.get_metrics, "Prometheus metrics", answers=("text/plain",)),
    _get(
        "/healthz",
        read.get_health,
        "Whether the node can read its chain and write to it",
        access=Access.OPEN,
        errors=(503,),
    ),
)
"""Every route of the API but the document that is made of this table."""
