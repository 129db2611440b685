"""A block that is announced by its header alone: its leaves are asked for, then what is not here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from facechain.consensus.block import Block
from facechain.consensus.payloads import Cancel
from facechain.consensus.statement import Statement
from facechain.node.chainstate import ChainState
from facechain.node.protocol.actions import Action, BlockReady, Punish, Send
from facechain.node.protocol.sync import DEFAULT_LIMITS, Synchronizer
from facechain.node.store.memory import MemoryStore
from facechain.node.wire import messages as wire
from support.chain import SUBMITTER, ChainBuilder, make_genesis
from support.gossip import FAR_FUTURE_MS, Gossip
from support.peer import announcement

FIRST, SECOND = 1, 2


class Receiver:
    """A machine with two peers, and a block of ten statements of which some wait here."""

    def __init__(self, *, here: int, version: int = 3) -> None:
        self.builder = ChainBuilder(make_genesis())
        said = [self.builder.statement(SUBMITTER, Cancel(note=str(number))) for number in range(10)]
        self.block = self.builder.mine(said)
        self.statements: tuple[Statement, ...] = self.block.body.statements
        self.pool = {item.leaf: item for item in self.statements[:here]}
        self.chain = ChainState.open(MemoryStore.open(), self.builder.genesis)
        self.sync = Synchronizer(self.chain, self.pool.get)
        self.now = 0.0
        for peer in (FIRST, SECOND):
            self.sync.on_connected(peer, self.now, version=version)

    def announce(self, peer: int, *, leaves: bool) -> list[Action]:
        message = announcement(self.block, leaves=leaves)
        return self.sync.on_announce_block(peer, message, now=self.now, now_ms=FAR_FUTURE_MS)

    def leaves(self) -> wire.Leaves:
        body = self.block.body
        return wire.Leaves(block_hash=self.block.hash, byte_count=body.byte_count(), leaves=body.leaves())

    def ask_leaves(self, peer: int = FIRST) -> Send:
        return Send(peer, wire.GetLeaves(block_hash=self.block.hash))

    def ask_statements(self, peer: int, start: int) -> Send:
        return Send(peer, wire.GetStatements(leaves=tuple(item.leaf for item in self.statements[start:])))


def ready(block: Block, actions: list[Action]) -> bool:
    return any(isinstance(action, BlockReady) and action.block == block for action in actions)


def test_a_header_alone_asks_for_leaves_and_then_for_what_is_not_here() -> None:
    node = Receiver(here=8)
    assert node.announce(FIRST, leaves=False) == [node.ask_leaves()]
    assert node.announce(SECOND, leaves=False) == [], "one peer is asked"
    assert node.sync.on_leaves(FIRST, node.leaves(), 0.1) == [node.ask_statements(FIRST, 8)]
    actions = node.sync.on_statements(FIRST, node.statements[8:], 0.2)
    assert ready(node.block, actions)
    assert node.sync.counts.statements_fetched == 2
    assert node.sync.counts.statements_reused == 8
    assert node.sync.counts.block_bytes == 2 * 224 + 10 * 32 + sum(
        item.size_bytes for item in node.statements[8:]
    )


def test_nothing_travels_when_all_is_here_and_a_whole_body_when_nothing_is() -> None:
    node = Receiver(here=10)
    node.announce(FIRST, leaves=False)
    assert ready(node.block, node.sync.on_leaves(FIRST, node.leaves(), 0.1))
    empty = Receiver(here=0)
    empty.announce(FIRST, leaves=False)
    asked = wire.GetBody(block_hash=empty.block.hash, start=0, with_leaves=False)
    assert empty.sync.on_leaves(FIRST, empty.leaves(), 0.1) == [Send(FIRST, asked)]


def test_peers_of_earlier_versions_are_asked_for_the_body() -> None:
    node = Receiver(here=8, version=2)
    asked = wire.GetBody(block_hash=node.block.hash, start=0, with_leaves=True)
    assert node.announce(FIRST, leaves=False) == [Send(FIRST, asked)]


def test_who_announces_with_leaves_is_not_made_to_wait_for_the_answer() -> None:
    node = Receiver(here=8)
    node.announce(FIRST, leaves=False)
    assert node.announce(SECOND, leaves=True) == [node.ask_statements(SECOND, 8)]
    assert node.sync.on_leaves(FIRST, node.leaves(), 0.1) == [], "it is of no use any more"
    assert node.announce(FIRST, leaves=True) == [], "the second peer owes them"
    assert ready(node.block, node.sync.on_statements(SECOND, node.statements[8:], 0.2))


@pytest.mark.parametrize("missing", [wire.Missing.LEAVES, wire.Missing.BODY])
def test_who_has_no_leaves_is_asked_for_the_body_unless_it_has_none(missing: wire.Missing) -> None:
    node = Receiver(here=8)
    node.announce(FIRST, leaves=False)
    answer = wire.NotFound(missing=missing, hashes=(node.block.hash,))
    body = wire.GetBody(block_hash=node.block.hash, start=0, with_leaves=True)
    actions = node.sync.on_not_found(FIRST, answer, 0.1)
    assert actions == ([Send(FIRST, body)] if missing is wire.Missing.LEAVES else [])
    node.sync.on_disconnected(FIRST, 0.2)
    assert node.announce(SECOND, leaves=False) == [Send(SECOND, body)]


def test_silence_ends_with_the_body_of_another_peer() -> None:
    node = Receiver(here=8)
    node.announce(FIRST, leaves=False)
    node.announce(SECOND, leaves=False)
    assert node.sync.on_tick(DEFAULT_LIMITS.body_timeout - 0.1) == []
    asked = wire.GetBody(block_hash=node.block.hash, start=0, with_leaves=True)
    assert Send(SECOND, asked) in node.sync.on_tick(DEFAULT_LIMITS.body_timeout + 0.1)
    assert node.sync.on_leaves(FIRST, node.leaves(), 21.0) == []


def test_other_leaves_than_the_headers_are_punished() -> None:
    node = Receiver(here=8)
    node.announce(FIRST, leaves=False)
    wrong = replace(node.leaves(), leaves=tuple(reversed(node.block.body.leaves())))
    punished, *others = node.sync.on_leaves(FIRST, wrong, 0.1)
    assert isinstance(punished, Punish)
    assert (punished.peer, punished.reason) == (FIRST, "bad-merkle-root")
    assert all(isinstance(action, Send) for action in others)


def test_leaves_are_served_of_bodies_that_are_here() -> None:
    node = Receiver(here=0)
    question = wire.GetLeaves(block_hash=node.block.hash)
    denied = wire.NotFound(missing=wire.Missing.LEAVES, hashes=(node.block.hash,))
    assert node.sync.on_get_leaves(FIRST, question) == [Send(FIRST, denied)]
    node.chain.accept_block(node.block, now_ms=FAR_FUTURE_MS)
    assert node.sync.on_get_leaves(FIRST, question) == [Send(FIRST, node.leaves())]


def test_a_branch_with_no_more_work_than_the_tip_is_not_asked_for() -> None:
    node = Receiver(here=8)
    rival = node.builder.forge(parent=node.builder.genesis_block, time_ms=node.block.header.time_ms + 1)
    node.chain.accept_block(node.block, now_ms=FAR_FUTURE_MS)
    message = replace(announcement(rival), byte_count=77)
    assert node.sync.on_announce_block(FIRST, message, now=0.0, now_ms=FAR_FUTURE_MS) == []


@pytest.mark.parametrize("version", [1, 2, 3])
def test_no_statement_travels_twice_in_a_mesh_from_version_3_on(version: int) -> None:
    builder = ChainBuilder(make_genesis())
    net = Gossip(builder.genesis, 8, seed=3, version=version)
    for left in range(8):
        for right in range(left):
            net.connect(left, right)
    net.run()
    for number in range(4):
        said = [builder.statement(SUBMITTER, Cancel(note=f"{number} {item}")) for item in range(20)]
        net.submit(number, *said)
        net.run()
        net.give(number, builder.mine(said))
        net.run()
        net.tick(11.0)
    assert {node.height for node in net.nodes} == {4}
    fetched = sum(node.sync.counts.statements_fetched for node in net.nodes)
    asked = sum(len(node.sent_of(wire.GetLeaves)) for node in net.nodes)
    assert (fetched == 0, asked > 0) == ((True, True) if version == 3 else (False, False))
    assert not any(node.punished for node in net.nodes)
