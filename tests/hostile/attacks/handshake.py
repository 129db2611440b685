"""Attacks on the handshake: whose key, which network, which certificate, and how long it may take."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

from facechain.consensus.signing import Purpose
from facechain.node.wire import messages as wire
from facechain.node.wire.codec import encode
from hostile.arena import Arena
from hostile.attacker import Ended, Identity, Peer, Socket, raw_frame, signed_parts
from hostile.registry import Seen, attack


async def refused(arena: Arena, identity: Identity, **handshake: Any) -> Seen:
    """Try a handshake; tell why it was refused, or that it was not."""
    try:
        peer = await arena.join(identity=identity, **handshake)
    except Ended as end:
        return Seen(reason=str(end))
    # The responder's Proof is on its way before it has seen the other one.
    reason = await peer.reason(2)
    return Seen(reason=reason, damage="" if reason else "the handshake was accepted")


@attack(expects="wrong-network", without="network-id")
async def wrong_network(arena: Arena) -> Seen:
    """A peer of another network."""
    identity = dataclasses.replace(arena.identity(), network_id=arena.hash())
    return await refused(arena, identity)


@attack(expects="version-mismatch", without="versions")
async def wrong_version(arena: Arena) -> Seen:
    """A peer that speaks later versions only."""
    return await refused(arena, arena.identity(versions=(7, 9)))


@attack(expects="self-connection", without="own-key")
async def own_key(arena: Arena) -> Seen:
    """The victim's own key shown to it."""
    identity = arena.identity()
    own = bytes.fromhex((await arena.status())["node_key"])
    return await refused(arena, identity, hello=identity.hello(node_key=own))


@attack(expects="bad-handshake-signature", without="handshake-signature")
async def identity_theft(arena: Arena) -> Seen:
    """The honest miner's key shown by somebody who does not hold it."""
    before = await arena.honest_peers()
    miner = bytes.fromhex((await arena.ask(arena.miner, "/v1/status"))["node_key"])
    identity = arena.identity()
    seen = await refused(arena, identity, hello=identity.hello(node_key=miner))
    await asyncio.sleep(0.2)
    after = await arena.honest_peers()
    lost = [key for key, since in before.items() if after.get(key, 0) < since]
    return dataclasses.replace(seen, damage="the miner's connection was replaced") if lost else seen


@attack(expects="bad-handshake-signature", without="handshake-signature")
async def replayed_handshake(arena: Arena) -> Seen:
    """Hello and Proof of an earlier connection, sent again bit by bit."""
    identity = arena.identity()
    hello = identity.hello()
    first = await Socket.open(*arena.address, identity.source)
    await first.upgrade()
    await first.send(encode(hello))
    _, theirs = await first.receive()
    from facechain.node.wire.codec import decode

    answer = decode(theirs)
    if not isinstance(answer, wire.Hello):
        return Seen(reason="", damage=f"no Hello but {answer}")
    parts = signed_parts(hello, answer, first.certificate_hash())
    signature = identity.key.sign(Purpose.HANDSHAKE_INITIATOR, identity.network_id, *parts)
    first.close()
    return await refused(arena, identity, hello=hello, signature=signature)


@attack(expects="protocol-error", without="roles")
async def reflected_handshake(arena: Arena) -> Seen:
    """The victim's own Hello sent back to it, and then its own Proof."""
    identity = arena.identity()
    probe = await Socket.open(*arena.address, identity.source)
    await probe.upgrade()
    await probe.send(encode(identity.hello()))
    _, theirs = await probe.receive()
    probe.close()
    return await refused(arena, identity, hello=bytes(theirs), reflects=True)


@attack(expects="certificate-mismatch", without="certificate")
async def relay_in_the_middle(arena: Arena) -> Seen:
    """Somebody who ends TLS in between: the initiator signed for another certificate."""
    return await refused(arena, arena.identity(), certificate_hash=arena.hash())


@attack(expects="protocol-error", covers=("user-agent",), without="agent-size")
async def long_user_agent(arena: Arena) -> Seen:
    """A Hello whose user agent is one byte longer than allowed."""
    identity = arena.identity()
    hello = identity.hello()
    values = [
        *(hello.version_min, hello.version_max, hello.network_id, hello.node_key, hello.nonce),
        *(int(hello.role), hello.listen_port, hello.services, "x" * 65),
    ]
    return await refused(arena, identity, hello=raw_frame(0x01, values))


@attack(expects="unexpected-message", bans=True, without="phases")
async def second_handshake(arena: Arena) -> Seen:
    """Another Hello after the handshake."""
    peer = await arena.join()
    await peer.send(encode(peer.identity.hello()))
    return Seen(reason=await peer.reason(3))


@attack(expects="duplicate-connection", without="one-connection-per-key")
async def one_key_twice(arena: Arena) -> Seen:
    """Twenty connections of one key: it has one place, however often it comes."""
    identity = arena.identity()
    peers: list[Peer] = []
    for _ in range(20):
        try:
            peers.append(await arena.join(identity=identity))
        except Ended:
            continue
    await asyncio.sleep(0.5)
    held = [peer for peer in peers if not peer.ended.done()]
    reasons = {peer.ended.result() for peer in peers if peer.ended.done()}
    damage = f"{len(held)} connections of one key" if len(held) > 1 else ""
    return Seen(reason=" ".join(sorted(reasons)), damage=damage)


@attack(expects="handshake-timeout", covers=("handshake",), scaled=True, without="handshake-time")
async def slow_loris_on_the_peer_port(arena: Arena) -> Seen:
    """Sixteen upgrades whose Hello comes one byte at a time."""
    sockets = [await Socket.open(*arena.address, arena.source()) for _ in range(16)]
    for socket in sockets:
        await socket.upgrade()
    peers = [Peer(socket, arena.identity()) for socket in sockets]
    for peer in peers:
        peer.start()
        arena.peers.append(peer)

    async def drip(peer: Peer) -> None:
        data = peer.socket.header(180) + bytes(180)
        for byte in data:
            if peer.ended.done():
                return
            try:
                await peer.socket.write(bytes((byte,)))
            except Ended:
                return
            await asyncio.sleep(0.5)

    drips = [asyncio.create_task(drip(peer)) for peer in peers]
    reasons = set(await asyncio.gather(*(peer.reason(8) for peer in peers)))
    for task in drips:
        task.cancel()
    return Seen(reason=" ".join(sorted(reasons)))
