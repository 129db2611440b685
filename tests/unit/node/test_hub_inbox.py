"""A message of many statements is read in many turns of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace
from typing import cast

import pytest

from facechain.consensus.payloads import Cancel
from facechain.consensus.statement import Statement
from facechain.node import hub_inbox
from facechain.node.hub import PeerHub
from facechain.node.hub_inbox import STATEMENTS_READ_IN_A_TURN
from facechain.node.peer_door import PeerDoor
from facechain.node.peer_link import PeerLink
from facechain.node.protocol.actions import Punish
from facechain.node.protocol.peer_bans import BanList
from facechain.node.protocol.relay import ReadStatements, read_statements
from facechain.node.wire.messages import Statements
from support.chain import SUBMITTER, ChainBuilder, seed
from support.lone_node import LoneNode
from support.peer_books import make_book

COUNT = 1_000


@pytest.fixture(scope="module")
def encoded() -> tuple[bytes, ...]:
    builder = ChainBuilder()
    return tuple(builder.statement(SUBMITTER, Cancel(note=str(number))).encode() for number in range(COUNT))


class Reading:
    """A hub with one peer, and in which turn of the loop which statements were read."""

    def __init__(self, node: LoneNode, monkeypatch: pytest.MonkeyPatch) -> None:
        door = PeerDoor(book=make_book(), bans=BanList(), clock_ms=node.now_ms, max_inbound=1)
        self.hub = PeerHub(runner=node.runner, door=door, clock_ms=node.now_ms, own_key=seed("own"))
        self.link = cast("PeerLink", SimpleNamespace(id=1))
        self.hub.links[1] = self.link
        self.hub.relay.on_connected(1, ())
        self.turns = 0
        self.parts: list[tuple[int, int]] = []
        monkeypatch.setattr(hub_inbox, "read_statements", self._watched)

    def _watched(self, encoded: Iterable[bytes], read: ReadStatements | None = None) -> ReadStatements:
        items = tuple(encoded)
        self.parts.append((self.turns, len(items)))
        return read_statements(items, read)

    async def take(self, encoded: tuple[bytes, ...]) -> list[object]:
        """Have the peer send a message, while the turns of the loop are counted."""

        async def count() -> None:
            while True:
                self.turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        try:
            return list(await self.hub._inbox.take(self.link, Statements(statements=encoded)))
        finally:
            counting.cancel()


async def test_everybody_else_has_a_turn_after_every_few_statements(
    encoded: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with LoneNode() as node:
        reading = Reading(node, monkeypatch)
        assert await reading.take(encoded) == []
        turns, sizes = zip(*reading.parts, strict=True)
        assert len(set(turns)) == len(turns)
        assert max(sizes) <= STATEMENTS_READ_IN_A_TURN
        assert sum(sizes) == COUNT
        assert reading.hub.relay.counts.statements_received == COUNT
        leaf = Statement.decode(encoded[-1]).leaf
        assert reading.hub.relay.holders(leaf) == 1


async def test_large_statements_are_read_fewer_at_a_time(
    encoded: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_inbox, "STATEMENT_BYTES_READ_IN_A_TURN", len(encoded[0]) + 1)
    async with LoneNode() as node:
        reading = Reading(node, monkeypatch)
        await reading.take(encoded[:7])
        assert [size for _, size in reading.parts] == [2, 2, 2, 1]


async def test_nothing_is_read_behind_a_statement_that_is_none(
    encoded: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with LoneNode() as node:
        reading = Reading(node, monkeypatch)
        (action,) = await reading.take((*encoded[:100], b"\x93\x00\x00\x00", *encoded[100:]))
        assert isinstance(action, Punish)
        assert [size for _, size in reading.parts] == [64, 64]
        assert reading.hub.relay.counts.statements_received == 100


async def test_a_peer_that_leaves_meanwhile_is_no_longer_of_interest(
    encoded: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with LoneNode() as node:
        reading = Reading(node, monkeypatch)
        taking = asyncio.create_task(reading.take(encoded))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        reading.hub._forget(reading.link)
        assert await taking == []
        assert reading.hub.relay.counts.statements_received == 0
