"""Peers are told of new statements a few at a time, in turn, and not of what they told themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import pytest

from facechain.consensus.statement import Statement
from facechain.node import hub_work
from facechain.node.hub import PeerHub
from facechain.node.hub_work import TOLD_AT_ONCE
from facechain.node.peer_door import PeerDoor
from facechain.node.peer_link import PeerLink
from facechain.node.protocol.peer_bans import BanList
from facechain.node.wire.messages import Inventory, Message
from support.chain import SUBMITTER, make_stage, seed
from support.lone_node import LoneNode
from support.peer_books import make_book

PEERS = 3 * TOLD_AT_ONCE


@dataclass
class Reader:
    """A connected peer that reads what it is sent."""

    id: int
    is_busy: bool = False
    waiting_bytes: int = 0
    told: list[Message] = field(default_factory=list)

    def queue(self, message: Message) -> bool:
        """Take a message."""
        self.told.append(message)
        return True


class Crowd:
    """A hub with many peers."""

    def __init__(self, node: LoneNode) -> None:
        door = PeerDoor(book=make_book(), bans=BanList(), clock_ms=node.now_ms, max_inbound=PEERS)
        self.node = node
        self.hub = PeerHub(runner=node.runner, door=door, clock_ms=node.now_ms, own_key=seed("own"))
        self.readers = {number: Reader(number) for number in range(1, PEERS + 1)}
        self.hub.links.update(cast("dict[int, PeerLink]", self.readers))
        for number in self.readers:
            self.hub.relay.on_connected(number, ())

    async def fresh(self, name: str) -> list[Statement]:
        """Return a statement that is in the mempool since now."""
        statement = self.node.sign(SUBMITTER, make_stage(name=name))
        await self.node.submit([statement])
        return [statement]

    def say(self, statement: Statement, *peers: int) -> None:
        """Have peers announce a statement."""
        for number in peers:
            self.hub.relay.on_inventory(number, Inventory(leaves=(statement.leaf,)), 0.0)

    def told(self) -> set[int]:
        """Return who was told something, and forget it."""
        found = {number for number, reader in self.readers.items() if reader.told}
        for reader in self.readers.values():
            reader.told.clear()
        return found


async def test_all_peers_are_told_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_work, "FLUSH_SECONDS", 0.0)
    async with LoneNode() as node:
        crowd = Crowd(node)
        work = crowd.hub.work
        work.announce_statements(await crowd.fresh("first"))
        assert crowd.told() == {1, 2}
        work.announce_statements([])
        assert crowd.told() == {3, 4}
        work.announce_statements(await crowd.fresh("second"))
        assert crowd.told() == {5, 6}
        for _ in range(4):
            work.announce_statements([])
        assert crowd.told() == {1, 2, 3, 4}


async def test_of_many_peers_more_are_told_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_work, "FLUSH_SECONDS", 0.0)
    monkeypatch.setattr(hub_work, "TOLD_SHARE", 2)
    async with LoneNode() as node:
        crowd = Crowd(node)
        crowd.hub.work.announce_statements(await crowd.fresh("first"))
        assert crowd.told() == {1, 2, 3}


async def test_peers_that_tell_first_or_are_busy_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_work, "FLUSH_SECONDS", 0.0)
    async with LoneNode() as node:
        crowd = Crowd(node)
        (statement,) = await crowd.fresh("first")
        crowd.hub.relay.on_accepted(statement)
        crowd.say(statement, 1, 3)
        crowd.readers[2].is_busy = True
        crowd.hub.work.announce_statements([])
        assert crowd.told() == {4, 5}
        crowd.readers[2].is_busy = False
        crowd.hub.work.announce_statements([])
        assert crowd.told() == {6, 2}


async def test_news_that_come_fast_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_work, "FLUSH_SECONDS", 3_600.0)
    async with LoneNode() as node:
        crowd = Crowd(node)
        crowd.hub.work.announce_statements(await crowd.fresh("first"))
        assert crowd.told() == {1, 2}
        crowd.hub.work.announce_statements(await crowd.fresh("second"))
        assert crowd.told() == set()


async def test_what_a_block_took_is_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_work, "FLUSH_SECONDS", 0.0)
    async with LoneNode() as node:
        crowd = Crowd(node)
        (sealed,) = await crowd.fresh("first")
        crowd.hub.relay.on_accepted(sealed)
        crowd.say(sealed, 3, 4, 5, 6)
        await node.seal()
        assert sealed.leaf not in node.runner.mempool.pool
        (waiting,) = await crowd.fresh("second")
        crowd.hub.relay.on_accepted(waiting)
        crowd.say(waiting, 1)
        crowd.hub.work.announce_statements([])
        told = {number: reader.told for number, reader in crowd.readers.items() if reader.told}
        news = [Inventory(leaves=(waiting.leaf,))]
        assert told == {2: news, 3: news}, "a peer for which there was old news only takes nobody's turn"
