"""Attacks on what waits to be sent."""

from __future__ import annotations

import asyncio

from facechain.node.wire import messages as wire
from facechain.node.wire.codec import encode
from hostile.arena import Arena
from hostile.health import rss_anon_mib
from hostile.registry import HELD, Seen, attack

READERS = 4
QUESTIONS = 120
"""Of each reader, for answers of 2,000 headers: half a MiB each."""
QUEUES_MIB_MAX = 96.0
"""The send queues and outboxes of four connections, and what the kernel holds of them."""
CROWD_MIB_MAX = 100.0
"""64 MiB (`defences.SCALED_SEND_TOTAL_BYTES`), and what it takes to make and encode answers."""
CROWD = 12
CROWD_QUESTIONS = 40
"""Of each of them: more than its own queue and outbox take."""


@attack(expects=HELD, covers=("send-queue", "send"), scaled=True, is_long=True, without="send-bounds")
async def slow_reader(arena: Arena) -> Seen:
    """Four peers ask for 240 MiB of headers and read none of it: little waits for them, and not for long."""
    grown, dropped = await unread(arena, readers=READERS, questions=QUESTIONS)
    damage = "" if grown < QUEUES_MIB_MAX else f"{grown:.0f} MiB wait to be read"
    return Seen(reason=HELD, damage=damage or ("" if dropped else "they keep their places"))


@attack(expects=HELD, covers=("send-total",), scaled=True, is_long=True, without="send-total")
async def deaf_crowd(arena: Arena) -> Seen:
    """Twelve peers ask for 20 MiB of headers each and read none of it: there is a bound for all of them together."""
    grown, _ = await unread(arena, readers=CROWD, questions=CROWD_QUESTIONS)
    return Seen(reason=HELD, damage="" if grown < CROWD_MIB_MAX else f"{grown:.0f} MiB wait to be read")


async def unread(arena: Arena, *, readers: int, questions: int) -> tuple[float, bool]:
    """Have peers ask and not read; return by how many MiB the victim grew, and whether all were sent away."""
    before = await asyncio.to_thread(rss_anon_mib, arena.victim.pid)
    deaf = []
    for _ in range(readers):
        peer = await arena.join()
        await peer.hear(wire.GetHeaders, 5)  # which it answers, so that it owes nothing
        await peer.echo()
        peer.stop_listening()
        deaf.append(peer)
    question = encode(wire.GetHeaders(locator=(), stop_hash=bytes(32)))
    for peer in deaf:
        for _ in range(questions):
            peer.socket.writer.write(peer.socket.header(len(question)) + question)
    ours = {peer.identity.key.public.hex() for peer in deaf}
    most = before

    async def gone() -> bool:
        nonlocal most
        most = max(most, await asyncio.to_thread(rss_anon_mib, arena.victim.pid))
        return not ours & (await arena.connected()).keys()

    dropped = await arena.within(gone, 12)
    return most - before, dropped
