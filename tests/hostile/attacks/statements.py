"""Attacks with statements: offered and never sent, forged, from nobody, out of order, from a revoked key, in masses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from facechain.consensus.statement import Statement
from facechain.node.wire import messages as wire
from facechain.node.wire.limits import MAX_INVENTORY, MAX_ORPHAN_BYTES, MAX_ORPHANS
from hostile.arena import GAPPED, INSIDE_AUTHOR, REVOKED, Arena
from hostile.attacker import Answer, silent
from hostile.registry import IGNORED, Seen, attack
from support.chain import STRANGER, make_batch

JUDGE_SECONDS = 5.0
LARGE_RECORDS = 14_000
"""Of a batch that fills most of the largest statement."""
HELD_RECEIPTS = frozenset({"queued", "relayed", "sealed", "confirmed"})
"""Of statements that are in the victim's mempool, or on its chain."""


def handing_over(statements: Sequence[Statement], *, at_once: int = MAX_INVENTORY) -> dict[type, Answer]:
    """Answer questions for statements with these, so many of them in a message."""
    by_leaf = {item.leaf: item.encode() for item in statements}

    def answer(question: wire.GetStatements) -> wire.Message:
        found = tuple(by_leaf[leaf] for leaf in question.leaves if leaf in by_leaf)
        if not found:
            return wire.NotFound(missing=wire.Missing.STATEMENT, hashes=question.leaves)
        return wire.Statements(statements=found[:at_once])

    return {wire.GetStatements: answer}


async def offered(
    arena: Arena, statements: Sequence[Statement], seconds: float, *, at_once: int = MAX_INVENTORY
) -> str:
    """Offer statements and hand them over; tell why that ended the connection, or that it did not."""
    peer = await arena.join(handing_over(statements, at_once=at_once))
    leaves = tuple(item.leaf for item in statements)
    for start in range(0, len(leaves), MAX_INVENTORY):
        await peer.send(wire.Inventory(leaves=leaves[start : start + MAX_INVENTORY]))
    await peer.hear(wire.GetStatements, 5)
    return await arena.reason(peer, seconds)


async def receipts(arena: Arena, statements: Sequence[Statement]) -> list[str]:
    """Return what the victim says of statements: "" when it does not know one."""
    found = []
    for item in statements:
        async with arena.session.get(f"{arena.victim.api}/v1/statements/{item.id.hex()}") as response:
            answer = await response.json()
            found.append(str(answer["receipt"]) if response.status == 200 else "")
    return found


async def refused(arena: Arena, statements: Sequence[Statement]) -> Seen:
    """Offer statements that nobody may say: they are passed over, and none is held or sealed."""
    reason = await offered(arena, statements, 3.0)
    held = [item for item in await receipts(arena, statements[:20]) if item in HELD_RECEIPTS]
    return Seen(reason=reason or IGNORED, damage=f"{len(held)} of them are held" if held else "")


@attack(expects="stalled", scaled=True, without="statement-stalls")
async def inventory_never_delivered(arena: Arena) -> Seen:
    """Statements that are offered again and again and never sent."""
    peer = await arena.join({wire.GetStatements: silent})
    for _ in range(4):
        await peer.send(wire.Inventory(leaves=tuple(arena.hash() for _ in range(2_000))))
    return Seen(reason=await arena.reason(peer, 20))


@attack(expects="bad-signature", bans=True, without="statement-signatures")
async def forged_statements(arena: Arena) -> Seen:
    """A statement in the name of a true author, with a signature that does not verify."""
    await arena.learn()
    true = arena.sign(INSIDE_AUTHOR, arena.note())
    forged = replace(true, signature=bytes(64))
    return Seen(reason=await offered(arena, [forged], JUDGE_SECONDS))


@attack(expects="decode-error", bans=True, without="statement-form")
async def garbage_for_statements(arena: Arena) -> Seen:
    """Bytes that are no statement, sent when asked for one."""
    answers: dict[type, Answer] = {wire.GetStatements: lambda _: wire.Statements(statements=(bytes(500),))}
    peer = await arena.join(answers)
    await peer.send(wire.Inventory(leaves=(arena.hash(),)))
    return Seen(reason=await arena.reason(peer, JUDGE_SECONDS))


@attack(expects=IGNORED, without="author-roles")
async def statement_flood(arena: Arena) -> Seen:
    """A thousand signed statements of keys without a role."""
    await arena.learn()
    made = [arena.sign(STRANGER, arena.note(), sequence=number) for number in range(1_000)]
    return await refused(arena, made)


@attack(expects=IGNORED, without="asked-for")
async def unneeded_statements(arena: Arena) -> Seen:
    """Statements that were not among those asked for, fifty times as many."""
    await arena.learn()
    first = arena.mirror.sequence(INSIDE_AUTHOR)
    extra = [arena.sign(INSIDE_AUTHOR, arena.note(), sequence=first + number) for number in range(500)]
    answers: dict[type, Answer] = {
        wire.GetStatements: lambda _: wire.Statements(statements=tuple(item.encode() for item in extra))
    }
    peer = await arena.join(answers)
    await peer.send(wire.Inventory(leaves=(arena.hash(),)))
    reason = await arena.reason(peer, 3.0)
    held = [item for item in await receipts(arena, extra[:20]) if item in HELD_RECEIPTS]
    return Seen(reason=reason or IGNORED, damage=f"{len(held)} of them are held" if held else "")


@attack(expects=IGNORED, covers=("orphans",), without="orphan-count")
async def sequence_gaps(arena: Arena) -> Seen:
    """Six thousand statements of two true authors whose first ones never come: they wait within their bound."""
    await arena.learn()
    made = [
        arena.sign(key, arena.note(), sequence=arena.mirror.sequence(key) + 1 + number)
        for key in GAPPED[:2]
        for number in range(3_000)
    ]
    reason = await offered(arena, made, 1.0)
    arrived = await have_arrived(arena, made)
    held = await served(arena, made, at_once=1_000)
    damage = "" if arrived and held <= MAX_ORPHANS else f"{held} of them wait"
    return Seen(reason=reason or IGNORED, damage=damage)


@attack(expects=IGNORED, covers=("orphan-bytes",), without="orphan-bytes")
async def large_gaps(arena: Arena) -> Seen:
    """Forty batches of nearly a MiB whose author's first statement never comes: they wait within their bound."""
    await arena.learn()
    payload, header = make_batch(LARGE_RECORDS, public=False)
    made = [arena.sign(GAPPED[2], payload, sequence=1 + number, batch=header) for number in range(40)]
    reason = await offered(arena, made, 1.0, at_once=1)
    arrived = await have_arrived(arena, made)
    held = sum([await served(arena, [item], at_once=1) * item.size_bytes for item in made])
    damage = "" if arrived and held <= MAX_ORPHAN_BYTES else f"{held} bytes wait"
    return Seen(reason=reason or IGNORED, damage=damage)


async def have_arrived(arena: Arena, statements: Sequence[Statement]) -> bool:
    """Wait until the victim looked at all of these statements: the newest is kept in any case."""

    async def is_newest_here() -> bool:
        return await served(arena, statements[-1:], at_once=1) > 0

    return await arena.within(is_newest_here, 20.0)


async def served(arena: Arena, statements: Sequence[Statement], *, at_once: int) -> int:
    """Return how many of these statements the victim hands out: those that it holds in any way."""
    peer = await arena.join()
    leaves = [item.leaf for item in statements]
    found: set[bytes] = set()
    for start in range(0, len(leaves), at_once):
        await peer.send(wire.GetStatements(leaves=tuple(leaves[start : start + at_once])))
        await peer.echo()
    for answer in peer.all(wire.Statements):
        found.update(Statement.decode(item).leaf for item in answer.statements)
    await peer.close()
    return len(found & set(leaves))


@attack(expects=IGNORED, without="author-roles")
async def revoked_key(arena: Arena) -> Seen:
    """Statements of a submitter whose role was taken away."""
    await arena.learn()
    return await refused(arena, [arena.sign(REVOKED, arena.note(), sequence=number) for number in range(5)])


@attack(expects=IGNORED, without="expiry")
async def expired_statements(arena: Arena) -> Seen:
    """Statements of a true author that were valid up to a height long past."""
    await arena.learn()
    return await refused(arena, [arena.sign(INSIDE_AUTHOR, arena.note(), valid_until_height=1)])


@attack(expects=IGNORED, without="one-per-sequence")
async def one_sequence_twice(arena: Arena) -> Seen:
    """Two hundred different statements under one sequence number: one of them is held."""
    await arena.learn()
    made = [arena.sign(INSIDE_AUTHOR, arena.note()) for _ in range(200)]
    peer = await arena.join(handing_over(made))
    await peer.send(wire.Inventory(leaves=tuple(item.leaf for item in made)))
    held: list[str] = []

    async def several() -> bool:
        nonlocal held
        held = [item for item in await receipts(arena, made[:10]) if item in HELD_RECEIPTS]
        return len(held) > 1

    await arena.within(several, 3.0)
    reason = await arena.reason(peer, 0)
    return Seen(reason=reason or IGNORED, damage="" if len(held) <= 1 else f"{len(held)} of 10 are held")
