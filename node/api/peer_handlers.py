"""Handlers of what the operator does about peers: name and forget them, ban and pardon them.

Changes need the token, as every write does, and are on disk before they are answered.
"""

from __future__ import annotations

import json
from typing import Any, Final

from aiohttp import web

from ..config_kinds import Endpoint, PeerPattern
from ..peer_admin import NamedPeer, TooManyPeers
from ..protocol.peer_bans import Ban
from ..wire.limits import BAN_SECONDS, MAX_BAN_REASON_BYTES
from .context import ApiContext, context_of
from .limits import BAN_SECONDS_MAX
from .parameters import read_body
from .problems import ApiProblem, bad_request
from .views.blocks import JsonObject
from .views.network import peer_view

JSON: Final = "application/json"
DEFAULT_REASON: Final = "banned by the operator"


async def get_peers(request: web.Request) -> web.Response:
    """Answer with the connected peers, those that the operator named, and how many addresses are known."""
    node = context_of(request).node
    known, worked = node.peer_control.address_counts
    return web.json_response(
        {
            "peers": [peer_view(peer) for peer in node.peers()],
            "named": [_named_view(peer) for peer in node.peer_control.named()],
            "addresses": {"known": known, "worked": worked},
        }
    )


async def post_peer(request: web.Request) -> web.Response:
    """Name a peer to stay connected to."""
    context = context_of(request)
    fields = await _fields(request, context, required={"peer"})
    endpoint = _endpoint(fields["peer"])
    try:
        is_new = await context.node.peer_control.add(endpoint.host, endpoint.port)
    except TooManyPeers as error:
        raise ApiProblem(409, "too-many-peers", str(error)) from error
    return web.json_response({"peer": str(endpoint), "named": True}, status=201 if is_new else 200)


async def delete_peer(request: web.Request) -> web.Response:
    """Forget a named peer, and end the connection to an address."""
    endpoint = _endpoint(request.query.get("peer", ""))
    if not await context_of(request).node.peer_control.remove(endpoint.host, endpoint.port):
        raise ApiProblem(
            404,
            "peer-not-found",
            "expected a peer that was named or is connected, by the HOST:PORT where it listens",
            got=str(endpoint),
        )
    return web.json_response({"peer": str(endpoint), "named": False})


async def get_bans(request: web.Request) -> web.Response:
    """Answer with the bans in force, those that end first at the top."""
    bans = sorted(context_of(request).node.peer_control.bans().items(), key=lambda item: item[1].until_ms)
    return web.json_response({"bans": [_ban_view(pattern, ban) for pattern, ban in bans]})


async def post_ban(request: web.Request) -> web.Response:
    """Keep a node key, an address or a network out."""
    context = context_of(request)
    fields = await _fields(request, context, required={"peer"}, optional={"reason", "seconds"})
    pattern = _pattern(fields["peer"])
    reason = fields.get("reason", DEFAULT_REASON)
    if not isinstance(reason, str) or not reason.isprintable():
        raise bad_request("reason", expected="one line of printable text", got=repr(reason)[:80])
    if (size := len(reason.encode(errors="replace"))) > MAX_BAN_REASON_BYTES:
        raise bad_request("reason", expected=f"at most {MAX_BAN_REASON_BYTES} bytes", got=f"{size} bytes")
    seconds = fields.get("seconds", BAN_SECONDS)
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 1 <= seconds <= BAN_SECONDS_MAX:
        raise bad_request(
            "seconds", expected=f"a whole number from 1 to {BAN_SECONDS_MAX}", got=str(seconds)[:80]
        )
    ban = await context.node.peer_control.ban(pattern, reason, seconds)
    return web.json_response(_ban_view(pattern, ban), status=201)


async def delete_ban(request: web.Request) -> web.Response:
    """End a ban."""
    pattern = _pattern(request.query.get("peer", ""))
    if not await context_of(request).node.peer_control.unban(pattern):
        raise ApiProblem(
            404, "ban-not-found", "expected what a ban is about, as GET /v1/bans names it", got=str(pattern)
        )
    return web.json_response({"peer": str(pattern), "banned": False})


def _named_view(peer: NamedPeer) -> JsonObject:
    host, port = peer.endpoint
    return {
        "peer": str(Endpoint(host=host, port=port)),
        "connected": peer.connected,
        "failures": peer.failures,
        "last_success_ms": peer.last_success_ms,
    }


def _ban_view(pattern: PeerPattern, ban: Ban) -> JsonObject:
    return {
        "peer": str(pattern),
        "reason": ban.reason,
        "since_ms": ban.since_ms,
        "until_ms": ban.until_ms,
        "by_operator": ban.by_operator,
    }


async def _fields(
    request: web.Request, context: ApiContext, *, required: set[str], optional: set[str] | None = None
) -> dict[str, Any]:
    """Read a JSON object with these fields and no others."""
    if request.content_type != JSON:
        raise ApiProblem(
            415,
            "media-type",
            f"expected Content-Type {JSON}, got {request.content_type}",
            expected=JSON,
            got=request.content_type,
        )
    body = await read_body(request, context.config.read_body_seconds)
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise bad_request("body", expected="a JSON object", got="something else") from error
    allowed = required | (optional or set())
    if not isinstance(fields, dict) or not required <= fields.keys() <= allowed:
        got = ", ".join(sorted(fields)) if isinstance(fields, dict) else type(fields).__name__
        raise bad_request("body", expected=f"an object with {', '.join(sorted(allowed))}", got=got[:80])
    return fields


def _endpoint(text: object) -> Endpoint:
    try:
        if isinstance(text, str) and (endpoint := Endpoint.parse(text)).port:
            return endpoint
    except ValueError:
        pass
    raise bad_request("peer", expected="HOST:PORT", got=str(text)[:80])


def _pattern(text: object) -> PeerPattern:
    try:
        if isinstance(text, str):
            return PeerPattern.parse(text)
    except ValueError:
        pass
    raise bad_request(
        "peer", expected="a node key of 64 hex digits, an address or a network", got=str(text)[:80]
    )
