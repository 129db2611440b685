import asyncio
import re
import socket
import stat
from pathlib import Path

import aiohttp
import pytest

from facechain.node.api.context import ApiConfig
from facechain.node.api.events import QUEUED_EVENTS_MAX, EventHub, TipChanged
from facechain.node.api.routes import ROUTES
from facechain.node.api.server import ApiListenError, ApiServer
from facechain.node.api.token import TokenFileError, load_or_create_token
from facechain.node.private_files import TooOpen
from facechain.node.wire.limits import MAX_HTTP_FIELD_BYTES, MAX_HTTP_HEADERS, MAX_HTTP_LINE_BYTES
from support.api import TOKEN, Served, serve
from support.chain import SUBMITTER, make_stage
from support.deadline import eventually
from support.lone_node import LoneNode

TIP = TipChanged(height=1, hash=bytes(32), time_ms=0, statements=0)


async def test_openapi_document_lists_every_route() -> None:
    async with serve() as served:
        document = await served.get("/openapi.json")
        assert document["openapi"].startswith("3.1")
        documented = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
        assert documented == {(route.method, route.path) for route in ROUTES} | {("GET", "/openapi.json")}
        for path, item in document["paths"].items():
            for operation in item.values():
                named = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"}
                assert named == set(re.findall(r"{(\w+)}", path))
        operations = [op["operationId"] for item in document["paths"].values() for op in item.values()]
        assert len(operations) == len(set(operations))


async def test_every_documented_read_answers_in_its_media_type() -> None:
    async with serve() as served:
        block = await served.node.seal()
        values = {"block": "1", "hash": block.hash.hex(), "key": "0" * 64, "author": "0" * 64}
        values |= {"root": "0" * 64, "look": "0" * 64, "id": "0" * 64, "role": "producer"}
        for route in ROUTES:
            if route.method == "GET" and route.operation_id != "get_events":
                async with served.session.get(served.server.url + route.path.format(**values)) as response:
                    assert response.status in {200, 404}, route.path
                    if response.status == 200:
                        assert response.content_type in route.answers


async def test_metrics_are_prometheus_text() -> None:
    async with serve() as served:
        await served.node.seal(2)
        await served.get("/v1/status")
        text = await served.page("/metrics")
        assert "\nfacechain_height 2.0\n" in text
        assert 'facechain_http_requests_total{route="/v1/status",status="200"} 1.0' in text


async def _lines(response: aiohttp.ClientResponse, count: int) -> list[str]:
    async with asyncio.timeout(10):
        found: list[str] = []
        while len(found) < count:
            line = (await response.content.readline()).decode().strip()
            if line:
                found.append(line)
        return found


async def test_events_tell_tip_and_receipts_until_the_node_stops() -> None:
    async with serve() as served:
        async with served.session.get(f"{served.server.url}/v1/events") as response:
            assert response.content_type == "text/event-stream"
            assert (await _lines(response, 2))[0] == "event: tip"
            statement = await served.node.put(SUBMITTER, make_stage())
            await served.node.seal()
            told = await _lines(response, 4)
            assert told[0] == "event: tip"
            assert '"height":1' in told[1]
            assert f'"id":"{statement.id.hex()}","receipt":"sealed"' in told[3]
            await served.server.__aexit__(None, None, None)
            assert (await response.content.read()).strip() == b""
        assert len(served.node.events) == 0


async def test_events_of_one_statement_leave_out_the_others() -> None:
    async with serve() as served:
        first = await served.node.put(SUBMITTER, make_stage(name="one"))
        second = await served.node.put(SUBMITTER, make_stage(name="two"))
        url = f"{served.server.url}/v1/events?statement={second.id.hex()}"
        async with served.session.get(url) as response:
            await _lines(response, 2)
            await served.node.seal()
            told = await _lines(response, 4)
            assert second.id.hex() in told[3]
            assert first.id.hex() not in "".join(told)


async def test_a_listener_that_lags_is_cut_off_and_gives_up_its_place() -> None:
    hub = EventHub()
    with hub.subscribe() as slow:
        for _ in range(QUEUED_EVENTS_MAX + 1):
            hub.publish(TIP)
        assert len(hub) == 0
        assert len([event async for event in slow]) == QUEUED_EVENTS_MAX


async def _talk(served: Served, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.server.port)
    try:
        writer.write(data)
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    "request_bytes, statuses",
    [
        (b"", []),
        (b"GET /v1/status HTTP/1.1\r\nHost: x\r\nX-Slow: ", []),
        (b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n", [b"200"]),
    ],
    ids=["nothing sent", "headers never end", "kept connection"],
)
async def test_a_client_that_never_finishes_its_headers_is_closed(
    request_bytes: bytes, statuses: list[bytes]
) -> None:
    async with serve(idle_seconds=0.3) as served:
        told = await _talk(served, request_bytes)  # returns when the server closes
        assert re.findall(rb"HTTP/1\.1 (\d+)", told) == statuses


async def test_a_body_that_never_ends_is_408() -> None:
    async with serve(read_body_seconds=0.3) as served:
        head = (
            "POST /v1/statements HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n"
            f"Authorization: Bearer {TOKEN}\r\nContent-Length: 100\r\n\r\nabc"
        )
        answer = await _talk(served, head.encode())
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"request-timeout" in answer


async def test_over_long_request_lines_and_headers_are_refused() -> None:
    async with serve() as served:
        long_line = b"GET /" + b"a" * (MAX_HTTP_LINE_BYTES + 1)
        many = b"".join(b"X-%d: y\r\n" % number for number in range(MAX_HTTP_HEADERS + 1))
        for data in (
            long_line + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (MAX_HTTP_FIELD_BYTES + 1) + b"\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\n" + many + b"\r\n",
        ):
            assert (await _talk(served, data)).startswith(b"HTTP/1.0 400")


async def test_a_taken_port_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with LoneNode() as node:
            with pytest.raises(ApiListenError, match=f"127.0.0.1:{port}: expected a free address"):
                await ApiServer(node, ApiConfig(token=TOKEN, port=port)).__aenter__()


async def test_a_wrong_method_names_the_right_ones() -> None:
    async with serve() as served:
        status, answer, headers = await served.post(b"", path="/v1/status")
        assert (status, answer["error"]["code"]) == (405, "method-not-allowed")
        assert "GET" in headers["Allow"]


async def test_shutdown_ends_every_stream_and_thread() -> None:
    async with LoneNode() as node, aiohttp.ClientSession() as session:
        async with ApiServer(node, ApiConfig(token=TOKEN)) as server:
            response = await session.get(f"{server.url}/v1/events")
            await eventually(lambda: len(node.events) == 1, seconds=5, what="a listener")
        assert b"event: tip" in await response.content.read()
        response.close()
        assert len(node.events) == 0


def test_the_token_file_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "data" / "api-token"
    token = load_or_create_token(path)
    assert len(token) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create_token(path) == token


def test_an_open_or_empty_token_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "api-token"
    path.write_text("a" * 64)
    path.chmod(0o644)
    with pytest.raises(TooOpen):
        load_or_create_token(path)
    path.write_text("short")
    path.chmod(0o600)
    with pytest.raises(TokenFileError, match="expected 32 or more"):
        load_or_create_token(path)


def test_the_page_about_the_api_lists_every_route() -> None:
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(GET|POST|PUT|DELETE) (\S+)`", page, re.MULTILINE))
    assert listed == {(route.method, route.path) for route in ROUTES} | {("GET", "/openapi.json")}


@pytest.mark.parametrize(
    "head",
    [
        b"GET /search?q=\xff\xfe HTTP/1.1\r\nHost: x\r\n",
        b"GET /search?q=%ff%00 HTTP/1.1\r\nHost: x\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n",
        b"GET /v1/images/%ff HTTP/1.1\r\nHost: x\r\n",
        b"GET /v1/status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\n",
        b"GET /v1/status HTTP/1.1\r\nHost: x\r\nAuthorization: Basic \xff\r\n",
        b"POST /audit HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Type: multipart/form-data; boundary=\xff\r\n",
        b"POST /audit HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Type: multipart/form-data\r\n",
        b"POST /v1/statements HTTP/1.1\r\nHost: x\r\nContent-Length: -3\r\n",
        b"BREW /pot HTTP/1.1\r\nHost: x\r\n",
    ],
)
async def test_bytes_that_are_no_text_are_refused_and_never_a_fault(head: bytes) -> None:
    async with serve(read_token=head.startswith(b"GET /v1/status")) as served:
        answer = await _talk(served, head + b"Connection: close\r\n\r\nabc")
        assert re.match(rb"HTTP/1\.[01] 4\d\d ", answer), answer[:200]


async def test_more_requests_than_the_limit_are_sent_away_and_taken_again_later() -> None:
    head = (
        "POST /v1/statements HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n"
        f"Authorization: Bearer {TOKEN}\r\nContent-Length: 100\r\n\r\n"
    )
    async with serve(requests_max=2) as served:
        slow = [await asyncio.open_connection("127.0.0.1", served.server.port) for _ in range(2)]
        for _, writer in slow:
            writer.write(head.encode())

        async def status() -> int:
            async with served.session.get(f"{served.server.url}/v1/status") as response:
                return response.status

        async def busy() -> bool | None:
            return await status() == 503

        async def free() -> bool | None:
            return await status() == 200

        is_busy: bool = await eventually(busy, seconds=5, what="a busy node")
        error = (await served.get("/v1/status", status=503))["error"]
        assert error["code"] == "busy"
        for _, writer in slow:
            writer.close()
            await writer.wait_closed()
        is_free: bool = await eventually(free, seconds=5, what="a node that answers again")
        assert is_busy
        assert is_free
