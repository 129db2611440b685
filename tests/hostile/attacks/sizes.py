"""One item or one byte more than a limit of the protocol allows, for each of them."""

from __future__ import annotations

from facechain.node.wire import limits
from facechain.node.wire import messages as wire
from hostile.arena import Arena
from hostile.attacker import Answer, lying_in_wait, raw_frame
from hostile.registry import Seen, attack

NOBODY = ["127.9.9.9", 9, 0]


async def sent(arena: Arena, number: int, fields: object, seconds: float = 5) -> Seen:
    """Send one message; tell why that ended the connection."""
    peer = await arena.join()
    await peer.send(raw_frame(number, fields))
    reason = await arena.reason(peer, seconds)
    return Seen(reason=reason, damage="" if reason else "the message was taken")


@attack(expects="oversized-message", covers=("headers",), bans=True, without="header-count")
async def too_many_headers(arena: Arena) -> Seen:
    """An answer of 2,001 headers."""
    frame = raw_frame(0x21, [bytes(224) * (limits.MAX_HEADERS + 1)])
    answers: dict[type, Answer] = {wire.GetHeaders: lambda _: frame}
    peer = await arena.join(answers)
    return Seen(reason=await arena.reason(peer, 5))


@attack(expects="oversized-message", covers=("locator",), bans=True, without="locator-count")
async def long_locator(arena: Arena) -> Seen:
    """A question with 102 hashes in its locator."""
    return await sent(arena, 0x20, [bytes(32) * (limits.MAX_LOCATOR_HASHES + 1), bytes(32)])


@attack(expects="oversized-message", covers=("body-leaves",), bans=True, without="leaf-count")
async def too_many_leaves(arena: Arena) -> Seen:
    """A block that is announced with 65,537 leaves."""
    return await sent(arena, 0x24, [bytes(224), 0, bytes(32) * (limits.MAX_BODY_LEAVES + 1)], 10)


@attack(expects="oversized-message", covers=("inventory",), bans=True, without="inventory-count")
async def too_much_inventory(arena: Arena) -> Seen:
    """5,001 leaves in one message."""
    return await sent(arena, 0x30, [bytes(32) * (limits.MAX_INVENTORY + 1)])


@attack(expects="malformed-message", covers=("shared",), bans=True, without="shared-count")
async def too_many_shared(arena: Arena) -> Seen:
    """Eleven addresses that nobody asked for."""
    return await sent(arena, 0x42, [[NOBODY] * (limits.MAX_SHARED_ADDRESSES + 1)])


@attack(expects="malformed-message", covers=("host",), bans=True, without="host-size")
async def long_host(arena: Arena) -> Seen:
    """An address whose host has 256 bytes."""
    return await sent(arena, 0x42, [[["h" * (limits.MAX_HOST_BYTES + 1), 9, 0]]])


@attack(expects="malformed-message", covers=("reason",), bans=True, without="reason-size")
async def long_reason(arena: Arena) -> Seen:
    """A goodbye whose reason has 65 bytes."""
    return await sent(arena, 0x03, ["r" * (limits.MAX_REASON_BYTES + 1), ""])


@attack(expects="malformed-message", covers=("detail",), bans=True, without="detail-size")
async def long_detail(arena: Arena) -> Seen:
    """A goodbye whose text has 257 bytes."""
    return await sent(arena, 0x03, ["r", "d" * (limits.MAX_DETAIL_BYTES + 1)])


@attack(expects="malformed-message", covers=("statement",), bans=True, without="statement-size")
async def too_large_statement(arena: Arena) -> Seen:
    """A statement of one byte more than a MiB, offered, asked for and sent."""
    frame = raw_frame(0x32, [[bytes(limits.MAX_STATEMENT_BYTES + 1)]])
    answers: dict[type, Answer] = {wire.GetStatements: lambda _: frame}
    peer = await arena.join(answers)
    await peer.send(wire.Inventory(leaves=(arena.hash(),)))
    return Seen(reason=await arena.reason(peer, 10))


@attack(expects="malformed-message", covers=("addresses",), without="address-count")
async def too_many_addresses(arena: Arena) -> Seen:
    """An answer of 1,001 addresses, from a peer that the victim dialed."""
    frame = raw_frame(0x41, [[NOBODY] * (limits.MAX_ADDRESSES + 1)])
    return await answered(arena, {wire.GetAddresses: lambda _: frame})


async def answered(arena: Arena, answers: dict[type, Answer], seconds: float = 10) -> Seen:
    """Have the victim dial a listener of the attacker that its operator was talked into naming."""
    from facechain.node.wire.tls import open_identity, server_context

    tls = open_identity(arena.root / "attacker")
    identity = arena.identity()
    listening = lying_in_wait(identity, server_context(tls), tls.certificate_hash, answers)
    async with listening as (port, peers), arena.admin(arena.victim) as client:
        name = f"{identity.source}:{port}"
        await client.call("POST", "/v1/peers", content={"peer": name})
        try:

            async def came() -> bool:
                return bool(peers)

            if not await arena.within(came, seconds):
                return Seen(reason="", damage="the victim did not come")
            reason = await arena.reason(peers[0], seconds)
        finally:
            await client.call("DELETE", "/v1/peers", query={"peer": name})
    return Seen(reason=reason, damage="" if reason else "the message was taken")
