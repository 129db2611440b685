"""Attacks with bytes: frames that are too long, cut short, nested, compressed, or no frames at all."""

from __future__ import annotations

import zlib

from facechain.node.wire import messages as wire
from facechain.node.wire.limits import MAX_FRAME_BYTES
from hostile.arena import Arena
from hostile.attacker import BINARY, Ended, Socket
from hostile.registry import IGNORED, Seen, attack

BOMB_BYTES = 64 * 2**20


@attack(expects="oversized-message", covers=("frame",), bans=True, without="frame-size")
async def oversized_frame(arena: Arena) -> Seen:
    """One WebSocket message of 16 MiB."""
    peer = await arena.join()
    await peer.send(bytes((0x32,)) + bytes(16 * 2**20))
    return Seen(reason=await arena.reason(peer, 10))


@attack(expects="oversized-message", bans=True, without="frame-size")
async def endless_fragments(arena: Arena) -> Seen:
    """A message in fragments that never ends."""
    peer = await arena.join()
    try:
        await peer.socket.send(bytes((0x32,)) + bytes(65_535), fin=False)
        for _ in range(4 * MAX_FRAME_BYTES // 65_536):
            await peer.socket.send(bytes(65_536), opcode=0, fin=False)
    except Ended:
        pass
    return Seen(reason=await arena.reason(peer, 10))


@attack(expects="oversized-message", bans=True, without="type-sizes")
async def oversized_by_type(arena: Arena) -> Seen:
    """Every type of message, one byte longer than its own limit."""
    reasons = set()
    for spec in wire.MESSAGES:
        if spec.phase is wire.Phase.HANDSHAKE or spec.max_bytes >= MAX_FRAME_BYTES:
            continue
        peer = await arena.join()
        await peer.send(bytes((spec.number,)) + bytes(spec.max_bytes))
        reasons.add(await arena.reason(peer, 5))
    last = await arena.ban_of(peer.identity)
    return Seen(reason=" ".join(sorted(reasons)), damage="" if last else "not banned")


@attack(expects=IGNORED, without="ends-seen")
async def truncated_frame(arena: Arena) -> Seen:
    """A frame that ends in the middle, and the connection with it, thirty times: no place is kept for it."""
    for _ in range(30):
        peer = await arena.join()
        await peer.socket.write(peer.socket.header(100_000) + bytes(500))
        await peer.close()
    ours = {peer.identity.key.public.hex() for peer in arena.peers}

    async def gone() -> bool:
        return not ours & (await arena.connected()).keys()

    return Seen(reason=IGNORED, damage="" if await arena.within(gone, 5) else "lost connections keep places")


@attack(expects="malformed-message", bans=True, without="canonical-form")
async def truncated_message(arena: Arena) -> Seen:
    """A message that ends in the middle of a field."""
    peer = await arena.join()
    await peer.send(bytes((0x12, 0x94, 0xC4, 32)) + bytes(7))
    return Seen(reason=await arena.reason(peer, 3))


@attack(expects="unknown-message", bans=True, without="known-types")
async def unknown_type(arena: Arena) -> Seen:
    """A message of a type that nobody knows."""
    peer = await arena.join()
    await peer.send(bytes((0x7F, 0x90)))
    return Seen(reason=await arena.reason(peer, 3))


@attack(expects="unexpected-message", bans=True, without="binary-only")
async def text_message(arena: Arena) -> Seen:
    """Text instead of binary."""
    peer = await arena.join()
    await peer.socket.send(b"GET / HTTP/1.1", opcode=1)
    return Seen(reason=await arena.reason(peer, 3))


@attack(expects="unexpected-message", bans=True, without="binary-only")
async def websocket_ping_flood(arena: Arena) -> Seen:
    """WebSocket's own pings, which the protocol has no use for."""
    peer = await arena.join()
    try:
        for _ in range(2_000):
            await peer.socket.send(bytes(125), opcode=9)
    except Ended:
        pass
    return Seen(reason=await arena.reason(peer, 5))


@attack(expects="malformed-message", bans=True, without="structure-bounds")
async def nesting_bomb(arena: Arena) -> Seen:
    """Arrays within arrays, as deep as the largest frame of its type."""
    peer = await arena.join()
    await peer.send(bytes((0x24,)) + b"\x91" * 2_000_000)
    reason = await arena.reason(peer, 10)
    return Seen(reason=reason, damage="" if reason else "still taken apart")


@attack(expects="malformed-message", bans=True, without="canonical-form")
async def length_bomb(arena: Arena) -> Seen:
    """Arrays and byte strings that claim four billion items in a few bytes."""
    reasons = set()
    for claim in (b"\xdd\xff\xff\xff\xff", b"\x91\xc6\xff\xff\xff\xff", b"\x91\xdb\xff\xff\xff\xff"):
        peer = await arena.join()
        await peer.send(bytes((0x30,)) + claim + bytes(16))
        reasons.add(await arena.reason(peer, 5))
    return Seen(reason=" ".join(sorted(reasons)))


@attack(expects="malformed-message", bans=True, without="structure-bounds", slows=True)
async def array_bomb(arena: Arena) -> Seen:
    """Two million empty arrays in one frame: one byte each on the wire, an object each in memory."""
    peer = await arena.join()
    count = 2_000_000
    await peer.send(bytes((0x24, 0x93)) + b"\xdd" + count.to_bytes(4, "big") + b"\x90" * count)
    return Seen(reason=await arena.reason(peer, 10))


@attack(expects="malformed-message", bans=True, without="compression-off")
async def decompression_bomb(arena: Arena) -> Seen:
    """Compression that was asked for, refused and used all the same: 64 MiB in 64 KiB."""
    identity = arena.identity()
    socket = await Socket.open(*arena.address, identity.source)
    head = await socket.upgrade("Sec-WebSocket-Extensions: permessage-deflate")
    from hostile.attacker import Peer

    peer = Peer(socket, identity)
    arena.peers.append(peer)
    squeeze = zlib.compressobj(wbits=-15)
    bomb = (squeeze.compress(bytes((0x32,)) + bytes(BOMB_BYTES)) + squeeze.flush(zlib.Z_SYNC_FLUSH))[:-4]
    if "permessage-deflate" in head:  # then the handshake is compressed, too: the bomb is sent in its place
        await socket.send(bomb, opcode=BINARY, rsv1=True)
        return Seen(reason="", damage="compression was granted")
    await peer.shake_hands()
    peer.start()
    await peer.socket.send(bomb, opcode=BINARY, rsv1=True)
    return Seen(reason=await arena.reason(peer, 15))


@attack(expects="connection-lost", scaled=True, without="handshake-time")
async def no_upgrade(arena: Arena) -> Seen:
    """Plain HTTP requests, garbage, and other paths on the peer port."""
    for request in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01" + bytes(200), b"\r\n" * 500):
        socket = await Socket.open(*arena.address, arena.source())
        await socket.write(request)
        if not await socket.is_closed(8):
            return Seen(reason="", damage=f"still open after {request[:20]!r}")
    return Seen(reason="connection-lost")
