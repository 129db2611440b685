"""Handlers that change something: submitting statements and keeping images. Both need the token."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from ...consensus.encoding import as_bytes, as_list, unpack
from ...consensus.errors import ConsensusError, DecodeError
from ...consensus.statement import Statement
from ..mempool import Submission
from .context import ApiContext, context_of, pooled_batch_holds
from .limits import STATEMENTS_PER_REQUEST_MAX
from .parameters import path_hash, read_body
from .problems import ApiProblem, problem_of
from .snapshot import Snapshot
from .views.statements import receipt_of

ONE: Final = "application/octet-stream"
MANY: Final = "application/x-facechain-statements"
TOO_MANY: Final = 429

Item = Statement | ApiProblem


async def post_statements(request: web.Request) -> web.Response:
    """Take one statement (octets) or many (a canonical array of them) into the durable mempool."""
    context = context_of(request)
    if request.content_type not in {ONE, MANY}:
        raise ApiProblem(
            415,
            "media-type",
            f"expected Content-Type {ONE} or {MANY}, got {request.content_type}",
            expected=f"{ONE} or {MANY}",
            got=request.content_type,
        )
    # Also who has to wait is heard out: clients take an answer in the middle of their request for a failure.
    body = await read_body(request, context.config.read_body_seconds)
    if request.content_type == MANY:
        _check_room(context, None)
    pool = context.node.pool
    encoded = [body] if request.content_type == ONE else _split(body)
    first = _decode(encoded[0], context.node.chain.params.max_statement_bytes)
    beyond: list[ApiProblem] = []
    if isinstance(first, Statement) and pool.get_by_id(first.id) is None:
        room = _check_room(context, first.author)
        beyond = [problem_of(pool.wait(pool.room(time.monotonic())))] * len(encoded[room:])
        del encoded[room:]
    with context.load.taking(len(encoded)):
        rest = await context.reader.run(lambda: _decode_all(context, encoded[1:]))
        results = [*await _submit(context, [first, *rest]), *beyond]
    if request.content_type == MANY:
        return _many_response(results)
    (result,) = results
    if isinstance(result, ApiProblem):
        raise result
    return web.json_response(result, status=result["status"])


def _check_room(context: ApiContext, author: bytes | None) -> int:
    """Refuse a request as a whole, before the work that its statements make, when its author has to wait.

    Returns how many statements there is room for; what is beyond that is not even decoded.
    """
    pool, coming = context.node.pool, context.load.statements
    limits = pool.room(time.monotonic())
    full = pool.backpressure(author, limits, coming=coming)
    if full is not None:
        raise problem_of(full)
    return pool.allowance.room(author, limits, coming=coming)


def _split(body: bytes) -> list[bytes]:
    try:
        values = as_list(
            unpack(body, max_bytes=len(body), max_items=STATEMENTS_PER_REQUEST_MAX),
            "statements",
            max_items=STATEMENTS_PER_REQUEST_MAX,
            min_items=1,
        )
        return [as_bytes(value, "statement") for value in values]
    except DecodeError as error:
        raise problem_of(error) from error


def _many_response(results: Sequence[dict[str, Any] | ApiProblem]) -> web.Response:
    """Answer 202 when every statement is held, 207 when some are not; each has its own result.

    Raises:
        ApiProblem: 429; all of them have to wait.
    """
    waits = [result for result in results if isinstance(result, ApiProblem) and result.status == TOO_MANY]
    if len(waits) == len(results):
        raise waits[0]
    items = []
    headers: dict[str, str] = {}
    for result in results:
        if isinstance(result, ApiProblem):
            items.append({"status": result.status, "error": result.error()})
            headers.update(result.headers)
        else:
            items.append(result)
    held = not any(isinstance(result, ApiProblem) for result in results)
    return web.json_response({"results": items}, status=202 if held else 207, headers=headers)


def _decode_all(context: ApiContext, encoded: Sequence[bytes]) -> list[Item]:
    return [_decode(data, context.node.chain.params.max_statement_bytes) for data in encoded]


def _decode(data: bytes, limit: int) -> Item:
    if len(data) > limit:
        return ApiProblem(
            413,
            "oversized",
            f"statement: expected at most {limit} bytes, got {len(data)}; split the batch",
            expected=limit,
            got=len(data),
        )
    try:
        return Statement.decode(data, max_bytes=limit)
    except DecodeError as error:
        return problem_of(error)


async def _submit(context: ApiContext, items: Sequence[Item]) -> list[dict[str, Any] | ApiProblem]:
    """Return the result of every item: those on the chain already, those held now, and the refused."""
    statements = [item for item in items if isinstance(item, Statement)]
    sealed = await context.reader.view(lambda snapshot: _sealed_results(snapshot, context, statements))
    offered = [item for item in statements if item.id not in sealed]
    answers = await context.node.submit(offered) if offered else ()
    refused = [answer.statement for answer in answers if not answer.queued]
    following: dict[bytes, int] = {}
    if refused:

        def look(snapshot: Snapshot) -> dict[bytes, dict[str, Any]]:
            following.update({item.author: context.next_sequence(item.author, snapshot) for item in refused})
            # A block may have taken one between the first look and the mempool's answer: that is no refusal.
            return _sealed_results(snapshot, context, refused)

        sealed |= await context.reader.view(look)
    by_item = {
        id(statement): _result(context, answer, following)
        for statement, answer in zip(offered, answers, strict=True)
    }
    results: list[dict[str, Any] | ApiProblem] = []
    for item in items:
        if isinstance(item, ApiProblem):
            results.append(item)
        else:
            results.append(sealed[item.id] if item.id in sealed else by_item[id(item)])
    return results


def _sealed_results(
    snapshot: Snapshot, context: ApiContext, statements: Sequence[Statement]
) -> dict[bytes, dict[str, Any]]:
    """Return the present receipts of statements that are on the chain already."""
    found = {}
    for statement in statements:
        place = snapshot.chain.place_of(statement.id)
        if place is not None:
            confirmations = snapshot.confirmations(place.height)
            receipt = receipt_of(place, confirmations, context.pooled(statement.id))
            found[statement.id] = {
                "status": 200,
                "id": statement.id.hex(),
                "leaf": statement.leaf.hex(),
                "receipt": receipt,
                "height": place.height,
                "confirmations": confirmations,
            }
    return found


def _result(
    context: ApiContext, answer: Submission, following: dict[bytes, int]
) -> dict[str, Any] | ApiProblem:
    statement = answer.statement
    if not answer.queued:
        refusal = answer.refusal
        if refusal is None:
            raise ConsensusError("internal", "a refused statement: expected the reason, got none")
        return problem_of(refusal, following=following.get(statement.author))
    receipt = receipt_of(None, 0, context.pooled(statement.id)) if answer.known else "queued"
    return {
        "status": 200 if answer.known else 202,
        "id": statement.id.hex(),
        "leaf": statement.leaf.hex(),
        "receipt": receipt,
    }


async def put_object(request: web.Request) -> web.Response:
    """Keep an image of a registered or waiting public batch."""
    digest = path_hash(request, "hash")
    context = context_of(request)
    objects = context.objects
    if objects is None:
        raise ApiProblem(404, "objects-disabled", "this node keeps no images; start it with an object folder")
    data = await read_body(request, context.config.read_body_seconds)
    waiting = context.pooled_batches()
    public = await context.reader.view(
        lambda snapshot: (
            _is_public(snapshot, digest) or any(pooled_batch_holds(payload, digest) for payload in waiting)
        )
    )
    if not public:
        raise ApiProblem(
            403,
            "not-registered",
            "expected the image of a public batch that is registered or waits here; submit the batch first",
            got=digest.hex(),
        )
    try:
        created = await context.reader.run(lambda: objects.put(digest, data))
    except ConsensusError as error:
        raise problem_of(error) from error
    except OSError as error:
        raise ApiProblem(
            507,
            "object-folder",
            f"expected room for an image of {len(data)} bytes, got: {error.strerror or error}",
            expected=len(data),
        ) from error
    return web.json_response({"hash": digest.hex(), "size_bytes": len(data)}, status=201 if created else 200)


def _is_public(snapshot: Snapshot, digest: bytes) -> bool:
    """Tell whether a registered public batch holds this file hash."""
    for place in snapshot.chain.claims_of_file(digest, limit=1):
        statement = snapshot.chain.statement_at(place.place)
        if statement is not None and statement.header.batch is not None:
            return statement.header.batch.public
    return False
