"""Attacks with headers: without work, without authority, without end, out of order, and from another time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from facechain.consensus.block import Block, Header, SealedHeader, seal_header
from facechain.consensus.chain import BlockTree, HeaderNode
from facechain.consensus.signing import LedgerKey
from facechain.node.service import clock_ms
from facechain.node.wire import messages as wire
from hostile.arena import HEARTBEAT_MS, INSIDER, SPACING_MS, Arena
from hostile.attacker import Answer, Peer
from hostile.defences import SCALED_HEADERS
from hostile.registry import IGNORED, Seen, attack
from support.chain import ChainBuilder, solve
from support.strangers import strangers_line

FULL = 2_000
FLOOD_CHAINS = 60
FLOOD_LENGTH = 10


def showing(headers: Sequence[SealedHeader]) -> dict[type, Answer]:
    """Answer questions for headers with these, from where the asker is on."""
    positions = {item.hash: index for index, item in enumerate(headers)}

    def answer(question: wire.GetHeaders) -> wire.Message:
        start = next((positions[item] + 1 for item in question.locator if item in positions), 0)
        return wire.Headers(sealed_headers=tuple(item.encode() for item in headers[start : start + FULL]))

    return {wire.GetHeaders: answer}


def sealed_by(arena: Arena, header: Header, key: LedgerKey = INSIDER) -> SealedHeader:
    """Find a nonce and seal."""
    return seal_header(key, arena.genesis.network_id, solve(header))


def announcement(sealed: SealedHeader) -> wire.AnnounceBlock:
    """Return the announcement of a block, without leaves."""
    return wire.AnnounceBlock(sealed_header=sealed.encode(), byte_count=1, leaves=())


def line(
    arena: Arena,
    tree: BlockTree,
    parent: HeaderNode,
    length: int,
    *,
    step_ms: int,
    root: bytes | None = None,
) -> list[SealedHeader]:
    """Mine headers on top of a header in a tree, right in all that can be told without a body.

    `root`: of every body (default: of bodies that nobody has).
    """
    made: list[SealedHeader] = []
    for _ in range(length):
        context = tree.context(parent)
        header = Header(
            version=1,
            height=context.height,
            previous=context.parent_hash,
            body_root=root or arena.hash(),
            state_root=arena.hash(),
            time_ms=context.parent_time_ms + step_ms,
            bits=context.bits,
            producer=INSIDER.public,
            nonce=0,
        )
        made.append(sealed_by(arena, header))
        parent = tree.add_header(made[-1])
    return made


async def shown(arena: Arena, headers: Sequence[SealedHeader], seconds: float = 15) -> Seen:
    """Answer the victim's question with headers; tell why that ended the connection."""
    peer = await arena.join(showing(headers))
    reason = await arena.reason(peer, seconds)
    if not reason:
        return Seen(reason="", damage="the headers were taken")
    await arena.ban_of(peer.identity)
    return Seen(reason=reason)


async def next_header(arena: Arena) -> Header:
    """Return the header of a block that would be valid on the victim's tip."""
    return (await arena.learn()).draft().header


@attack(expects="high-hash", bans=True, without="work")
async def headers_without_work(arena: Arena) -> Seen:
    """A header whose hash is above its target."""
    header = await next_header(arena)
    target_bits = header.bits
    while True:
        header = header.with_nonce(header.nonce + 1)
        if solve(header) is not header:
            break
    assert header.bits == target_bits
    return await shown(arena, [seal_header(INSIDER, arena.genesis.network_id, header)], 5)


@attack(expects="bad-diffbits", bans=True, without="target")
async def headers_of_own_difficulty(arena: Arena) -> Seen:
    """A header that names an easier target than the rule gives."""
    header = await next_header(arena)
    return await shown(arena, [sealed_by(arena, replace(header, bits=0x2100FFFF))], 5)


@attack(expects="bad-seal", bans=True, without="seals")
async def bad_seal_on_good_header(arena: Arena) -> Seen:
    """A good header with a seal that does not verify; the same header with its true seal is good afterwards."""
    mirror = await arena.learn()
    block = mirror.draft()
    broken = SealedHeader(block.header, bytes(64))
    seen = await shown(arena, [broken], 5)
    if seen.reason != "bad-seal":
        return seen
    peer = await arena.join(serving([block]))
    await peer.send(announcement_of(block))

    async def known() -> bool:
        return bool((await arena.status())["best_header_height"] >= block.header.height)

    if not await arena.within(known, 10):
        return Seen(reason=seen.reason, damage="the header's hash was remembered as bad")
    return seen


def announcement_of(block: Block) -> wire.AnnounceBlock:
    """Return the full announcement of a block."""
    return wire.AnnounceBlock(
        sealed_header=block.sealed.encode(), byte_count=block.body.byte_count(), leaves=block.body.leaves()
    )


def serving(blocks: Sequence[Block]) -> dict[type, Answer]:
    """Serve headers and bodies of these blocks."""
    from facechain.node.protocol.serving import ServedBody

    bodies = {block.hash: ServedBody.of(block) for block in blocks}

    def body(question: wire.GetBody) -> wire.Message:
        found = bodies.get(question.block_hash)
        if found is None:
            return wire.NotFound(missing=wire.Missing.BODY, hashes=(question.block_hash,))
        return found.chunk(question.start, with_leaves=question.with_leaves)

    return {**showing([block.sealed for block in blocks]), wire.GetBody: body}


@attack(expects="bad-seal", bans=True, without="seals")
async def bad_seals_in_a_long_message(arena: Arena) -> Seen:
    """Five hundred headers, the last of which has a bad seal: each costs a verification."""
    made = line(arena, *(await arena.learn()).fork(0), 500, step_ms=SPACING_MS)
    return await shown(arena, [*made[:-1], SealedHeader(made[-1].header, bytes(64))])


@attack(expects="unauthorized-producer", bans=True, without="authority")
async def heavier_chain_of_strangers(arena: Arena) -> Seen:
    """A chain from genesis with more work than the honest one, sealed by a key without a role."""
    height = (await arena.status())["height"]
    builder = ChainBuilder(arena.genesis)
    blocks = strangers_line(builder, builder.genesis_block, height + 40)
    peer = await arena.join(serving(blocks))
    reason = await arena.reason(peer, 10)
    status = await arena.status()
    forged = blocks[-1].hash.hex()
    damage = "the forged chain was followed" if status["tip"] == forged else ""
    if not reason and status["best_known_height"] >= height + 40:
        damage = damage or "the forged headers count as the best chain"
    return Seen(reason=reason, damage=damage)


@attack(expects="bad-prevblk", bans=True, without="continuity")
async def headers_with_a_gap(arena: Arena) -> Seen:
    """Headers that do not follow each other."""
    made = line(arena, *(await arena.learn()).fork(0), 6, step_ms=SPACING_MS)
    return await shown(arena, [*made[:2], *made[4:]], 5)


@attack(expects="time-too-old", bans=True, without="median-time")
async def headers_from_the_past(arena: Arena) -> Seen:
    """A header that is not after the median of the eleven before it."""
    header = await next_header(arena)
    return await shown(arena, [sealed_by(arena, replace(header, time_ms=arena.genesis.time_ms))], 5)


@attack(expects=IGNORED, without="future-limit")
async def headers_from_the_future(arena: Arena) -> Seen:
    """Headers an hour ahead of the clock: borne, since a clock may be wrong, and not taken."""
    header = await next_header(arena)
    ahead = sealed_by(arena, replace(header, time_ms=clock_ms() + 3_600_000))
    peer = await arena.join(showing([ahead]))
    await peer.send(*[announcement(ahead)] * 200)
    reason = await arena.reason(peer, 1.0)
    known = (await arena.status())["best_header_height"]
    damage = "the header was taken" if known >= header.height and await holds(arena, ahead) else ""
    return Seen(reason=reason or IGNORED, damage=damage)


async def holds(arena: Arena, sealed: SealedHeader) -> bool:
    """Tell whether the victim asks a peer that announces a child of this header for nothing but the child's body."""
    peer = await arena.join()
    await peer.hear(wire.GetHeaders, 5)
    return any(sealed.hash in item.locator for item in peer.all(wire.GetHeaders))


@attack(expects=IGNORED, without="parents")
async def orphan_flood(arena: Arena) -> Seen:
    """Three thousand blocks whose parents nobody knows: none of them is kept."""
    mirror = await arena.learn()
    header = mirror.draft().header
    peer = await arena.join()
    orphans = set()
    for number in range(3_000):
        orphan = sealed_by(arena, replace(header, previous=arena.hash(), height=header.height + number % 9))
        orphans.add(orphan.hash)
        await peer.send(announcement(orphan))
    reason = await arena.reason(peer, 1.0)
    wanted = orphans & {item.block_hash for item in peer.all(wire.GetBody)}
    return Seen(reason=reason or IGNORED, damage=f"{len(wanted)} of them were kept" if wanted else "")


@attack(expects=IGNORED, without="parents")
async def far_ahead_blocks(arena: Arena) -> Seen:
    """Blocks a million heights ahead, announced and never explained."""
    header = await next_header(arena)
    peer = await arena.join()
    for _ in range(300):
        far = replace(header, previous=arena.hash(), height=header.height + 1_000_000)
        await peer.send(announcement(sealed_by(arena, far)))
    reason = await arena.reason(peer, 1.0)
    return Seen(reason=reason or IGNORED, damage=await moved_beyond(arena, header.height + 1_000))


async def moved_beyond(arena: Arena, height: int) -> str:
    """Return the damage when the victim believes in headers that high."""
    status = await arena.status()
    return f"headers up to {status['best_header_height']}" if status["best_header_height"] > height else ""


@attack(expects=IGNORED, scaled=True, without="header-memory")
async def low_work_header_flood(arena: Arena) -> Seen:
    """Sixty short chains of sealed headers with a little less work than the tip: the oldest are forgotten."""
    await arena.grown(2 * FLOOD_LENGTH)
    mirror = await arena.learn()
    fork = mirror.chain.tree.tip.height - 2 * FLOOD_LENGTH
    chains = [
        line(arena, *mirror.fork(fork), FLOOD_LENGTH + 1, step_ms=HEARTBEAT_MS) for _ in range(FLOOD_CHAINS)
    ]
    reasons = set()
    for made in chains:
        peer = await arena.join(showing(made[:-1]))
        await peer.hear(wire.GetHeaders, 5)
        await peer.echo()
        reasons.add(await arena.reason(peer, 0) or IGNORED)
        await peer.close()
    judge = await arena.join()
    await judge.hear(wire.GetHeaders, 5)  # with an answer on its way, it would not ask again
    held = sum([await knows_parent(judge, made[-1]) for made in chains])
    most = 2 * SCALED_HEADERS // FLOOD_LENGTH
    damage = "" if held <= most else f"{held} of {FLOOD_CHAINS} chains are still held"
    return Seen(reason=" ".join(sorted(reasons)), damage=damage)


async def knows_parent(peer: Peer, sealed: SealedHeader) -> bool:
    """Tell whether the victim has the parent of a header: announced this one, it would ask for headers otherwise."""
    await peer.echo()
    before = peer.counts[wire.GetHeaders]
    await peer.send(announcement(sealed))
    await peer.echo()
    return peer.counts[wire.GetHeaders] == before
