"""Attacks with statements: offered and never sent, forged, from nobody, out of order, from a revoked key, in masses."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from facechain.consensus.statement import Statement
from facechain.node.wire import messages as wire
from facechain.node.wire.limits import MAX_INVENTORY
from hostile.arena import INSIDE_AUTHOR, REVOKED, Arena
from hostile.attacker import Answer, silent
from hostile.registry import IGNORED, Seen, attack
from support.chain import STRANGER

JUDGE_SECONDS = 5.0


def handing_over(statements: Sequence[Statement]) -> dict[type, Answer]:
    """Answer questions for statements with these."""
    by_leaf = {item.leaf: item.encode() for item in statements}

    def answer(question: wire.GetStatements) -> wire.Message:
        found = tuple(by_leaf[leaf] for leaf in question.leaves if leaf in by_leaf)
        if not found:
            return wire.NotFound(missing=wire.Missing.STATEMENT, hashes=question.leaves)
        return wire.Statements(statements=found)

    return {wire.GetStatements: answer}


async def offered(arena: Arena, statements: Sequence[Statement], seconds: float) -> str:
    """Offer statements and hand them over; tell why that ended the connection, or that it did not."""
    peer = await arena.join(handing_over(statements))
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
    held = [
        item for item in await receipts(arena, statements[:20]) if item in {"queued", "relayed", "sealed"}
    ]
    return Seen(reason=reason or IGNORED, damage=f"{len(held)} of them are held" if held else "")


@attack(expects="stalled", scaled=True, without="statement-stalls")
async def inventory_never_delivered(arena: Arena) -> Seen:
    """Statements that are offered again and again and never sent."""
    peer = await arena.join({wire.GetStatements: silent})
    for _ in range(4):
        await peer.send(wire.Inventory(leaves=tuple(arena.hash() for _ in range(2_000))))
    return Seen(reason=await arena.reason(peer, 20))


@attack(expects="bad-signature", bans=True, without="statement-signatures", quick=True)
async def forged_statements(arena: Arena) -> Seen:
    """A statement in the name of a true author, with a signature that does not verify."""
    await arena.learn()
    true = arena.sign(INSIDE_AUTHOR, arena.note())
    forged = replace(true, signature=bytes(64))
    return Seen(reason=await offered(arena, [forged], JUDGE_SECONDS))


@attack(expects="decode-error", bans=True, quick=True)
async def garbage_for_statements(arena: Arena) -> Seen:
    """Bytes that are no statement, sent when asked for one."""
    answers: dict[type, Answer] = {wire.GetStatements: lambda _: wire.Statements(statements=(bytes(500),))}
    peer = await arena.join(answers)
    await peer.send(wire.Inventory(leaves=(arena.hash(),)))
    return Seen(reason=await arena.reason(peer, JUDGE_SECONDS))


@attack(expects=IGNORED)
async def statement_flood(arena: Arena) -> Seen:
    """A thousand signed statements of keys without a role."""
    await arena.learn()
    made = [arena.sign(STRANGER, arena.note(), sequence=number) for number in range(1_000)]
    return await refused(arena, made)


@attack(expects=IGNORED)
async def unneeded_statements(arena: Arena) -> Seen:
    """Statements that were not among those asked for, fifty times as many."""
    await arena.learn()
    extra = [arena.sign(INSIDE_AUTHOR, arena.note(), sequence=900 + number) for number in range(500)]
    answers: dict[type, Answer] = {
        wire.GetStatements: lambda _: wire.Statements(statements=tuple(item.encode() for item in extra))
    }
    peer = await arena.join(answers)
    await peer.send(wire.Inventory(leaves=(arena.hash(),)))
    reason = await arena.reason(peer, 3.0)
    held = [item for item in await receipts(arena, extra[:20]) if item]
    return Seen(reason=reason or IGNORED, damage=f"{len(held)} of them are held" if held else "")


@attack(expects=IGNORED, covers=("orphans", "orphan-bytes"))
async def sequence_gaps(arena: Arena) -> Seen:
    """Six thousand statements of a true author whose first one never comes: they wait within their bound."""
    await arena.learn()
    after = arena.mirror.sequence(INSIDE_AUTHOR) + 1
    made = [arena.sign(INSIDE_AUTHOR, arena.note(), sequence=after + number) for number in range(6_000)]
    return await refused(arena, made)


@attack(expects=IGNORED, quick=True)
async def revoked_key(arena: Arena) -> Seen:
    """Statements of a submitter whose role was taken away."""
    await arena.learn()
    return await refused(arena, [arena.sign(REVOKED, arena.note(), sequence=number) for number in range(5)])


@attack(expects=IGNORED, quick=True)
async def expired_statements(arena: Arena) -> Seen:
    """Statements of a true author that were valid up to a height long past."""
    await arena.learn()
    return await refused(arena, [arena.sign(INSIDE_AUTHOR, arena.note(), valid_until_height=1)])


@attack(expects=IGNORED)
async def one_sequence_twice(arena: Arena) -> Seen:
    """Two hundred different statements under one sequence number: one of them is held."""
    await arena.learn()
    made = [arena.sign(INSIDE_AUTHOR, arena.note()) for _ in range(200)]
    reason = await offered(arena, made, 2.0)
    await asyncio.sleep(3.0)
    held = [item for item in await receipts(arena, made) if item in {"queued", "relayed", "sealed"}]
    return Seen(reason=reason or IGNORED, damage="" if len(held) <= 1 else f"{len(held)} are held")
