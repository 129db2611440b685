"""A stranger with more work than the network and no role shows nodes a heavier chain, with its bodies or without.

Whatever it does, every node follows the chain whose seals are authorised, knows that it is not behind, and passes
new blocks on.
"""

from __future__ import annotations

from typing import cast

import pytest

from facechain.consensus.block import Block
from facechain.consensus.errors import ConsensusError
from facechain.consensus.light import LightClient
from facechain.consensus.payloads import Cancel
from facechain.node.chainstate import ChainState
from facechain.node.light_proofs import HeaderProver
from facechain.node.protocol.sync import Synchronizer
from facechain.node.wire import messages as wire
from support.chain import STRANGER, SUBMITTER, ChainBuilder, make_genesis
from support.gossip import Gossip, SimulatedNode
from support.light import prove_header, proven
from support.strangers import ShownChain, forged_state, line_to, strangers_line

HONEST, VICTIM, STRANGER_NODE, BEHIND = range(4)
HEIGHT = 12
LEAD = 25
"""Blocks that the stranger's branch is longer than the honest chain is high."""


class Scene:
    """An honest node, one that the stranger turns to, and one behind it."""

    def __init__(self, seed: int) -> None:
        self.builder = ChainBuilder(make_genesis())
        self.stale = self.builder.mine(
            [self.builder.statement(SUBMITTER, Cancel(note="stale"))], parent=self.builder.genesis_block
        )
        first = self.builder.mine(
            [self.builder.statement(SUBMITTER, Cancel(note="first"), parent=self.builder.genesis_block)],
            parent=self.builder.genesis_block,
            time_ms=self.stale.header.time_ms + 1,
        )
        self.honest = [first, *self.builder.mine_many(HEIGHT - 1, parent=first)]
        self.net = Gossip(self.builder.genesis, 4, seed=seed)
        self.net.give(HONEST, *self.honest)

    @property
    def victim(self) -> SimulatedNode:
        return self.net.nodes[VICTIM]

    def show(self, fork: Block, *, withheld: str) -> list[Block]:
        """Let the stranger mine on top of `fork`; `withheld`: "none", "own" or "all" of the bodies."""
        branch = strangers_line(self.builder, fork, HEIGHT + LEAD)
        below = line_to(self.builder, fork)
        shown = ShownChain(self.builder.genesis, self.builder.genesis_block.sealed, [*below, *branch])
        shown.withhold({"none": [], "own": branch, "all": [*below, *branch]}[withheld])
        node = self.net.nodes[STRANGER_NODE]
        node.chain = cast("ChainState", shown)
        node.sync = Synchronizer(shown, node.pool.get)
        return branch

    def meet(self, *pairs: tuple[int, int]) -> None:
        """Open connections one after the other and deliver all there is to say on each."""
        for left, right in pairs:
            self.net.connect(left, right)
            self.net.run()

    def check_honest(self) -> None:
        """The victim and the node behind it follow the honest chain and take its next block."""
        node = self.victim
        assert node.tip == self.honest[-1].hash
        assert not node.sync.is_behind()
        assert node.sync.best_known_height() == HEIGHT
        self.net.connect(VICTIM, BEHIND)
        self.net.run()
        following = self.builder.mine()
        self.net.give(HONEST, following)
        self.net.run()
        assert [item.tip for item in self.net.nodes if item.number != STRANGER_NODE] == [following.hash] * 3
        assert not any(peer != STRANGER_NODE for item in self.net.nodes for peer, _ in item.punished)


@pytest.mark.parametrize("withheld", ["none", "own", "all"])
@pytest.mark.parametrize("fork", [0, 5, HEIGHT])
def test_a_stranger_s_chain_is_refused_at_its_first_header(withheld: str, fork: int) -> None:
    scene = Scene(fork)
    below = [scene.builder.genesis_block, *scene.honest][fork]
    branch = scene.show(below, withheld=withheld)
    scene.meet((HONEST, VICTIM))
    scene.meet((STRANGER_NODE, VICTIM))
    assert scene.victim.punished == [(STRANGER_NODE, "unauthorized-producer")]
    assert not any(block.hash in scene.victim.chain.tree.nodes for block in branch)
    assert not [peer for peer, message in scene.victim.sent if peer == STRANGER_NODE and _asks(message)]
    scene.check_honest()


@pytest.mark.parametrize("withheld", ["none", "own", "all"])
@pytest.mark.parametrize("order", ["stranger first", "honest first", "at once"])
@pytest.mark.parametrize("seed", range(3))
def test_a_new_node_gets_over_a_stranger_s_chain(withheld: str, order: str, seed: int) -> None:
    scene = Scene(seed)
    branch = scene.show(scene.honest[5], withheld=withheld)
    meetings = [(HONEST, VICTIM), (STRANGER_NODE, VICTIM)]
    if order == "at once":
        for pair in meetings:
            scene.net.connect(*pair)
        scene.net.run()
    else:
        scene.meet(*(meetings if order == "honest first" else meetings[::-1]))
    assert STRANGER_NODE in {peer for peer, _ in scene.victim.punished + scene.victim.dropped}
    tree = scene.victim.chain.tree
    assert not any(not tree.nodes[block.hash].invalid for block in branch if block.hash in tree.nodes)
    assert tree.best_header is tree.tip
    scene.check_honest()


@pytest.mark.parametrize("withheld", ["none", "own", "all"])
@pytest.mark.parametrize("seed", range(3))
def test_a_branch_on_a_stale_block_keeps_no_node_waiting(withheld: str, seed: int) -> None:
    """What a branch below the first strange seal granted is unknown until its bodies are here: they may never be."""
    scene = Scene(seed)
    branch = scene.show(scene.stale, withheld=withheld)
    scene.net.give(VICTIM, scene.stale)
    scene.meet((HONEST, VICTIM), (STRANGER_NODE, VICTIM))
    if withheld == "none":
        assert scene.victim.punished == [(STRANGER_NODE, "unauthorized-producer")]
        assert scene.victim.chain.tree.nodes[branch[-1].hash].invalid
    else:
        assert scene.victim.chain.tree.best_header.hash == branch[-1].hash
    scene.check_honest()


@pytest.mark.parametrize("fork", [0, 5, HEIGHT])
@pytest.mark.parametrize("stranger_first", [True, False])
def test_a_light_client_follows_the_honest_node_whatever_a_stranger_shows(
    fork: int, *, stranger_first: bool
) -> None:
    scene = Scene(fork)
    below = [scene.builder.genesis_block, *scene.honest][fork]
    branch = scene.show(below, withheld="all")
    client = LightClient.from_genesis(scene.builder.genesis)
    forged = forged_state(scene.builder, below, STRANGER)
    # The part below the fork is honest; on top of it the stranger proves its role under states of its own making.
    shown = [*proven(scene.builder, scene.honest[:fork]), *(prove_header(item, forged) for item in branch)]

    def hear_the_stranger() -> None:
        refused = []
        for item in shown:
            try:
                client.accept(item, now_ms=scene.net.now_ms)
            except ConsensusError as error:
                refused.append(error.code)
        assert refused == ["bad-proof", *["missing-parent"] * (len(branch) - 1)]

    if stranger_first:
        hear_the_stranger()
    with scene.net.nodes[HONEST].chain.snapshot() as reader:
        for item in HeaderProver().prove(reader, 1, HEIGHT):
            client.accept(item, now_ms=scene.net.now_ms)
    if not stranger_first:
        hear_the_stranger()
    assert client.tip.hash == scene.honest[-1].hash
    assert len(client.nodes) == HEIGHT + 1
    assert len(branch) > HEIGHT


def _asks(message: wire.Message) -> bool:
    return isinstance(message, wire.GetBody)
