"""Attacks with bodies: changed, never delivered, larger than memory, invalid inside, or held back on purpose."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from facechain.consensus.block import Block, Body, Header, SealedHeader, body_root
from facechain.node.wire import messages as wire
from facechain.node.wire.limits import MAX_IN_FLIGHT, MAX_IN_FLIGHT_BYTES
from hostile.arena import BYSTANDER, HEARTBEAT_MS, INSIDE_AUTHOR, INSIDER, MAX_REORG, Arena, Mirror
from hostile.attacker import Answer, silent
from hostile.attacks.headers import announcement_of, line, sealed_by, serving, showing
from hostile.attacks.statements import HELD_RECEIPTS, receipts
from hostile.registry import HELD, IGNORED, Seen, attack

BIG_BODY = 16 * 2**20


def below_a_line(arena: Arena, mirror: Mirror, block: Block) -> dict[type, Answer]:
    """Serve a block on the tip, and empty blocks on top of it.

    A single block on the tip has no more work than the one that the honest miner seals meanwhile; when that one comes
    first, nobody connects the other.
    """
    tree, _ = mirror.fork()
    nothing = Body(())
    parent = tree.add_header(block.sealed)
    above = line(arena, tree, parent, 8, step_ms=HEARTBEAT_MS, root=nothing.root())
    return serving([block, *(Block(sealed, nothing) for sealed in above)])


@attack(expects="bad-merkle-root", bans=True, without="body-root")
async def mutated_body(arena: Arena) -> Seen:
    """A valid block whose body was changed; the true body of the same block is taken afterwards."""
    mirror = await arena.learn()
    statement = arena.sign(INSIDE_AUTHOR, arena.note())
    block = mirror.draft([statement])
    other = arena.sign(INSIDE_AUTHOR, arena.note())
    mutated = Block(block.sealed, Body((other,)))
    reason = await arena.reason(await arena.join(below_a_line(arena, mirror, mutated)), 10)
    if reason != "bad-merkle-root":
        return Seen(reason=reason, damage="the changed body was taken")
    honest = await arena.join(serving([block]))
    await honest.send(announcement_of(block))
    await honest.echo()
    bad = await arena.reason(honest, 0.1)
    return Seen(reason=reason, damage=f"the true body was refused: {bad}" if bad else "")


@attack(expects="bad-merkle-root", bans=True, without="body-root")
async def duplicated_statement(arena: Arena) -> Seen:
    """A body with its last statement twice: the change that once fooled Bitcoin (CVE-2012-2459)."""
    mirror = await arena.learn()
    statement = arena.sign(INSIDE_AUTHOR, arena.note())
    block = mirror.draft([statement])
    mutated = Block(block.sealed, Body((*block.body.statements, *block.body.statements[-1:])))
    return Seen(reason=await arena.reason(await arena.join(below_a_line(arena, mirror, mutated)), 10))


@attack(expects="bad-state-root", bans=True, without="blame")
async def invalid_state(arena: Arena) -> Seen:
    """A block by a true producer, with work and seal, that commits to a state that does not follow."""
    mirror = await arena.learn()
    block = mirror.draft()
    header = replace(block.header, state_root=arena.hash())
    bad = Block(sealed_by(arena, header), block.body)
    answers = below_a_line(arena, mirror, bad)
    await arena.grown(mirror.chain.tree.tip.height + 1)  # the honest block comes first
    reason = await arena.reason(await arena.join(answers), 10)
    tip = (await arena.status())["tip"]
    return Seen(reason=reason, damage="it is the tip" if tip == bad.hash.hex() else "")


@attack(expects="stalled", scaled=True, without="body-stalls")
async def stalled_download(arena: Arena) -> Seen:
    """A heavier chain whose headers are shown and whose bodies never come; honest blocks must arrive meanwhile."""
    mirror = await arena.learn()
    made = line(arena, *mirror.fork(), 20, step_ms=HEARTBEAT_MS)
    peer = await arena.join({**showing(made), wire.GetBody: silent})
    asked = await peer.hear(wire.GetBody, 5)
    height = (await arena.status())["height"]
    reason = await arena.reason(peer, 25)
    grew = (await arena.status())["height"] > height
    damage = "" if asked and grew else f"asked {asked}, grew {grew}"
    return Seen(reason=reason, damage=damage)


@attack(expects=HELD, covers=("in-flight",), without="in-flight")
async def many_bodies_owed(arena: Arena) -> Seen:
    """A long chain of headers: no peer is asked for more than six bodies at a time."""
    mirror = await arena.learn()
    made = line(arena, *mirror.fork(), 60, step_ms=HEARTBEAT_MS)
    peer = await arena.join({**showing(made), wire.GetBody: silent})
    await peer.hear(wire.GetBody, 5)
    await asyncio.sleep(1.0)
    asked = len(peer.all(wire.GetBody))
    damage = "" if 0 < asked <= MAX_IN_FLIGHT else f"{asked} bodies asked for at once"
    return Seen(reason=HELD, damage=damage)


def large_bodies(
    arena: Arena, mirror: Mirror, count: int
) -> dict[bytes, tuple[SealedHeader, wire.BodyChunk]]:
    """Return headers of blocks that claim 16 MiB each, with the first statement of each of them."""
    statement = arena.sign(INSIDE_AUTHOR, arena.note())
    tree, parent = mirror.fork()
    found = {}
    for _ in range(count):
        context = tree.context(parent)
        leaves = (statement.leaf, *(arena.hash() for _ in range(40)))
        header = Header(
            version=1,
            height=context.height,
            previous=context.parent_hash,
            body_root=body_root(leaves, BIG_BODY),
            state_root=arena.hash(),
            time_ms=context.parent_time_ms + HEARTBEAT_MS,
            bits=context.bits,
            producer=INSIDER.public,
            nonce=0,
        )
        sealed = sealed_by(arena, header)
        parent = tree.add_header(sealed)
        encoded = (statement.encode(),)
        found[sealed.hash] = (
            sealed,
            wire.BodyChunk(
                block_hash=sealed.hash, leaves=leaves, byte_count=BIG_BODY, start=0, statements=encoded
            ),
        )
    return found


@attack(expects=HELD, covers=("in-flight-bytes",), without="in-flight-bytes")
async def large_bodies_from_many(arena: Arena) -> Seen:
    """Bodies that claim 16 MiB each, from three peers: the rest is asked for only as far as 64 MiB go."""
    made = large_bodies(arena, await arena.learn(), 12)
    begun: set[bytes] = set()

    def answer(question: wire.GetBody) -> wire.Message | None:
        if question.start or not question.with_leaves:
            begun.add(question.block_hash)
            return None
        return made[question.block_hash][1]

    answers: dict[type, Answer] = {
        **showing([sealed for sealed, _ in made.values()]),
        wire.GetBody: answer,
        wire.GetStatements: silent,
    }
    peers = [await arena.join(answers) for _ in range(3)]
    await asyncio.sleep(4.0)
    begun |= {leaf for peer in peers for item in peer.all(wire.GetStatements) for leaf in item.leaves}
    limit = MAX_IN_FLIGHT_BYTES // BIG_BODY
    damage = "" if 0 < len(begun) <= limit else f"{len(begun)} bodies of 16 MiB under way"
    return Seen(reason=HELD, damage=damage)


@attack(expects=IGNORED, without="max-reorg")
async def selfish_withholding(arena: Arena) -> Seen:
    """A true producer holds a longer chain back and shows it when it forks deeper than the node reorganises."""
    await arena.grown(MAX_REORG + 2)
    mirror = await arena.learn()
    height = mirror.chain.tree.tip.height
    private = mirror.below(height - MAX_REORG - 1)
    blocks: list[Block] = []
    while len(blocks) < MAX_REORG + 8:
        earliest = private.chain.tree.tip.time_ms + HEARTBEAT_MS
        blocks.append(private.mine(now_ms=earliest))
    peer = await arena.join(serving([*private.blocks()[: -len(blocks)], *blocks]))
    await peer.send(announcement_of(blocks[-1]))
    reason = await arena.reason(peer, 4.0)
    tip = (await arena.status())["tip"]
    ours = {block.hash.hex() for block in blocks}
    followed = tip in ours or any([await is_active(arena, block) for block in blocks[-1:]])
    return Seen(reason=reason or IGNORED, damage="the withheld chain was followed" if followed else "")


async def is_active(arena: Arena, block: Block) -> bool:
    """Tell whether a block is on the victim's chain."""
    async with arena.session.get(f"{arena.victim.api}/v1/blocks/{block.header.height}") as response:
        return response.status == 200 and (await response.json())["hash"] == block.hash.hex()


def sealed_at_once(arena: Arena, private: Mirror) -> Block:
    """Seal a block right after the tip: with a statement in it, it need not wait for the heartbeat."""
    note = arena.sign(INSIDE_AUTHOR, arena.note(), sequence=private.sequence(INSIDE_AUTHOR))
    return private.mine([note], now_ms=private.chain.tree.tip.time_ms + 10)


@attack(expects=IGNORED, without="returns")
async def reorganised_statement(arena: Arena) -> Seen:
    """A short withheld chain replaces the block that holds an honest statement: it waits again, and is sealed again."""
    mirror = await arena.learn()
    private = mirror.below(mirror.chain.tree.tip.height)
    async with arena.client(arena.victim) as client:
        account = await client.account(BYSTANDER.public)
        statement = arena.sign(BYSTANDER, arena.note(), sequence=account.next_sequence)
        await client.submit(statement)
        await client.wait(statement.id, confirmations=1, timeout_seconds=20)
        blocks = [sealed_at_once(arena, private) for _ in range(10)]
        peer = await arena.join(serving(private.blocks()))
        await peer.send(announcement_of(blocks[-1]))

        async def followed() -> bool:
            return await is_active(arena, blocks[0])

        if not await arena.within(followed, 10):
            return Seen(reason=IGNORED, damage="the withheld chain was not followed")
        if (await receipts(arena, [statement]))[0] not in HELD_RECEIPTS:
            return Seen(reason=IGNORED, damage="the statement was lost")
        found = await client.wait(statement.id, confirmations=2, timeout_seconds=30)
    return Seen(
        reason=IGNORED, damage="" if found.confirmations >= 2 else "the statement was not sealed again"
    )
