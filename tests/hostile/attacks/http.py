"""Attacks on the HTTP port, and with HTTP on the peer port: slow, large, without a token, garbage."""

from __future__ import annotations

import asyncio
import contextlib

from facechain.node.wire.limits import (
    MAX_HTTP_BODY_BYTES,
    MAX_HTTP_FIELD_BYTES,
    MAX_HTTP_HEADERS,
    MAX_HTTP_LINE_BYTES,
)
from hostile.arena import Arena
from hostile.attacker import Socket
from hostile.registry import HELD, Seen, attack

REFUSED = frozenset(("400", "404", "413", "414", "431"))


async def api_says(arena: Arena, head: bytes, body: bytes = b"", seconds: float = 15) -> str:
    """Return the status code that the HTTP port answers with, "" when it closes without one."""
    reader, writer = await asyncio.open_connection(*arena.api_address, local_addr=(arena.source(), 0))
    try:
        with contextlib.suppress(OSError):
            writer.write(head)
            for start in range(0, len(body), 65_536):
                writer.write(body[start : start + 65_536])
                await writer.drain()
        async with asyncio.timeout(seconds):
            line = await reader.readline()
    except (TimeoutError, OSError):
        return ""
    finally:
        writer.transport.abort()
    return line.split(b" ")[1].decode() if b" " in line else ""


async def peer_port_says(arena: Arena, *headers: str, path: str = "/p2p") -> str:
    """Return the status code that the peer port answers an upgrade with."""
    sock = await Socket.open(*arena.address, arena.source())
    head = await sock.upgrade(*headers, path=path)
    sock.close()
    return head.split(" ")[1] if " " in head else ""


@attack(expects="413", covers=("http-body",), without="http-body")
async def large_http_body(arena: Arena) -> Seen:
    """A body one byte longer than the limit, on the one page that takes uploads without a token."""
    size = MAX_HTTP_BODY_BYTES + 1
    boundary = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    head = (
        "POST /audit HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        f"Content-Length: {size}\r\n\r\n"
    )
    code = await api_says(arena, head.encode(), boundary + bytes(size - len(boundary)))
    return Seen(reason=code)


@attack(expects="400 400", covers=("http-line",), without="http-line")
async def long_request_line(arena: Arena) -> Seen:
    """A request line of more than 4,096 bytes on either port."""
    path = "/" + "x" * (2 * MAX_HTTP_LINE_BYTES)
    api = await api_says(arena, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return Seen(reason=f"{api} {await peer_port_says(arena, path=path)}")


@attack(expects="400 400", covers=("http-field",), without="http-field")
async def long_http_field(arena: Arena) -> Seen:
    """A header of more than 4,096 bytes on either port."""
    field = "X-Long: " + "x" * (2 * MAX_HTTP_FIELD_BYTES)
    api = await api_says(arena, f"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n{field}\r\n\r\n".encode())
    return Seen(reason=f"{api} {await peer_port_says(arena, field)}")


@attack(expects="400 400", covers=("http-headers",), without="http-headers")
async def many_http_headers(arena: Arena) -> Seen:
    """More than 64 headers on either port."""
    fields = [f"X-{number}: 1" for number in range(3 * MAX_HTTP_HEADERS)]
    head = "\r\n".join(["GET /v1/status HTTP/1.1", "Host: localhost", *fields, "", ""])
    return Seen(reason=f"{await api_says(arena, head.encode())} {await peer_port_says(arena, *fields)}")


@attack(expects="401", covers=("manual-peers",), without="api-token")
async def writes_without_the_token(arena: Arena) -> Seen:
    """Naming peers, banning the honest miner and submitting, without the token and with a wrong one."""
    miner = (await arena.ask(arena.miner, "/v1/status"))["node_key"]
    codes = set()
    for headers in ({}, {"Authorization": "Bearer " + "0" * 64}):
        for path, content in (
            ("/v1/peers", {"peer": "127.0.0.1:9"}),
            ("/v1/bans", {"peer": miner}),
            ("/v1/statements", {}),
        ):
            url = arena.victim.api + path
            async with arena.session.post(url, json=content, headers=headers) as response:
                codes.add(str(response.status))
    return Seen(reason=" ".join(sorted(codes)), damage="a write was taken" if codes & {"200", "201"} else "")


@attack(expects=HELD, scaled=True, without="api-idle")
async def slow_loris_on_the_api(arena: Arena) -> Seen:
    """A hundred and fifty requests whose headers never end."""
    opened = [
        await asyncio.open_connection(*arena.api_address, local_addr=(arena.source(), 0)) for _ in range(150)
    ]
    for _, writer in opened:
        writer.write(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n")

    async def drip(writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while True:
                await asyncio.sleep(1.0)
                writer.write(b"X-A: 1\r\n")
                await writer.drain()

    drips = [asyncio.create_task(drip(writer)) for _, writer in opened]

    async def end(reader: asyncio.StreamReader) -> bool:
        try:
            async with asyncio.timeout(10):
                while await reader.read(4_096):
                    pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True

    ended = await asyncio.gather(*(end(reader) for reader, _ in opened))
    for task in drips:
        task.cancel()
    for _, writer in opened:
        writer.transport.abort()
    left = ended.count(False)
    return Seen(reason=HELD, damage=f"{left} of 150 are still open" if left else "")


@attack(expects="408", scaled=True, without="api-body-time")
async def slow_http_body(arena: Arena) -> Seen:
    """Uploads that stop after the first byte."""
    head = (
        b"POST /audit HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        b"Content-Length: 100000\r\n\r\n-"
    )
    codes = await asyncio.gather(*(api_says(arena, head, seconds=12) for _ in range(20)))
    return Seen(reason=" ".join(sorted(set(codes))))


@attack(expects=HELD, without="api-numbers")
async def garbage_on_the_api(arena: Arena) -> Seen:
    """Bytes that are no HTTP, paths that lead out, and numbers out of range."""
    codes = [
        await api_says(arena, item)
        for item in (
            b"\x16\x03\x01" + bytes(200) + b"\r\n\r\n",
            b"GET /v1/../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /v1/blocks/99999999999999999999999999 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /v1/blocks?limit=all HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /v1/blocks/-1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /v1/statements/zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"POST /v1/status HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        )
    ]
    bad = [code for code in codes if code and not code.startswith("4")]
    return Seen(reason=HELD, damage=f"answers {codes}" if bad else "")


@attack(expects=HELD, without="api-listeners")
async def event_stream_hoarding(arena: Arena) -> Seen:
    """Three hundred event streams that are never read: there is a limit, and other requests are answered."""
    opened = []
    for _ in range(300):
        reader, writer = await asyncio.open_connection(*arena.api_address, local_addr=(arena.source(), 0))
        writer.write(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        opened.append((reader, writer))
    codes: dict[str, int] = {}
    for reader, _ in opened:
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(5):
                line = (await reader.readline()).split(b" ")
                code = line[1].decode() if len(line) > 1 else "closed"
                codes[code] = codes.get(code, 0) + 1
    for _, writer in opened:
        writer.transport.abort()
    return Seen(reason=HELD, damage="" if codes.get("503") else f"all were taken: {codes}")
