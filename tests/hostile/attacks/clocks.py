"""Attacks on the victim's idea of the time."""

from __future__ import annotations

import asyncio

from facechain.node.service import clock_ms
from facechain.node.wire import messages as wire
from facechain.node.wire.tls import open_identity, server_context
from hostile.arena import Arena
from hostile.attacker import lying_in_wait
from hostile.registry import IGNORED, Seen, attack

LIE_MS = 7_200_000
LIARS = 6
BORNE_MS = 60_000


@attack(expects=IGNORED, without="own-clock")
async def time_manipulation(arena: Arena) -> Seen:
    """Six peers that the victim chose say that it is two hours later: nobody's clock is set by it."""
    tls = open_identity(arena.root / "attacker")
    context = server_context(tls)
    identity = arena.identity()
    async with (
        lying_in_wait(identity, context, tls.certificate_hash, {}) as (port, peers),
        arena.admin(arena.victim) as client,
    ):
        name = f"{identity.source}:{port}"
        await client.call("POST", "/v1/peers", content={"peer": name})

        async def came() -> bool:
            return bool(peers)

        met = await arena.within(came, 10)
        for peer in peers:
            await peer.send(wire.Clock(time_ms=clock_ms() + LIE_MS))
        inbound = [await arena.join() for _ in range(LIARS)]
        for peer in inbound:
            await peer.send(wire.Clock(time_ms=clock_ms() + LIE_MS))
        await asyncio.sleep(0.5)
        off = abs(int((await arena.status())["now_ms"]) - clock_ms())
        reasons = {peer.ended.result() for peer in [*peers, *inbound] if peer.ended.done()}
        await client.call("DELETE", "/v1/peers", query={"peer": name})
    damage = "" if met and off < BORNE_MS else f"the victim's clock is {off} ms off (met: {met})"
    return Seen(reason=" ".join(sorted(reasons)) or IGNORED, damage=damage)
