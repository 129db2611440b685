"""Server-sent events: the tip and the receipts, as they change.

Owns the text form (https://html.spec.whatwg.org/multipage/server-sent-events.html). A stream starts with the
present tip, so a client that reconnects has missed nothing that it cannot read from the API.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from aiohttp import web

from ..protocol.equivocation import Equivocation
from .context import SECURITY_HEADERS, ApiContext, context_of
from .events import Event, ReorgAlarm, StoreChanged, Subscription, TipChanged, TooManyListeners
from .limits import EVENT_KEEPALIVE_SECONDS, RETRY_AFTER_SECONDS
from .parameters import read_hash
from .problems import ApiProblem
from .views.equivocations import equivocation_view
from .views.network import alarm_view


def event_view(event: Event) -> tuple[str, dict[str, Any]]:
    """Return the name and the data of an event."""
    if isinstance(event, TipChanged):
        return "tip", {
            "height": event.height,
            "hash": event.hash.hex(),
            "time_ms": event.time_ms,
            "statements": event.statements,
            "disconnected": event.disconnected,
        }
    if isinstance(event, StoreChanged):
        return "store", {"state": "ok" if event.ok else "failing", "reason": event.reason}
    if isinstance(event, ReorgAlarm):
        return "alarm", alarm_view(event)
    if isinstance(event, Equivocation):
        return "equivocation", {"key": event.key.hex(), **equivocation_view(event)}
    return "receipt", {
        "id": event.id.hex(),
        "receipt": event.receipt,
        "height": event.height,
        "code": event.code,
    }


def encode_event(event: Event) -> bytes:
    """Return the bytes of one event."""
    name, data = event_view(event)
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


async def get_events(request: web.Request) -> web.StreamResponse:
    """Stream events until the client goes or the node stops; `?statement=ID` keeps only that receipt's."""
    context = context_of(request)
    text = request.query.get("statement")
    wanted = None if text is None else read_hash(text, "statement")
    try:
        with context.node.events.subscribe() as subscription:
            return await _stream(request, context, subscription, wanted)
    except TooManyListeners:
        raise ApiProblem(
            503,
            "too-many-listeners",
            "every place of an event listener is taken; poll instead, or try again",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        ) from None


async def _stream(
    request: web.Request, context: ApiContext, subscription: Subscription, wanted: bytes | None
) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    response.headers.update(SECURITY_HEADERS)
    await response.prepare(request)
    context.streams.add(subscription)
    try:
        tip = context.node.chain.tree.tip
        await response.write(
            encode_event(TipChanged(height=tip.height, hash=tip.hash, time_ms=tip.time_ms, statements=0))
        )
        while (chunk := await _next_chunk(subscription, wanted)) is not None:
            await response.write(chunk)
        await response.write_eof()
    except ConnectionResetError:
        pass
    finally:
        context.streams.discard(subscription)
    return response


async def _next_chunk(subscription: Subscription, wanted: bytes | None) -> bytes | None:
    """Return the next event's bytes, a comment when nothing happens for a while, None at the end."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(EVENT_KEEPALIVE_SECONDS):
            while (event := await subscription.next()) is not None:
                if wanted is None or getattr(event, "id", wanted) == wanted:
                    return encode_event(event)
            return None
    return b": still here\n\n"
