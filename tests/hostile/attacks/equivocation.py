"""Attacks by keys that say two things in one place: legal, counted and shown, and nobody is banned for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from facechain.consensus.signing import LedgerKey
from facechain.consensus.statement import Statement
from facechain.node.service import clock_ms
from facechain.node.wire import messages as wire
from facechain.node.wire.limits import MAX_EQUIVOCATIONS_PER_KEY, MAX_EQUIVOCATORS
from hostile.arena import AUTHORS, HEARTBEAT_MS, INSIDER, TWO_FACED, Arena
from hostile.attacks.headers import announcement, announcement_of, line, serving, showing
from hostile.attacks.statements import handing_over
from hostile.defences import SCALED_STATEMENTS_SEEN
from hostile.registry import IGNORED, Seen, attack

SHOWN_SECONDS = 5.0


async def evidence(arena: Arena, key: LedgerKey) -> list[dict[str, Any]]:
    """Return what the victim shows of a key."""
    answer = await arena.ask(arena.victim, "/v1/equivocations")
    return next((item["found"] for item in answer["keys"] if item["key"] == key.public.hex()), [])


async def told(arena: Arena, statements: Sequence[Statement]) -> str:
    """Offer statements and hand them over; tell why that ended the connection, "" when it did not."""
    peer = await arena.join(handing_over(statements))
    await peer.send(wire.Inventory(leaves=tuple(item.leaf for item in statements)))
    await peer.hear(wire.GetStatements, 5)
    await peer.echo()
    return await arena.reason(peer, 0.2)


def twins(arena: Arena, key: LedgerKey) -> list[Statement]:
    """Sign two statements with one sequence."""
    return [arena.sign(key, arena.claim()) for _ in range(2)]


@attack(expects=IGNORED, without="equivocation-watch")
async def equivocation(arena: Arena) -> Seen:
    """A producer seals two blocks on one parent, an author signs two statements with one sequence: shown, not punished."""
    mirror = await arena.learn()
    author = AUTHORS[-1]
    before = (await arena.status())["equivocations"]
    now = max(clock_ms(), mirror.chain.tree.tip.time_ms + HEARTBEAT_MS)
    blocks = [mirror.draft(now_ms=now, key=TWO_FACED), mirror.draft(now_ms=now + 1, key=TWO_FACED)]
    statements = twins(arena, author)
    peers = [await arena.join(serving([block])) for block in blocks]
    for peer, block in zip(peers, blocks, strict=True):
        await peer.send(announcement_of(block))
    reasons = {await told(arena, [item]) for item in statements}
    expected = {block.hash.hex() for block in blocks} | {item.id.hex() for item in statements}

    async def is_shown() -> bool:
        found = await evidence(arena, TWO_FACED) + await evidence(arena, author)
        return expected <= {item[name] for item in found for name in ("first", "second")}

    damage = "" if await arena.within(is_shown, SHOWN_SECONDS) else "it is not shown"
    reasons |= {await arena.reason(peer, 0.5) for peer in peers}
    after = (await arena.status())["equivocations"]
    if not all(after[name] > before[name] for name in ("blocks", "statements")):
        damage = damage or f"counted {before} and then {after}"
    async with arena.session.get(arena.victim.api + "/metrics") as response:
        metrics = await response.text()
    for name in ("block", "statement"):
        if f'facechain_equivocations_total{{kind="{name}"}} {float(after[name + "s"])}' not in metrics:
            damage = damage or f"the metrics do not count {after[name + 's']} of kind {name}"
    ours = {peer.identity.key.public.hex() for peer in arena.peers}
    if ours & (await arena.bans()).keys():
        damage = damage or "somebody was banned for it"
    return Seen(reason=" ".join(sorted(reasons - {""})) or IGNORED, damage=damage)


@attack(expects=IGNORED, covers=("equivocations",), without="equivocation-count")
async def two_chains_of_one_producer(arena: Arena) -> Seen:
    """A producer seals two blocks on each of forty parents: the first places are kept as evidence, and no more."""
    mirror = await arena.learn()
    tree, parent = mirror.fork()
    made = line(arena, tree, parent, 40, step_ms=10)
    others = [line(arena, tree, tree.nodes[item.header.previous], 1, step_ms=5)[0] for item in made]
    peer = await arena.join(showing(made))
    await peer.hear(wire.GetHeaders, 5)
    await peer.echo()
    await peer.send(*[announcement(item) for item in others])
    await peer.echo()
    found = await evidence(arena, INSIDER)
    reason = await arena.reason(peer, 0.2)
    most = MAX_EQUIVOCATIONS_PER_KEY
    damage = "" if 0 < len(found) <= most else f"{len(found)} places of one key are kept"
    return Seen(reason=reason or IGNORED, damage=damage)


@attack(expects=IGNORED, covers=("equivocators",), without="equivocator-count")
async def many_two_faced_authors(arena: Arena) -> Seen:
    """A hundred and forty authors sign two statements each with one sequence: the evidence of the last ones is kept."""
    await arena.learn()
    pairs = [twins(arena, key) for key in AUTHORS]
    reasons = {await told(arena, [pair[half] for pair in pairs]) for half in (0, 1)}

    async def keys_shown() -> int:
        return len((await arena.ask(arena.victim, "/v1/equivocations"))["keys"])

    async def is_full() -> bool:
        return await keys_shown() >= MAX_EQUIVOCATORS

    filled = await arena.within(is_full, SHOWN_SECONDS)
    shown = await keys_shown()
    damage = "" if filled and shown <= MAX_EQUIVOCATORS else f"the evidence of {shown} keys is kept"
    return Seen(reason=" ".join(sorted(reasons - {""})) or IGNORED, damage=damage)


@attack(expects=IGNORED, covers=("statements-seen",), scaled=True, without="statements-seen")
async def forgotten_statement(arena: Arena) -> Seen:
    """More statements than are remembered between the two of one author: what is too long ago is not compared."""
    await arena.learn()
    author, *others = AUTHORS[: SCALED_STATEMENTS_SEEN + 11]
    first, second = twins(arena, author)
    reasons = {await told(arena, [first])}
    async with arena.client(arena.victim) as client:
        await client.wait(first.id, confirmations=1, timeout_seconds=20)
        between = [arena.sign(key, arena.claim()) for key in others]
        reasons.add(await told(arena, between))
        await client.wait(between[-1].id, confirmations=1, timeout_seconds=20)
    before = len(await evidence(arena, author))
    reasons.add(await told(arena, [second]))

    async def is_compared() -> bool:
        return len(await evidence(arena, author)) > before

    compared = await arena.within(is_compared, 1.0)
    damage = "it is compared with all that ever came" if compared else ""
    return Seen(reason=" ".join(sorted(reasons - {""})) or IGNORED, damage=damage)
