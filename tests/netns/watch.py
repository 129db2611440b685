"""What is looked at: one tip in time, bans, logs, and every acknowledged statement in a block of every node."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Final

from facechain.cli.answers import NodeStatus
from facechain.cli.client import NodeClient
from facechain.cli.errors import CheckFailedError, CommandError
from netns.authors import Author
from netns.hosts import HostNode

RECOVERY_SECONDS: Final = 20.0
"""After a perturbation all nodes have one tip, at least one block further, within this time."""
GIVE_UP_SECONDS: Final = 90.0
"""A network that has not recovered by then is not waited for any longer."""
LOOK_SECONDS: Final = 0.2
SEALED_SECONDS: Final = 40.0
ASKED_AT_ONCE: Final = 16
FAULT_WORDS: Final = ("Traceback", "a fault of this node")

Views = dict[str, NodeStatus | None]


async def look(nodes: Sequence[HostNode]) -> Views:
    """Ask all nodes for their status at the same time."""
    found = await asyncio.gather(*(node.status() for node in nodes))
    return {node.name: status for node, status in zip(nodes, found, strict=True)}


def tips(views: Views) -> set[bytes | None]:
    """Return the different tips; None is among them when a node does not answer."""
    return {None if status is None else status.tip for status in views.values()}


def height(views: Views) -> int:
    """Return the greatest height."""
    return max((status.height for status in views.values() if status is not None), default=0)


def told(views: Views) -> str:
    """Return one line about all nodes."""
    return ", ".join(f"{name} {_seen(status)}" for name, status in views.items())


def _seen(status: NodeStatus | None) -> str:
    if status is None:
        return "silent"
    return f"at {status.height} {status.tip.hex()[:8]} with {status.content.get('peers')} peers"


async def recovered(nodes: Sequence[HostNode], *, since: float) -> float:
    """Return the seconds from `since` (monotonic) until all nodes answer with one tip above every height of now.

    CheckFailedError after `GIVE_UP_SECONDS`.
    """
    views = await look(nodes)
    goal = height(views) + 1
    while len(tips(views)) > 1 or None in tips(views) or height(views) < goal:
        if time.monotonic() - since > GIVE_UP_SECONDS:
            raise CheckFailedError(
                "recovery",
                expected=f"one tip at height {goal} or above within {GIVE_UP_SECONDS:g} s",
                got=told(views),
            )
        await asyncio.sleep(LOOK_SECONDS)
        views = await look(nodes)
    return time.monotonic() - since


async def bans(nodes: Iterable[HostNode]) -> list[str]:
    """Return whom nodes keep out: nobody here deserves it."""
    found = []
    for node in nodes:
        if node.runs():
            async with node.client() as client:
                answer = await client.get("/v1/bans")
            found += [f"{node.name} bans {ban['peer'][:16]}: {ban['reason']}" for ban in answer["bans"]]
    return found


def log_faults(nodes: Iterable[HostNode]) -> list[str]:
    """Return lines of logs that tell of a fault of the program."""
    return [
        f"{node.name}: {line}"
        for node in nodes
        for line in node.output.read_text(errors="replace").splitlines()
        if any(word in line for word in FAULT_WORDS)
    ]


async def lost(nodes: Sequence[HostNode], authors: Iterable[Author]) -> dict[bytes, str]:
    """Return the acknowledged statements that are not in a block of every node, and who lacks them.

    They have `SEALED_SECONDS` to get there.
    """
    deadline = time.monotonic() + SEALED_SECONDS
    wanted = [statement.id for author in authors for statement in author.acknowledged]
    missing: dict[bytes, str] = {}
    for node in nodes:
        left = await _not_sealed(node, wanted)
        while left and time.monotonic() < deadline:
            await asyncio.sleep(1.0)
            left = await _not_sealed(node, left)
        for statement_id in left:
            missing[statement_id] = f"{missing.get(statement_id, '')} {node.name}".strip()
    return missing


async def _not_sealed(node: HostNode, wanted: Sequence[bytes]) -> list[bytes]:
    places = asyncio.Semaphore(ASKED_AT_ONCE)

    async def is_sealed(client: NodeClient, statement_id: bytes) -> bool:
        async with places:
            try:
                return (await client.statement(statement_id)).confirmations > 0
            except CommandError:
                return False

    async with node.client() as client:
        found = await asyncio.gather(*(is_sealed(client, statement_id) for statement_id in wanted))
    return [statement_id for statement_id, sealed in zip(wanted, found, strict=True) if not sealed]
