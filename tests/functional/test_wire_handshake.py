"""Handshakes on real sockets: relays, other networks, oneself, silence and strangers, refused by name."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from facechain.node.wire.connection import Connection
from facechain.node.wire.faults import (
    CertificateMismatch,
    ConnectFailed,
    ConnectionClosed,
    HandshakeError,
    HandshakeRefused,
    HandshakeTimeout,
    ListenFailed,
    Reason,
    SelfConnection,
    VersionMismatch,
    WrongNetwork,
)
from facechain.node.wire.limits import ConnectionLimits
from facechain.node.wire.tls import client_context, open_identity, server_context
from facechain.node.wire.transport import Listener, connect
from support.deadline import eventually
from support.ports import free_ports
from support.wire import (
    NETWORK_ID,
    OTHER_NETWORK_ID,
    QUICK,
    Failures,
    listening,
    local_node,
    tls_relay,
)

SECONDS = 10.0
HASTY = dataclasses.replace(QUICK, handshake_seconds=0.3, connect_seconds=0.5, close_seconds=0.2)


async def refused_by(failures: Failures) -> HandshakeError:
    async with asyncio.timeout(SECONDS):
        return await failures.refused.get()


async def test_a_relay_in_the_middle_is_refused_by_both_sides(tmp_path: Path) -> None:
    failures = Failures()
    honest, relay = open_identity(tmp_path / "honest"), open_identity(tmp_path / "relay")
    async with (
        listening(tmp_path / "honest", failures.serve, on_refused=failures.on_refused) as listener,
        tls_relay(server_context(relay), client_context(), listener.port) as relay_port,
    ):
        with pytest.raises(CertificateMismatch) as mine:
            await connect("127.0.0.1", relay_port, local=local_node(2), timeouts=QUICK)
        theirs = await refused_by(failures)
    assert (mine.value.expected, mine.value.got) == (relay.certificate_hash, honest.certificate_hash)
    assert isinstance(theirs, CertificateMismatch)
    assert (theirs.expected, theirs.got) == (honest.certificate_hash, relay.certificate_hash)


async def test_a_relay_with_the_nodes_own_certificate_would_pass(tmp_path: Path) -> None:
    """The control: it is the certificate that the relay of the test above fails for, nothing else."""
    failures = Failures()
    honest = open_identity(tmp_path)
    async with (
        listening(tmp_path, failures.serve) as listener,
        tls_relay(server_context(honest), client_context(), listener.port) as relay_port,
        await connect("127.0.0.1", relay_port, local=local_node(2), timeouts=QUICK) as connection,
    ):
        assert connection.peer.node_key == local_node(1).key.public


async def test_another_network_is_refused_by_both_sides_with_both_ids(tmp_path: Path) -> None:
    failures = Failures()
    async with listening(tmp_path, failures.serve, on_refused=failures.on_refused) as listener:
        stranger = local_node(2, network_id=OTHER_NETWORK_ID)
        with pytest.raises(WrongNetwork) as mine:
            await connect("127.0.0.1", listener.port, local=stranger, timeouts=QUICK)
        theirs = await refused_by(failures)
    assert (mine.value.expected, mine.value.got) == (OTHER_NETWORK_ID, NETWORK_ID)
    assert isinstance(theirs, WrongNetwork)
    assert (theirs.expected, theirs.got) == (NETWORK_ID, OTHER_NETWORK_ID)


async def test_a_node_that_dials_itself_is_told_so(tmp_path: Path) -> None:
    failures = Failures()
    async with listening(tmp_path, failures.serve, on_refused=failures.on_refused) as listener:
        with pytest.raises(SelfConnection):
            await connect("127.0.0.1", listener.port, local=local_node(1), timeouts=QUICK)
        assert isinstance(await refused_by(failures), SelfConnection)


async def test_versions_that_do_not_meet_are_refused(tmp_path: Path) -> None:
    failures = Failures()
    async with listening(tmp_path, failures.serve, on_refused=failures.on_refused) as listener:
        with pytest.raises(VersionMismatch, match="expected a protocol version of 7 to 8, got 1 to 3"):
            await connect("127.0.0.1", listener.port, local=local_node(2, versions=(7, 8)), timeouts=QUICK)
        assert isinstance(await refused_by(failures), VersionMismatch)


@contextlib.asynccontextmanager
async def connected(port: int, context: ssl.SSLContext | None) -> AsyncIterator[asyncio.StreamReader]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        yield reader
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("step", ["tcp", "tls", "http", "websocket"])
async def test_a_silent_peer_is_dropped_at_the_deadline_at_every_step(tmp_path: Path, step: str) -> None:
    failures = Failures()
    async with (
        listening(tmp_path, failures.serve, on_refused=failures.on_refused, timeouts=HASTY) as listener,
        asyncio.timeout(SECONDS),
    ):
        if step == "websocket":
            async with (
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client_context())) as session,
                session.ws_connect(f"wss://127.0.0.1:{listener.port}/p2p") as websocket,
            ):
                await websocket.receive()  # its Disconnect
                assert isinstance(await refused_by(failures), HandshakeTimeout)
            return
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", listener.port, ssl=None if step == "tcp" else client_context()
        )
        if step == "http":
            writer.write(b"GET /p2p HTTP/1.1\r\nHost: slow")
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.transport.abort()


async def test_a_listener_that_never_speaks_is_given_up(tmp_path: Path) -> None:
    quiet = asyncio.Event()

    async def mute(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await quiet.wait()
        writer.transport.abort()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    async with server:
        with pytest.raises(ConnectFailed, match=r"expected an answer within 0\.5 s, got none"):
            await connect(
                "127.0.0.1", server.sockets[0].getsockname()[1], local=local_node(2), timeouts=HASTY
            )
        quiet.set()


async def test_a_responder_that_stays_silent_after_the_upgrade_is_given_up(tmp_path: Path) -> None:
    async def serve(request: aiohttp.web.BaseRequest) -> aiohttp.web.StreamResponse:
        websocket = aiohttp.web.WebSocketResponse()
        await websocket.prepare(request)
        await websocket.receive()
        await websocket.receive()
        return websocket

    async with https_server(tmp_path, serve) as port:
        with pytest.raises(HandshakeTimeout, match=r"within 0\.3 s, got silence"):
            await connect("127.0.0.1", port, local=local_node(2), timeouts=HASTY)


@contextlib.asynccontextmanager
async def https_server(
    directory: Path, handler: Callable[[aiohttp.web.BaseRequest], Awaitable[aiohttp.web.StreamResponse]]
) -> AsyncIterator[int]:
    """Some other HTTPS server; yields its port."""
    runner = aiohttp.web.ServerRunner(aiohttp.web.Server(handler))
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context(open_identity(directory)))
    await site.start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def test_another_https_server_is_no_peer(tmp_path: Path) -> None:
    async def serve(_request: aiohttp.web.BaseRequest) -> aiohttp.web.StreamResponse:
        return aiohttp.web.Response(text="hello")

    async with https_server(tmp_path, serve) as port:
        with pytest.raises(ConnectFailed, match="expected a facechain peer port, got"):
            await connect("127.0.0.1", port, local=local_node(2), timeouts=QUICK)


async def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    visited: list[str] = []

    async def serve(request: aiohttp.web.BaseRequest) -> aiohttp.web.StreamResponse:
        visited.append(request.path)
        return aiohttp.web.Response(status=302, headers={"Location": "/elsewhere"})

    async with https_server(tmp_path, serve) as port:
        with pytest.raises(ConnectFailed, match="HTTP redirect 302"):
            await connect("127.0.0.1", port, local=local_node(2), timeouts=QUICK)
    assert visited == ["/p2p"]


async def test_a_port_where_nothing_listens_is_unreachable() -> None:
    (port,) = free_ports(1)
    with pytest.raises(ConnectFailed, match=f"127.0.0.1:{port}") as failed:
        await connect("127.0.0.1", port, local=local_node(2), timeouts=QUICK)
    assert failed.value.reason == Reason.UNREACHABLE


async def test_a_taken_port_cannot_be_listened_on(tmp_path: Path) -> None:
    failures = Failures()
    async with listening(tmp_path, failures.serve) as listener:
        second = Listener(
            host="127.0.0.1",
            port=listener.port,
            identity=open_identity(tmp_path),
            local=local_node(3),
            on_connection=failures.serve,
        )
        with pytest.raises(ListenFailed, match=f"127.0.0.1:{listener.port}: expected a free address"):
            await second.__aenter__()


async def test_a_peer_that_connects_while_the_listening_ends_leaves_no_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failures = Failures()
    async with listening(tmp_path, failures.serve) as listener:
        await asyncio.sleep(0)  # the listener waits for peers
        late = socket.create_connection(("127.0.0.1", listener.port))
        await asyncio.sleep(0)  # the loop sees the peer and calls who waits for it after this test
    late.close()
    assert not [record for record in caplog.records if record.exc_info]


async def test_other_paths_of_the_peer_port_are_not_found(tmp_path: Path) -> None:
    failures = Failures()
    async with (
        listening(tmp_path, failures.serve) as listener,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client_context())) as session,
    ):
        for path in ("/", "/p2p", "/p2p/x"):
            async with session.get(f"https://127.0.0.1:{listener.port}{path}") as response:
                assert response.status == 404
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(f"wss://127.0.0.1:{listener.port}/other")


async def test_who_leaves_before_the_upgrade_is_answered_leaves_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    prepare = web.WebSocketResponse.prepare

    async def too_late(self: web.WebSocketResponse, request: web.BaseRequest) -> object:
        assert request.transport is not None
        request.transport.close()
        return await prepare(self, request)

    monkeypatch.setattr(web.WebSocketResponse, "prepare", too_late)
    failures = Failures()
    async with (
        listening(tmp_path, failures.serve) as listener,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client_context())) as session,
    ):
        with pytest.raises(aiohttp.ClientError):
            await session.ws_connect(f"wss://127.0.0.1:{listener.port}/p2p")
        await eventually(lambda: not listener._pending, seconds=SECONDS, what="a free place")
    assert not [record for record in caplog.records if record.exc_info]


async def test_tls_1_2_is_refused(tmp_path: Path) -> None:
    failures = Failures()
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with listening(tmp_path, failures.serve) as listener:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", listener.port, ssl=old)


async def test_a_connection_above_the_inbound_limit_is_told_so(tmp_path: Path) -> None:
    failures = Failures()
    async with listening(tmp_path, failures.serve, limits=ConnectionLimits(max_inbound=1)) as listener:
        first = await connect("127.0.0.1", listener.port, local=local_node(2), timeouts=QUICK)
        await eventually(lambda: listener.connections, seconds=SECONDS, what="the first connection")
        second = await connect("127.0.0.1", listener.port, local=local_node(3), timeouts=QUICK)
        with pytest.raises(ConnectionClosed, match="too-many-connections: this node takes 1 connections"):
            await second.receive()
        await first.close()
        await eventually(lambda: not listener.connections, seconds=SECONDS, what="a free place")
        third = await connect("127.0.0.1", listener.port, local=local_node(3), timeouts=QUICK)
        await eventually(lambda: listener.connections, seconds=SECONDS, what="the third connection")
        await asyncio.gather(second.close(), third.close())


async def test_silent_sockets_above_the_pending_limit_are_closed_at_once(tmp_path: Path) -> None:
    failures = Failures()
    limits = ConnectionLimits(max_pending_inbound=2)
    async with (
        listening(tmp_path, failures.serve, limits=limits) as listener,
        connected(listener.port, None),
        connected(listener.port, None) as second,
    ):
        await eventually(lambda: len(listener._admissions) == 2, seconds=SECONDS, what="two pending sockets")
        async with connected(listener.port, None) as third, asyncio.timeout(SECONDS):
            assert await third.read() == b""
        assert not second.at_eof()


async def test_pending_places_are_free_again_after_the_deadline(tmp_path: Path) -> None:
    failures = Failures()
    limits = ConnectionLimits(max_pending_inbound=1)
    async with listening(tmp_path, failures.serve, limits=limits, timeouts=HASTY) as listener:
        async with connected(listener.port, None):
            await eventually(lambda: len(listener._admissions) == 1, seconds=SECONDS, what="a pending socket")
            with pytest.raises(ConnectFailed):
                await connect("127.0.0.1", listener.port, local=local_node(2), timeouts=QUICK)
            await eventually(lambda: len(listener._admissions) == 0, seconds=SECONDS, what="a free place")
        async with await connect("127.0.0.1", listener.port, local=local_node(2), timeouts=QUICK):
            assert len(listener._admissions) <= 1


async def test_a_peer_that_leaves_in_the_handshake_is_named(tmp_path: Path) -> None:
    failures = Failures()
    async with listening(tmp_path, failures.serve, on_refused=failures.on_refused) as listener:
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client_context())) as session,
            session.ws_connect(f"wss://127.0.0.1:{listener.port}/p2p"),
        ):
            pass
        error = await refused_by(failures)
    assert isinstance(error, HandshakeRefused)
    assert error.reason == Reason.CONNECTION_LOST


async def test_a_bug_in_the_server_of_connections_is_logged_and_ends_only_that_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(connection: Connection) -> None:
        raise ZeroDivisionError(connection.peer.user_agent)

    async with listening(tmp_path, broken) as listener:
        for _ in range(2):
            connection = await connect("127.0.0.1", listener.port, local=local_node(2), timeouts=QUICK)
            with pytest.raises(ConnectionClosed):
                await connection.receive()
            await connection.close()
    assert "ZeroDivisionError: /test:2/" in caplog.text
