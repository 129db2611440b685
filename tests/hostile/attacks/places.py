"""Attacks on connections as such: all places taken, sockets that say nothing, listeners that never answer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

from facechain.node.wire.limits import MAX_INBOUND, MAX_PENDING_INBOUND, MAX_PENDING_PER_SOURCE
from hostile.arena import Arena
from hostile.attacker import Ended
from hostile.registry import HELD, Seen, attack


@attack(
    expects="too-many-connections",
    covers=("inbound", "protected-blocks", "protected-statements", "protected-age"),
    without="useful-peers-stay",
)
async def slot_exhaustion(arena: Arena) -> Seen:
    """A hundred identities from a hundred addresses: newcomers push out each other, and nobody useful."""
    before, began = await arena.honest_peers(), time.monotonic()
    for _ in range(MAX_INBOUND + 36):
        with contextlib.suppress(Ended):
            await arena.join()
    await asyncio.sleep(0.5)
    after, passed = await arena.honest_peers(), time.monotonic() - began
    reasons = {peer.ended.result() for peer in arena.peers if peer.ended.done()}
    lost = [key for key, since in before.items() if after.get(key, 0.0) < since + 0.5 * passed]
    held = sum(bool(peer["inbound"]) for peer in (await arena.connected()).values())
    damage = "an honest peer was pushed out" if lost else ""
    if held > MAX_INBOUND:
        damage = damage or f"{held} inbound connections"
    return Seen(reason=" ".join(sorted(reasons)), damage=damage)


@attack(expects=HELD, covers=("pending-inbound", "pending-per-source"), without="room-for-others")
async def silent_sockets(arena: Arena) -> Seen:
    """Four hundred sockets that say nothing, from four addresses: a newcomer from a fifth one still gets in."""
    with contextlib.ExitStack() as stack:
        for number in range(400):
            silent = stack.enter_context(socket.socket())
            silent.setblocking(False)
            silent.bind((f"127.67.0.{number % 4 + 1}", 0))
            with contextlib.suppress(BlockingIOError):
                silent.connect(arena.address)
        await asyncio.sleep(1.0)
        open_files = await asyncio.to_thread(sockets_of, arena.victim.pid)
        damage = await kept_out(arena)
    most = MAX_PENDING_INBOUND + MAX_PENDING_PER_SOURCE + MAX_INBOUND
    return Seen(
        reason=HELD, damage=damage or ("" if open_files <= most else f"{open_files} sockets are held")
    )


async def kept_out(arena: Arena) -> str:
    """Return the damage when a newcomer cannot connect."""
    try:
        async with asyncio.timeout(8):
            peer = await arena.join()
    except (TimeoutError, Ended, OSError):
        return "a newcomer was kept out"
    return "a newcomer was kept out" if peer.ended.done() else ""


def sockets_of(pid: int) -> int:
    """Return how many sockets a process holds."""
    from pathlib import Path

    count = 0
    for item in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            count += str(item.readlink()).startswith("socket:")
    return count


@attack(expects="connection-lost", covers=("connect",), scaled=True, without="connect-time")
async def silent_listener(arena: Arena) -> Seen:
    """A listener that takes the victim's connection and never answers, not even to TLS."""
    closed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while await reader.read(65_536):
                pass
        writer.close()
        if not closed.done():
            closed.set_result(True)

    source = arena.source()
    server = await asyncio.start_server(wait, source, 0)
    name = f"{source}:{server.sockets[0].getsockname()[1]}"
    async with arena.admin(arena.victim) as client:
        await client.call("POST", "/v1/peers", content={"peer": name})
        await asyncio.wait((closed,), timeout=10)
        await client.call("DELETE", "/v1/peers", query={"peer": name})
    gave_up = closed.done()
    server.close()
    return Seen(reason="connection-lost" if gave_up else "", damage="" if gave_up else "the victim waits on")


@attack(expects=HELD, without="places-given-back")
async def connection_churn(arena: Arena) -> Seen:
    """A hundred and fifty connections that are cut in the middle of TLS or the handshake."""
    for number in range(150):
        with contextlib.suppress(OSError), contextlib.closing(socket.socket()) as cut:
            cut.setblocking(False)
            cut.bind((arena.source(), 0))
            with contextlib.suppress(BlockingIOError):
                cut.connect(arena.address)
            await asyncio.sleep(0.005)
            with contextlib.suppress(OSError):
                cut.send(b"\x16\x03\x01\x02\x00" + bytes(number))
    return Seen(reason=HELD, damage=await kept_out(arena))
