"""Attacks with too many messages, with none, with answers nobody asked for, and with ears that do not listen."""

from __future__ import annotations

import asyncio

from facechain.node.wire import messages as wire
from facechain.node.wire.codec import encode
from facechain.node.wire.limits import BAN_SECONDS, MAX_ANNOUNCERS, PROTOCOL_BAN_SECONDS
from hostile.arena import Arena
from hostile.attacker import Ended, raw_frame, silent
from hostile.defences import SCALED_BANS
from hostile.registry import HELD, Seen, attack

PONGS_MAX = 60
FRAMES_AT_ONCE = 200
BURSTS = 4
BURST_FRAMES = 11_000
HEADERS_MAX = 800
"""Half of a minute's rate, and some seconds' worth."""


async def flood(arena: Arena, frame: bytes, count: int, seconds: float = 20) -> Seen:
    """Send one frame again and again, until the victim has enough."""
    peer = await arena.join()
    several = (peer.socket.header(len(frame)) + frame) * FRAMES_AT_ONCE
    for _ in range(0, count, FRAMES_AT_ONCE):
        if peer.ended.done():
            break
        try:
            await peer.socket.write(several)
        except Ended:
            break
    return Seen(reason=await arena.reason(peer, seconds))


@attack(expects=HELD, without="rates")
async def ping_flood(arena: Arena) -> Seen:
    """More pings than a minute holds: answers go out at their pace, and nothing more is read meanwhile."""
    peer = await arena.join()
    await peer.send(*[encode(wire.Ping(nonce=number)) for number in range(200)])
    await asyncio.sleep(2.0)
    answers = len(peer.all(wire.Pong))
    return Seen(reason=HELD, damage="" if answers <= PONGS_MAX else f"{answers} pings were answered")


@attack(expects="rate-limit", without="rates")
async def status_flood(arena: Arena) -> Seen:
    """More status messages than a minute holds."""
    status = wire.Status(tip_hash=bytes(32), height=0, chainwork=bytes(32), pruned_below=0)
    return await flood(arena, encode(status), 9_000)


@attack(expects=HELD, without="rates")
async def question_flood(arena: Arena) -> Seen:
    """More questions for headers than a minute holds, each worth a full answer: answers keep their pace."""
    peer = await arena.join()
    question = encode(wire.GetHeaders(locator=(), stop_hash=bytes(32)))
    sending = asyncio.create_task(peer.send(*[question] * 1_600))
    await asyncio.sleep(12.0)
    answers = len(peer.all(wire.Headers))
    sending.cancel()
    return Seen(reason=HELD, damage="" if answers <= HEADERS_MAX else f"{answers} questions were answered")


@attack(expects="rate-limit", without="rates")
async def inventory_flood(arena: Arena) -> Seen:
    """More inventory than a minute holds, all of it lies."""
    return await flood(arena, encode(wire.Inventory(leaves=(arena.hash(),))), 15_000, 60)


@attack(expects="rate-limit", without="rates")
async def body_question_flood(arena: Arena) -> Seen:
    """More questions for bodies that do not exist than a minute holds, as fast as they go."""
    frame = encode(wire.GetBody(block_hash=arena.hash(), start=0, with_leaves=True))
    return await flood(arena, frame, 40_000)


@attack(expects=HELD, without="turns", slows=True)
async def burst_of_small_messages(arena: Arena) -> Seen:
    """Nearly a minute's inventories without an item, in one write from each of four peers: others have their turn."""
    frame = encode(wire.Inventory(leaves=()))
    peers = [await arena.join() for _ in range(BURSTS)]
    burst = (peers[0].socket.header(len(frame)) + frame) * BURST_FRAMES
    await asyncio.gather(*(peer.socket.write(burst) for peer in peers))
    answered = await asyncio.gather(*(peer.echo(60) for peer in peers))
    return Seen(reason=HELD, damage="" if all(answered) else "the answers stopped")


@attack(expects="unsolicited-reply", without="solicitation")
async def unrequested_blocks(arena: Arena) -> Seen:
    """A body that nobody asked for."""
    chunk = wire.BodyChunk(block_hash=arena.hash(), leaves=(), byte_count=0, start=0, statements=(b"x",))
    peer = await arena.join()
    await peer.send(chunk)
    return Seen(reason=await arena.reason(peer, 3))


@attack(expects="unsolicited-reply", bans=True, covers=("ban-score", "protocol-ban"), without="scores")
async def repeat_offender(arena: Arena) -> Seen:
    """The same half offence twice: disconnected, then banned for an hour."""
    identity = arena.identity()
    reasons = []
    for _ in range(2):
        peer = await arena.join(identity=identity)
        await peer.send(wire.Headers(sealed_headers=()), wire.Headers(sealed_headers=()))
        await peer.send(raw_frame(0x32, [[]]))
        reasons.append(await arena.reason(peer, 5))
    await arena.ban_of(identity)
    ban = (await arena.bans()).get(identity.key.public.hex())
    seconds = 0 if ban is None else (ban["until_ms"] - ban["since_ms"]) // 1_000
    damage = "" if seconds == PROTOCOL_BAN_SECONDS else f"banned for {seconds} s"
    return Seen(reason=" ".join(sorted(set(reasons))), damage=damage)


@attack(expects="banned", covers=("ban",), bans=True, without="bans")
async def ban_evasion(arena: Arena) -> Seen:
    """Somebody who broke a rule of the chain comes again, from another address."""
    identity = arena.identity()
    header = bytes(160) + bytes(64)
    peer = await arena.join({wire.GetHeaders: lambda _: wire.Headers(sealed_headers=(header,) * 2)}, identity)
    await arena.reason(peer, 5)
    await arena.ban_of(identity)
    ban = (await arena.bans()).get(identity.key.public.hex())
    seconds = 0 if ban is None else (ban["until_ms"] - ban["since_ms"]) // 1_000
    damage = "" if seconds == BAN_SECONDS else f"banned for {seconds} s"
    again = await arena.join(identity=identity)
    reason = await arena.reason(again, 3)
    return Seen(reason=reason, damage=damage or ("" if reason else "let in again"))


@attack(expects="unknown-message", covers=("bans", "ban-reason"), scaled=True, without="ban-count")
async def ban_list_flood(arena: Arena) -> Seen:
    """More banned keys than the list holds: it forgets, it does not grow."""
    reasons = set()
    for _ in range(2 * SCALED_BANS):
        peer = await arena.join()
        await peer.send(bytes((0x7F, 0x90)))
        reasons.add(await arena.reason(peer, 5))
    await arena.ban_of(peer.identity)
    bans = await arena.bans()
    longest = max((len(ban["reason"].encode()) for ban in bans.values()), default=0)
    damage = "" if len(bans) <= SCALED_BANS and longest <= 256 else f"{len(bans)} bans, {longest} bytes"
    return Seen(reason=" ".join(sorted(reasons)), damage=damage)


@attack(expects="idle-timeout", covers=("idle",), scaled=True, without="idle-time")
async def silence(arena: Arena) -> Seen:
    """A peer that says nothing once it was asked for headers, not even a pong."""
    peer = await arena.join({wire.Ping: silent})
    return Seen(reason=await arena.reason(peer, 12))


@attack(expects="ping-timeout", covers=("pong", "ping-interval"), scaled=True, without="pong-time")
async def deaf_talker(arena: Arena) -> Seen:
    """A peer that talks and never answers a ping."""
    peer = await arena.join({wire.Ping: silent})
    for _ in range(40):
        if peer.ended.done():
            break
        await peer.send(wire.Status(tip_hash=bytes(32), height=0, chainwork=bytes(32), pruned_below=0))
        await asyncio.sleep(0.4)
    return Seen(reason=await arena.reason(peer, 0.1))


@attack(expects="unknown-message", covers=("close",), without="close-time")
async def never_closes(arena: Arena) -> Seen:
    """An offender that does not take part in the end of its connection."""
    peer = await arena.join()
    peer.stop_listening()
    await peer.socket.send(bytes((0x7F, 0x90)))
    name = peer.identity.key.public.hex()

    async def gone() -> bool:
        return name not in await arena.connected()

    dropped = await arena.within(gone, 8)
    reason = (await arena.ban_of(peer.identity)).split(":", 1)[0]
    return Seen(reason=reason, damage="" if dropped else "still connected after 8 s")


@attack(expects="rate-limit", without="rates")
async def clock_flood(arena: Arena) -> Seen:
    """A peer that says the time again and again."""
    return await flood(arena, encode(wire.Clock(time_ms=0)), 10, 5)


@attack(expects=HELD, covers=("announcers",), without="announcer-count")
async def many_announcers(arena: Arena) -> Seen:
    """Ten peers that would all like to announce blocks with leaves: three are asked to."""
    peers = [await arena.join() for _ in range(10)]
    await asyncio.sleep(1.0)
    asked = [
        peer for peer in peers if any(item.high_bandwidth for item in peer.all(wire.SendAnnouncements)[-1:])
    ]
    damage = "" if len(asked) <= MAX_ANNOUNCERS else f"{len(asked)} of 10 were asked"
    return Seen(reason=HELD, damage=damage)
