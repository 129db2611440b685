"""A peer of a live node whose every message a test writes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, TypeVar

from facechain.consensus.block import Block
from facechain.consensus.params import Genesis
from facechain.consensus.signing import NodeKey
from facechain.consensus.statement import Statement
from facechain.node.service import clock_ms
from facechain.node.wire.connection import Connection
from facechain.node.wire.faults import WireError
from facechain.node.wire.handshake import LocalNode
from facechain.node.wire.messages import (
    Address,
    AnnounceBlock,
    GetStatements,
    Inventory,
    Message,
    Statements,
)
from facechain.node.wire.transport import connect

from .chain import seed
from .live import LiveNode

SECONDS = 10

Kind = TypeVar("Kind", bound=Message)


@contextlib.asynccontextmanager
async def peer_of(
    node: LiveNode, genesis: Genesis, name: str = "peer", **local: Any
) -> AsyncIterator[Connection]:
    """Connect to a node as another one; `local` are further fields of `LocalNode`."""
    own = LocalNode(
        key=NodeKey.from_seed(seed(name)), network_id=genesis.network_id, user_agent="test", **local
    )
    address = node.addresses.peer
    connection = await connect(address.host, address.port, local=own)
    async with connection:
        yield connection


async def receive(connection: Connection, kind: type[Kind]) -> Kind:
    """Return the next message of a type; the others are passed over."""
    async with asyncio.timeout(SECONDS):
        while not isinstance(message := await connection.receive(), kind):
            continue
        return message


async def gone(connection: Connection) -> WireError:
    """Read until the node ends the connection."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                await connection.receive()
            except WireError as error:
                return error


def hear(node: LiveNode, other: LiveNode) -> tuple[str, int]:
    """Tell a node of another one's address, as that one would."""
    where = other.addresses.peer
    told = Address(host=where.host, port=where.port, last_seen_ms=clock_ms())
    node.node.peering.book.add_heard([told], source_host=where.host, now_ms=clock_ms())
    return where.host, where.port


def announcement(block: Block, *, leaves: bool = True) -> AnnounceBlock:
    """Return what tells of a block, at once and with leaves or by header alone."""
    return AnnounceBlock(
        sealed_header=block.sealed.encode(),
        byte_count=block.body.byte_count(),
        leaves=block.body.leaves() if leaves else (),
    )


async def hand_over(connection: Connection, *statements: Statement) -> None:
    """Answer the node's next request for statements with these."""
    await receive(connection, GetStatements)
    await connection.send(Statements(statements=tuple(item.encode() for item in statements)))


async def offer(connection: Connection, statement: Statement) -> None:
    """Tell of a statement, and hand it over when it is asked for."""
    await connection.send(Inventory(leaves=(statement.leaf,)))
    await hand_over(connection, statement)
