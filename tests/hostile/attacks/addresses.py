"""Attacks on what the victim knows of other nodes: floods, lies, lures, and questions that collect it all."""

from __future__ import annotations

import asyncio
import contextlib

from facechain.node.service import clock_ms
from facechain.node.wire import messages as wire
from facechain.node.wire.limits import (
    ADDRESS_RELAY_PEERS,
    ADDRESS_SLOTS,
    ADDRESS_SOURCE_BUCKETS,
    ADDRESSES_ANSWERED_SHARE,
    MAX_BLOCK_RELAY,
    MAX_OUTBOUND,
)
from facechain.node.wire.tls import open_identity, server_context
from hostile.arena import Arena
from hostile.attacker import Answer, lying_in_wait
from hostile.attacks.sizes import answered
from hostile.registry import HELD, IGNORED, Seen, attack

ANSWER_FLOOR = 16
"""Addresses that are told whatever the share."""
FEELERS = 1
"""Short connections beside the outbound ones."""


def lies(first: int, count: int, *, last_seen_ms: int | None = None) -> tuple[wire.Address, ...]:
    """Return addresses of loopback at which nobody is."""
    seen = clock_ms() if last_seen_ms is None else last_seen_ms
    return tuple(
        wire.Address(
            host=f"127.{100 + number // 60_000}.{number // 250 % 240}.{number % 250 + 1}",
            port=9,
            last_seen_ms=seen,
        )
        for number in range(first, first + count)
    )


@attack(expects=HELD, covers=("told",), without="address-allowance")
async def unasked_address_flood(arena: Arena) -> Seen:
    """Five hundred addresses that nobody asked for, from one peer in a second."""
    before = await arena.known_addresses()
    peer = await arena.join()
    for number in range(50):
        await peer.send(wire.ShareAddresses(addresses=lies(10 * number, 10)))
    reason = await peer.reason(1.0)
    grown = await arena.known_addresses() - before
    return Seen(reason=reason or HELD, damage=f"{grown} addresses were taken" if grown > 20 else "")


@attack(expects=HELD, covers=("source-buckets", "slots", "new-buckets"), without="source-buckets")
async def address_book_poisoning(arena: Arena) -> Seen:
    """A peer that the victim asks answers with a thousand lies, five times: one source fills its share of the book."""
    before = await arena.known_addresses()
    calls = iter(range(50))

    def answer(_: wire.GetAddresses) -> wire.Message:
        return wire.Addresses(addresses=lies(1_000 * next(calls), 1_000))

    for _ in range(5):
        await answered(arena, {wire.GetAddresses: answer}, 3.0)
    grown = await arena.known_addresses() - before
    share = ADDRESS_SOURCE_BUCKETS * ADDRESS_SLOTS
    # Each call comes from an address of its own, so each has a share of its own.
    most = 5 * share
    damage = "" if grown <= most * 0.8 else f"{grown} of 5,000 addresses were taken"
    return Seen(reason=HELD, damage=damage)


@attack(expects=IGNORED, covers=("horizon",), without="horizon")
async def stale_addresses(arena: Arena) -> Seen:
    """Addresses that nobody saw for a year."""
    before = await arena.known_addresses()
    old = clock_ms() - 365 * 86_400_000
    answers: dict[type, Answer] = {
        wire.GetAddresses: lambda _: wire.Addresses(addresses=lies(0, 900, last_seen_ms=old))
    }
    await answered(arena, answers, 3.0)
    grown = await arena.known_addresses() - before
    return Seen(reason=IGNORED, damage=f"{grown} addresses were taken" if grown > 20 else "")


@attack(expects=HELD, covers=("answered", "answered-share"), without="answer-once")
async def address_scraping(arena: Arena) -> Seen:
    """Questions that collect the whole book: one answer for a connection, and a share of the book in it."""
    answers: dict[type, Answer] = {wire.GetAddresses: lambda _: wire.Addresses(addresses=lies(50_000, 400))}
    await answered(arena, answers, 3.0)
    known = await arena.known_addresses()
    peer = await arena.join()
    for _ in range(6):
        await peer.send(wire.GetAddresses())
    await peer.hear(wire.Addresses, 5, 6)
    told = [len(item.addresses) for item in peer.all(wire.Addresses)]
    most = max(ANSWER_FLOOR, int(known * ADDRESSES_ANSWERED_SHARE) + 1)
    damage = "" if sum(told) <= most and len(told) == 6 else f"{told} of {known} addresses were told"
    return Seen(reason=HELD, damage=damage)


@attack(expects=HELD, covers=("relayed-to",), without="address-relay")
async def address_spreading(arena: Arena) -> Seen:
    """A new address, said once: two peers hear of it and not all."""
    ears = [await arena.join() for _ in range(10)]
    peer = await arena.join()
    before = {id(ear): len(ear.all(wire.ShareAddresses)) for ear in ears}
    host = f"127.{arena.random.randrange(180, 250)}.{arena.random.randrange(250)}.{arena.random.randrange(1, 250)}"
    address = wire.Address(host=host, port=9, last_seen_ms=clock_ms())
    await peer.send(wire.ShareAddresses(addresses=(address,)))
    await asyncio.sleep(1.0)
    heard = sum(
        any(
            item.host == host
            for share in ear.all(wire.ShareAddresses)[before[id(ear)] :]
            for item in share.addresses
        )
        for ear in ears
    )
    damage = "" if heard <= ADDRESS_RELAY_PEERS else f"{heard} of 10 peers heard of it"
    return Seen(reason=HELD, damage=damage)


@attack(expects=HELD, covers=("outbound",), without="outbound-count")
async def lures(arena: Arena) -> Seen:
    """Thirty listeners that invite the victim: it opens eight connections, two for blocks alone, and a short one now and then."""
    tls = open_identity(arena.root / "attacker")
    context = server_context(tls)
    identities = [arena.identity() for _ in range(30)]
    async with contextlib.AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(lying_in_wait(item, context, tls.certificate_hash, {}))
            for item in identities
        ]
        for identity, (port, _) in zip(identities, opened, strict=True):
            told = wire.Address(host=identity.source, port=port, last_seen_ms=clock_ms())
            peer = await arena.join()
            await peer.send(wire.ShareAddresses(addresses=(told,)))
        await asyncio.sleep(10.0)
        held = sum(not peer.ended.done() for _, peers in opened for peer in peers)
    most = MAX_OUTBOUND + MAX_BLOCK_RELAY + FEELERS
    damage = "" if 0 < held <= most else f"{held} connections were opened"
    return Seen(reason=HELD, damage=damage)
