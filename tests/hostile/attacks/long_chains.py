"""Attacks with more headers than one message holds: far ahead of the tip, with little work, and exchanged meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

from facechain.consensus.block import SealedHeader
from facechain.node.wire import messages as wire
from hostile.arena import HEARTBEAT_MS, Arena
from hostile.attacker import Peer
from hostile.attacks.headers import FULL, line, showing
from hostile.registry import HELD, IGNORED, Seen, attack

STEP_MS = 10


def asked_on(peer: Peer, made: Sequence[SealedHeader]) -> bool:
    """Tell whether the victim asked for what follows the first full message."""
    return any(made[FULL - 1].hash in item.locator for item in peer.all(wire.GetHeaders))


@attack(expects=HELD, covers=("headers-ahead",), scaled=True, is_long=True, without="headers-ahead")
async def headers_without_end(arena: Arena) -> Seen:
    """Four thousand true headers above the tip, and no body: after the first message no more are asked for."""
    mirror = await arena.learn()
    made = line(arena, *mirror.fork(), 2 * FULL, step_ms=STEP_MS)
    peer = await arena.join({**showing(made), wire.GetBody: lambda _: None})
    took = await peer.hear(wire.GetBody, 15)
    await peer.until(lambda: asked_on(peer, made), 2)
    damage = "more were asked for" if asked_on(peer, made) else "" if took else "the headers were not taken"
    return Seen(reason=HELD, damage=damage)


@attack(expects=IGNORED, covers=("presync-bits",), scaled=True, is_long=True, without="presync-bits")
async def headers_of_little_work(arena: Arena) -> Seen:
    """Two thousand headers from genesis with less work than the tip: no more of them are looked at than bits are kept."""
    mirror = await arena.learn()
    made = line(arena, *mirror.fork(0), FULL, step_ms=HEARTBEAT_MS + 100)
    peer = await arena.join(showing(made))
    await peer.hear(wire.GetHeaders, 5)
    await peer.echo()
    await peer.until(lambda: asked_on(peer, made), 2)
    reason = await arena.reason(peer, 0)
    return Seen(reason=reason or IGNORED, damage="more were asked for" if asked_on(peer, made) else "")


@attack(expects="headers-changed", covers=("presync-headers",), is_long=True, without="second-look")
async def exchanged_headers(arena: Arena) -> Seen:
    """A chain with the work of the tip at the first look, and another one at the second: none of that is kept."""
    mirror = await arena.learn()
    height = mirror.chain.tree.tip.height
    shown = line(arena, *mirror.fork(0), height, step_ms=HEARTBEAT_MS)
    other = line(arena, *mirror.fork(0), height, step_ms=HEARTBEAT_MS + 1)
    places = {item.hash: (made, index) for made in (shown, other) for index, item in enumerate(made)}
    looks = 0

    def answer(question: wire.GetHeaders) -> wire.Message:
        nonlocal looks
        made, last = next((places[item] for item in question.locator if item in places), (None, -1))
        if made is None:
            looks += 1
            made = shown if looks == 1 else other
        return wire.Headers(sealed_headers=tuple(item.encode() for item in made[last + 1 : last + 1 + FULL]))

    peer = await arena.join({wire.GetHeaders: answer})
    reason = await arena.reason(peer, 15)
    return Seen(reason=reason, damage="" if looks > 1 else f"{looks} looks")
