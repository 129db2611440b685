"""Two endpoints over TLS 1.3 on loopback: messages both ways, and every way in which a connection ends."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
from pathlib import Path
from typing import TypeVar

import pytest
from aiohttp import WSMsgType

from facechain.node.wire.codec import decode, encode
from facechain.node.wire.connection import Connection
from facechain.node.wire.faults import (
    AlreadyConnected,
    ConnectionClosed,
    PeerFault,
    PeerTimeout,
    Reason,
    WireError,
)
from facechain.node.wire.limits import MAX_FRAME_BYTES, MAX_STATEMENT_BYTES, ConnectionLimits
from facechain.node.wire.messages import (
    BY_TYPE,
    Disconnect,
    GetStatements,
    HandshakeRole,
    Headers,
    Inventory,
    Message,
    Ping,
    Pong,
    SendAnnouncements,
    Statements,
    Status,
)
from facechain.node.wire.session import Session
from facechain.node.wire.transport import connect
from support.deadline import eventually
from support.wire import QUICK, Failures, listening, local_node, raw_peer

SECONDS = 10.0
FLOOD_FRAMES = 50
LEAF = b"\x01" * 32
Item = TypeVar("Item")


async def next_of(queue: asyncio.Queue[Item]) -> Item:
    async with asyncio.timeout(SECONDS):
        return await queue.get()


async def test_messages_pass_both_ways_over_tls_1_3(tmp_path: Path) -> None:
    versions: list[str] = []

    async def answer(connection: Connection) -> None:
        versions.append(connection._websocket.get_extra_info("ssl_object").version())
        while True:
            message = await connection.receive()
            if isinstance(message, GetStatements):
                await connection.send(Statements(statements=message.leaves))
            else:
                await connection.send(message)

    async with (
        listening(tmp_path, answer) as listener,
        await connect("127.0.0.1", listener.port, local=local_node(2), timeouts=QUICK) as connection,
    ):
        assert connection.peer.node_key == local_node(1).key.public
        assert connection.peer.role is HandshakeRole.RESPONDER
        assert not connection.inbound
        assert connection.remote == ("127.0.0.1", listener.port)
        for sent in (Inventory(leaves=(LEAF,) * 5000), SendAnnouncements(high_bandwidth=True)):
            await connection.send(sent)
            assert await connection.receive() == sent
        await connection.send(GetStatements(leaves=(LEAF,)))
        assert await connection.receive() == Statements(statements=(LEAF,))
        (inbound,) = listener.connections
        assert inbound.inbound
        assert inbound.peer.node_key == local_node(2).key.public
        assert versions == ["TLSv1.3"]
    assert listener.connections == frozenset()


async def test_large_messages_pass_in_order_under_back_pressure(tmp_path: Path) -> None:
    statements = [bytes([index]) * MAX_STATEMENT_BYTES for index in range(24)]
    got: list[Message] = []
    done = asyncio.Event()

    async def read(connection: Connection) -> None:
        for _ in statements:
            await connection.send(GetStatements(leaves=(LEAF,)))
        got.extend([await connection.receive() for _ in statements])
        done.set()

    limits = ConnectionLimits(send_queue_bytes=2 * MAX_STATEMENT_BYTES)
    async with (
        listening(tmp_path, read) as listener,
        await connect(
            "127.0.0.1", listener.port, local=local_node(2), limits=limits, timeouts=QUICK
        ) as connection,
    ):
        for statement in statements:
            assert isinstance(await connection.receive(), GetStatements)
            await connection.send(Statements(statements=(statement,)))
            assert connection._queued_bytes <= limits.send_queue_bytes
        async with asyncio.timeout(SECONDS):
            await done.wait()
    assert got == [Statements(statements=(statement,)) for statement in statements]


async def test_a_message_is_offered_where_nothing_has_to_be_waited_for(tmp_path: Path) -> None:
    failures = Failures()
    async with listening(tmp_path, failures.serve) as listener:
        connection = await connect("127.0.0.1", listener.port, local=local_node(2), timeouts=QUICK)
        first, second = SendAnnouncements(high_bandwidth=True), Inventory(leaves=(LEAF,))
        too_short = Inventory(leaves=(b"too short",))
        assert not connection.offer(too_short), "`send` says why"
        assert connection.offer(first)
        assert not connection.offer(second), "one waits already"
        await connection.send(second)
        assert [await next_of(failures.messages), await next_of(failures.messages)] == [first, second]
        assert connection.session.sent_bytes == {
            "SendAnnouncements": len(encode(first)),
            "Inventory": len(encode(second)),
        }, "what was refused does not count"
        while connection.session._sends[SendAnnouncements].take(0.0):
            pass
        assert not connection.offer(first), "its pace is used up"
        await connection.close()
        assert not connection.offer(second), "it is closed"


async def test_pings_are_sent_and_answered(tmp_path: Path) -> None:
    failures = Failures()
    often = dataclasses.replace(QUICK, ping_interval_seconds=0.05)
    async with (
        listening(tmp_path, failures.serve) as listener,
        await connect("127.0.0.1", listener.port, local=local_node(2), timeouts=often) as connection,
    ):
        reading = asyncio.create_task(connection.receive())
        await eventually(lambda: connection.session.round_trip_seconds, seconds=SECONDS, what="a pong")
        assert connection.session.received_bytes["Pong"] >= len(encode(Pong(nonce=0)))
        await connection.close()
        with pytest.raises(ConnectionClosed):
            await reading


async def test_a_close_tells_the_peer_its_reason(tmp_path: Path) -> None:
    failures = Failures()
    async with listening(tmp_path, failures.serve) as listener:
        connection = await connect("127.0.0.1", listener.port, local=local_node(2), timeouts=QUICK)
        await connection.send(Inventory(leaves=(LEAF,)))
        await connection.close(Reason.BANNED, "until tomorrow")
        await connection.close()
        ended = await next_of(failures.seen)
        assert isinstance(ended, ConnectionClosed)
        assert (ended.reason, ended.message, ended.by_peer) == (Reason.BANNED, "until tomorrow", True)
        assert failures.messages.get_nowait() == Inventory(leaves=(LEAF,))
        with pytest.raises(ConnectionClosed, match="banned"):
            await connection.send(Inventory(leaves=()))
        with pytest.raises(ConnectionClosed, match="banned"):
            await connection.receive()


async def test_a_listener_that_closes_says_so(tmp_path: Path) -> None:
    failures = Failures()
    async with listening(tmp_path, failures.serve) as listener:
        connection = await connect("127.0.0.1", listener.port, local=local_node(2), timeouts=QUICK)
        reading = asyncio.create_task(connection.receive())
        await eventually(lambda: listener.connections, seconds=SECONDS, what="an inbound connection")
    with pytest.raises(ConnectionClosed) as ended:
        await reading
    assert (ended.value.reason, ended.value.by_peer) == (Reason.SHUTDOWN, True)
    await connection.close()


@pytest.mark.parametrize(
    "frame, reason",
    [
        (b"\xff", Reason.UNKNOWN_MESSAGE),
        (b"\x10\x91\xc1", Reason.MALFORMED_MESSAGE),
        (b"\x10" + bytes(BY_TYPE[Ping].max_bytes), Reason.OVERSIZED_MESSAGE),
        (encode(Headers(sealed_headers=())), Reason.UNSOLICITED_REPLY),
        (b"\x01" + bytes(100), Reason.UNEXPECTED_MESSAGE),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_fault_closes_the_connection_with_its_reason(
    tmp_path: Path, frame: bytes, reason: Reason
) -> None:
    failures = Failures()
    async with (
        listening(tmp_path, failures.serve) as listener,
        raw_peer(listener.port) as websocket,
    ):
        await websocket.send_bytes(frame)
        farewell = decode(await websocket.receive_bytes(timeout=SECONDS))
        assert isinstance(farewell, Disconnect)
        assert farewell.reason == reason
        fault = await next_of(failures.seen)
        assert isinstance(fault, PeerFault)
        assert fault.reason == reason
        assert fault.misbehaviour


@pytest.mark.parametrize("kind", [WSMsgType.TEXT, WSMsgType.PING])
async def test_other_websocket_messages_are_faults(tmp_path: Path, kind: WSMsgType) -> None:
    failures = Failures()
    async with listening(tmp_path, failures.serve) as listener, raw_peer(listener.port) as websocket:
        await websocket.send_frame(b"hello", kind)
        fault = await next_of(failures.seen)
        assert (fault.reason, kind.name in fault.message) == (Reason.UNEXPECTED_MESSAGE, True)


async def test_a_frame_above_the_limit_of_all_types_is_closed(tmp_path: Path) -> None:
    failures = Failures()
    async with listening(tmp_path, failures.serve) as listener, raw_peer(listener.port) as websocket:
        await websocket.send_bytes(b"\x32" + bytes(MAX_FRAME_BYTES))
        fault = await next_of(failures.seen)
        assert isinstance(fault, PeerFault)
        assert fault.reason == Reason.OVERSIZED_MESSAGE
        closed = await websocket.receive(timeout=SECONDS)
        assert (closed.type, closed.data) == (WSMsgType.CLOSE, 1009)


async def test_a_frame_of_the_limit_of_all_types_is_read(tmp_path: Path) -> None:
    failures = Failures()
    async with listening(tmp_path, failures.serve) as listener, raw_peer(listener.port) as websocket:
        await websocket.send_bytes(b"\x32" + bytes(MAX_FRAME_BYTES - 1))
        assert (await next_of(failures.seen)).reason == Reason.UNSOLICITED_REPLY


async def test_a_flood_is_refused_by_its_rate(tmp_path: Path) -> None:
    failures = Failures()
    row = BY_TYPE[SendAnnouncements]
    async with listening(tmp_path, failures.serve) as listener, raw_peer(listener.port) as websocket:
        for _ in range(row.per_minute + 2):
            await websocket.send_bytes(encode(SendAnnouncements(high_bandwidth=True)))
        fault = await next_of(failures.seen)
        assert (fault.reason, fault.message) == (
            Reason.RATE_LIMIT,
            "SendAnnouncements: expected at most 60 per minute, got more",
        )


async def test_a_silent_peer_is_dropped_after_the_idle_timeout(tmp_path: Path) -> None:
    failures = Failures()
    impatient = dataclasses.replace(QUICK, ping_interval_seconds=0.05, idle_seconds=0.3)
    async with (
        listening(tmp_path, failures.serve, timeouts=impatient) as listener,
        raw_peer(listener.port),
    ):
        ended = await next_of(failures.seen)
        assert isinstance(ended, PeerTimeout)
        assert ended.reason == Reason.IDLE_TIMEOUT
        assert not ended.misbehaviour


async def test_a_peer_that_answers_pings_is_not_idle(tmp_path: Path) -> None:
    failures = Failures()
    impatient = dataclasses.replace(QUICK, ping_interval_seconds=0.05, idle_seconds=0.5)
    async with (
        listening(tmp_path, failures.serve, timeouts=impatient) as listener,
        raw_peer(listener.port) as websocket,
    ):
        for _ in range(15):
            ping = decode(await websocket.receive_bytes(timeout=SECONDS))
            assert isinstance(ping, Ping)
            await websocket.send_bytes(encode(Pong(nonce=ping.nonce)))
        assert failures.seen.empty()


async def test_a_slow_reader_is_cut_off(tmp_path: Path) -> None:
    ended: asyncio.Queue[WireError] = asyncio.Queue()
    impatient = dataclasses.replace(QUICK, send_seconds=0.5)
    limits = ConnectionLimits(send_queue_bytes=4 * MAX_STATEMENT_BYTES)

    async def flood(connection: Connection) -> None:
        try:
            while True:
                await connection.send(Statements(statements=(b"\x01" * MAX_STATEMENT_BYTES,)))
                assert connection._queued_bytes <= limits.send_queue_bytes
        except WireError as error:
            ended.put_nowait(error)
            raise

    async with (
        listening(tmp_path, flood, timeouts=impatient, limits=limits) as listener,
        raw_peer(listener.port),
    ):
        error = await next_of(ended)
        assert isinstance(error, PeerTimeout)
        assert error.reason == Reason.SLOW_READER
        await eventually(lambda: not listener.connections, seconds=SECONDS, what="the end of the connection")


class Frame(bytes):
    """Bytes that say when nobody holds them any more (a weak reference to bytes does not exist)."""

    gone = 0

    def __del__(self) -> None:
        Frame.gone += 1


async def test_what_waited_for_a_peer_that_does_not_read_is_free_when_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeouts = dataclasses.replace(QUICK, send_seconds=0.3, close_seconds=0.3)
    made = 0
    outgoing = Session.outgoing

    def watched(session: Session, message: Message, now: float) -> bytes:
        nonlocal made
        made += 1
        return Frame(outgoing(session, message, now))

    async def flood(connection: Connection) -> None:
        while True:
            await connection.send(Statements(statements=(bytes(1 << 20),)))

    monkeypatch.setattr(Session, "outgoing", watched)
    monkeypatch.setattr(Frame, "gone", 0)
    gc.collect()
    gc.disable()  # a node with many objects searches for circles rarely
    try:
        async with listening(tmp_path, flood, timeouts=timeouts) as listener, raw_peer(listener.port):
            await eventually(lambda: made > 2, seconds=SECONDS, what="frames that wait")
            await eventually(lambda: not listener.connections, seconds=SECONDS, what="the end of the peer")
            assert Frame.gone == made
    finally:
        gc.enable()


async def test_a_receiver_learns_that_the_peer_does_not_read(tmp_path: Path) -> None:
    """The writer's deadline wakes a task that only receives."""
    failures = Failures()
    impatient = dataclasses.replace(QUICK, send_seconds=0.5)
    roomy = ConnectionLimits(send_queue_bytes=64 * MAX_STATEMENT_BYTES)  # more than the kernel buffers

    async def queue_and_read(connection: Connection) -> None:
        for _ in range(40):
            await connection.send(Statements(statements=(b"\x01" * MAX_STATEMENT_BYTES,)))
        await failures.serve(connection)

    async with (
        listening(tmp_path, queue_and_read, timeouts=impatient, limits=roomy) as listener,
        raw_peer(listener.port),
    ):
        assert (await next_of(failures.seen)).reason == Reason.SLOW_READER


async def test_a_lost_connection_is_told_from_a_closed_one(tmp_path: Path) -> None:
    failures = Failures()
    async with listening(tmp_path, failures.serve) as listener:
        connection = await connect("127.0.0.1", listener.port, local=local_node(2), timeouts=QUICK)
        connection._cut()
        ended = await next_of(failures.seen)
        assert isinstance(ended, ConnectionClosed)
        assert (ended.reason, ended.by_peer) == (Reason.CONNECTION_LOST, False)
        with pytest.raises(ConnectionClosed, match="connection-lost"):
            await connection.receive()
        await connection.close()


async def test_cancellation_ends_the_task_and_the_connection(tmp_path: Path) -> None:
    failures = Failures()

    async def read() -> None:
        async with await connect("127.0.0.1", listener.port, local=local_node(2), timeouts=QUICK) as mine:
            await mine.send(Status(tip_hash=LEAF, height=1, chainwork=LEAF, pruned_below=0))
            await mine.receive()

    async with listening(tmp_path, failures.serve) as listener:
        task = asyncio.create_task(read())
        await next_of(failures.messages)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await next_of(failures.seen)).reason == Reason.SHUTDOWN
    left = [each.get_name() for each in asyncio.all_tasks() if each.get_name().startswith("wire")]
    assert left == []


async def test_an_unsendable_message_is_the_callers_error(tmp_path: Path) -> None:
    failures = Failures()
    async with (
        listening(tmp_path, failures.serve) as listener,
        await connect("127.0.0.1", listener.port, local=local_node(2), timeouts=QUICK) as connection,
    ):
        with pytest.raises(ValueError, match="cannot be sent"):
            await connection.send(Inventory(leaves=(b"",)))
        await connection.send(Inventory(leaves=(LEAF,)))
        assert await next_of(failures.messages) == Inventory(leaves=(LEAF,))


async def test_a_peer_that_floods_leaves_a_turn_for_everybody_else_between_two_frames(tmp_path: Path) -> None:
    turns = 0
    seen: list[int] = []
    sent, done = asyncio.Event(), asyncio.Event()

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def serve(connection: Connection) -> None:
        await sent.wait()
        while len(seen) < FLOOD_FRAMES:
            await connection.receive()
            seen.append(turns)
        done.set()

    async with listening(tmp_path, serve) as listener, raw_peer(listener.port) as websocket:
        for _ in range(FLOOD_FRAMES):
            await websocket.send_bytes(encode(SendAnnouncements(high_bandwidth=True)))
        sent.set()
        counting = asyncio.create_task(count_turns())
        async with asyncio.timeout(SECONDS):
            await done.wait()
        counting.cancel()
        assert len(set(seen)) == FLOOD_FRAMES


@pytest.mark.parametrize("lives", [True, False])
async def test_a_probe_ends_a_connection_whose_peer_says_nothing(tmp_path: Path, *, lives: bool) -> None:
    silent = asyncio.Event()

    async def serve(connection: Connection) -> None:
        if lives:
            with contextlib.suppress(WireError):
                await connection.receive()  # a ping is answered inside
        await silent.wait()

    async with (
        listening(tmp_path, serve) as listener,
        await connect("127.0.0.1", listener.port, local=local_node(2), timeouts=QUICK) as connection,
    ):
        reading = asyncio.create_task(connection.receive())
        await connection.probe(30.0 if lives else 0.1)
        failure = connection.failure
        silent.set()
        if lives:
            assert failure is None
            assert connection.session.received_bytes["Pong"]
            reading.cancel()
        else:
            assert isinstance(failure, PeerTimeout)
            assert failure.reason == Reason.PING_TIMEOUT
            with pytest.raises(WireError):
                await reading


async def test_no_connection_is_proven_to_a_node_that_is_avoided(tmp_path: Path) -> None:
    failures = Failures()
    served = asyncio.Event()

    async def serve(_connection: Connection) -> None:
        served.set()

    async with listening(tmp_path, serve, on_refused=failures.on_refused) as listener:
        avoiding = local_node(2, avoids=lambda key: key == local_node(1).key.public)
        with pytest.raises(AlreadyConnected, match="duplicate-connection"):
            await connect("127.0.0.1", listener.port, local=avoiding, timeouts=QUICK)
        refused = await next_of(failures.refused)
        assert (refused.reason, refused.misbehaviour) == (Reason.DUPLICATE_CONNECTION, False)
        assert not served.is_set()
