"""The API client against servers that honour the contract, and against some that do not."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from facechain.cli.answers import AnswerError, StatementStatus
from facechain.cli.client import NodeClient, NodeRefused, base_url
from facechain.cli.errors import CommandError, NotFoundError, RefusedError, UnreachableError, UsageError
from facechain.consensus.kinds import Kind
from facechain.consensus.payloads import Cancel
from facechain.consensus.signing import LedgerKey
from facechain.consensus.statement import sign_statement
from support.api_thread import ApiThread

ALICE = LedgerKey.from_seed(b"\x01" * 32)

Serve = Callable[[Callable[[web.Request], Any]], Any]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    servers: list[TestServer] = []

    async def start(handler: Callable[[web.Request], Any]) -> str:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        server = TestServer(app)
        await server.start_server()
        servers.append(server)
        return str(server.make_url(""))

    yield start
    for server in servers:
        await server.close()


async def test_every_typed_question_is_answered(node: ApiThread) -> None:
    node.seal()
    async with NodeClient(node.url, token=node.token) as client:
        status = await client.status()
        assert (status.network_id, status.height) == (node.genesis.network_id, 1)
        assert await client.params() == node.genesis.params
        account = await client.account(ALICE.public)
        assert (account.roles, account.next_sequence) == (("admin",), 0)
        assert len((await client.roles()).entries) == 3
        assert (await client.proposals()).entries == ()
        assert await client.checkpoint() is None
        assert (await client.block(1)).hash == status.tip
        assert (await client.block(status.tip)).height == 1
        with pytest.raises(NotFoundError, match="block-not-found"):
            await client.block(99)


async def test_receipts_rise_and_a_second_submission_is_recognised(node: ApiThread) -> None:
    statement = sign_statement(
        ALICE,
        node.genesis.network_id,
        payload=Cancel(note=""),
        kind=Kind.CANCEL,
        sequence=0,
        claimed_time_ms=0,
    )
    seen: list[StatementStatus] = []
    async with NodeClient(node.url, token=node.token) as client:
        assert (await client.submit(statement)).receipt == "queued"
        assert (await client.submit(statement)).receipt == "queued"

        def seal_one(status: StatementStatus) -> None:
            seen.append(status)
            node.seal()

        found = await client.wait(
            statement.id, confirmations=2, timeout_seconds=10, poll_seconds=0.01, progress=seal_one
        )
        assert (await client.submit(statement)).receipt == "confirmed"
    assert [item.receipt for item in seen] == ["queued", "sealed", "confirmed"]
    assert (found.height, found.confirmations) == (1, 2)


async def test_refusal_carries_the_rule(node: ApiThread) -> None:
    statement = sign_statement(
        ALICE, bytes(32), payload=Cancel(note=""), kind=Kind.CANCEL, sequence=0, claimed_time_ms=0
    )
    async with NodeClient(node.url, token=node.token) as client:
        with pytest.raises(NodeRefused) as refused:
            await client.submit(statement)
    assert refused.value.code == "bad-signature"


def answer(status: int, body: str, **headers: str) -> Callable[[web.Request], Any]:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status, text=body, headers=headers)

    return handler


async def test_waiting_ends_when_the_node_drops_the_statement(serve: Serve) -> None:
    body = {
        "id": "00" * 32,
        "receipt": "refused",
        "height": None,
        "confirmations": 0,
        "refused": {"code": "expired-statement", "message": "too late", "height": 1},
    }
    async with NodeClient(await serve(answer(200, json.dumps(body)))) as client:
        with pytest.raises(RefusedError, match="was dropped: expired-statement: too late"):
            await client.wait(bytes(32), confirmations=1, timeout_seconds=10)


@pytest.mark.parametrize(
    "status, body, error",
    [
        (200, "<html>", AnswerError),
        (200, "[]", AnswerError),
        (200, "{}", AnswerError),
        (200, '{"network_id": "zz"}', AnswerError),
        (200, "[" * 100_000, AnswerError),
        (404, "not here", AnswerError),
        (302, "", AnswerError),
        (401, '{"error": {"code": "unauthorized", "message": "no token"}}', RefusedError),
        (403, '{"error": {"code": "unauthorized-author", "message": "no"}}', NodeRefused),
        (503, '{"error": {"code": "stopping", "message": "bye"}}', UnreachableError),
        (500, '{"error": {"code": "internal", "message": "oh"}}', NodeRefused),
    ],
)
async def test_other_answers_are_named_errors(
    status: int, body: str, error: type[CommandError], serve: Serve
) -> None:
    async with NodeClient(await serve(answer(status, body)), token="t") as client:
        with pytest.raises(error):
            await client.status()


async def test_token_does_not_follow_a_redirect(serve: Serve) -> None:
    asked: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({})

    target = await serve(elsewhere)
    async with NodeClient(await serve(answer(302, "", Location=target)), token="t") as client:
        with pytest.raises(AnswerError, match="status 302"):
            await client.status()
    assert asked == []


async def test_retry_after_is_kept(serve: Serve) -> None:
    body = '{"error": {"code": "mempool-full", "message": "no room", "expected": 1, "got": 2}}'
    async with NodeClient(await serve(answer(429, body, **{"Retry-After": "30"}))) as client:
        with pytest.raises(NodeRefused, match="expected 1, got 2; try again in 30 s") as refused:
            await client.status()
    assert refused.value.retry_after_seconds == 30


async def test_silent_node_is_unreachable(serve: Serve) -> None:
    async def silent(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError("expected to wait for ever")

    async with NodeClient(await serve(silent), request_seconds=0.1) as client:
        with pytest.raises(UnreachableError, match="none in time"):
            await client.status()


async def test_answer_cut_short_is_unreachable(serve: Serve) -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"{")
        assert request.transport is not None
        request.transport.close()
        return response

    async with NodeClient(await serve(half)) as client:
        with pytest.raises(UnreachableError):
            await client.status()


@pytest.mark.parametrize(
    "api, url",
    [
        ("127.0.0.1:7441", "http://127.0.0.1:7441"),
        ("https://node.example/", "https://node.example"),
        ("http://[::1]:80", "http://[::1]:80"),
        ("http://host/base/", "http://host/base"),
    ],
)
def test_base_urls(api: str, url: str) -> None:
    assert base_url(api) == url


@pytest.mark.parametrize(
    "api", ["", "ftp://x", "http://", "http://h:99999", "http://h:0", "http://h?x=1", "http://h:x"]
)
def test_what_is_no_url(api: str) -> None:
    with pytest.raises(UsageError, match="--api"):
        base_url(api)
