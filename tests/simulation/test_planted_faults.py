"""Every invariant is seen to break: a fault is planted in the node, and the simulator tells of it by its seed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest

from facechain.consensus.chain import UNLIMITED_REORG, BlockTree
from facechain.consensus.statement import Statement
from facechain.consensus.upgrade import Schedule
from facechain.node.address_gossip import AddressGossip
from facechain.node.chain_runner import ChainRunner
from facechain.node.chainstate import ChainState
from facechain.node.hub import PeerHub
from facechain.node.hub_work import HubWork
from facechain.node.mempool import DurableMempool
from facechain.node.protocol import presync
from facechain.node.protocol.equivocation import Equivocations
from facechain.node.protocol.sync import Synchronizer
from simulation import ambient, attacks, people
from simulation.attack import Attack
from simulation.attacks_blocks import Announced, Equivocate, ForgedStatement, LowWork, WrongBits
from simulation.attacks_frames import StatementFlood, TwoWords
from simulation.faults import Faults
from simulation.simulate import simulate
from simulation.world import Shape

SEEDS_MAX: Final = 12
SHAPE: Final = Shape(
    honest=4,
    hostile=0,
    storm_seconds=300,
    fault_seconds=20,
    block_seconds=8,
    submit_seconds=4,
    pool_statements=20_000,
    max_reorg=UNLIMITED_REORG,
    administered_seconds=0,
    finds_peers=False,
    old_wire=0,
)


def nothing(*_: object, **__: object) -> Any:
    """Do nothing where the node does something."""


def no_actions(*_: object, **__: object) -> list[Any]:
    """Want nothing done."""
    return []


async def never(*_: object) -> None:
    """Wait for ever."""
    await asyncio.Event().wait()


def failing(*_: object, **__: object) -> Any:
    """Fail in a way that nobody thought of."""
    raise KeyError("a fault of the node")


def acknowledge_only(self: DurableMempool, leaves: Iterable[bytes]) -> None:
    """Promise without writing."""
    self.pool.acknowledge(leaves)


real_candidate = BlockTree.best_candidate


def any_candidate(self: BlockTree, **_: object) -> Any:
    """Move wherever there is more work."""
    return real_candidate(self)


def first_branch(self: BlockTree, **limits: Any) -> Any:
    """Stay on a branch whatever happens elsewhere."""
    found = real_candidate(self, **limits)
    return found if found is not None and self.fork_point(found) is self.tip else None


def version_before(self: Schedule, _height: int) -> int:
    """Stay with the version that was in force when the administrators decided."""
    return self.version


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A fault, and what is said of it."""

    name: str
    where: Any
    what: str
    """Attribute that is replaced."""
    by: Any
    told: str
    attack: type[Attack] | None = None
    fault: str = ""
    """The only thing that goes wrong besides; else everything does."""
    shape: Shape | None = None
    """None: a run like all others, with attackers when there is an attack."""


HOSTILE: Final = replace(SHAPE, hostile=2)


UPGRADED: Final = replace(SHAPE, storm_seconds=900, administered_seconds=15, schedules_versions=True)


def astray(name: str, by: Callable[..., Any], told: str, **shape: float) -> Planted:
    """Return a node that chooses its branch in another way, in a network that is parted now and then."""
    return Planted(
        name=name,
        where=BlockTree,
        what="best_candidate",
        by=by,
        told=told,
        fault="partition",
        shape=replace(SHAPE, **shape),  # type: ignore[arg-type]
    )


PLANTED: Final = (
    Planted(
        name="signatures-are-not-checked",
        where=Statement,
        what="has_valid_signature",
        by=lambda *_: True,
        told="took the invalid block",
        attack=ForgedStatement,
    ),
    Planted(
        name="promises-are-not-written",
        where=DurableMempool,
        what="_protect",
        by=acknowledge_only,
        told="lost the acknowledged statement",
    ),
    Planted(
        name="too-much-is-known-of-a-peer",
        where=ambient,
        what="RELAY_LIMITS",
        by=replace(ambient.RELAY_LIMITS, known_per_peer=100_000),
        told="leaves known of a peer",
        attack=StatementFlood,
    ),
    Planted(
        name="a-pre-sync-keeps-all-headers",
        where=presync,
        what="context_headers",
        by=lambda _params: 100_000,
        told="headers of a pre-sync",
        attack=LowWork,
        shape=replace(HOSTILE, storm_seconds=1_200, submit_seconds=60),
    ),
    Planted(
        name="the-messenger-is-blamed",
        where=Synchronizer,
        what="vouches",
        by=lambda *_: True,
        told="punished the honest",
        attack=Announced,
    ),
    Planted(
        name="offenders-stay",
        where=PeerHub,
        what="end",
        by=nothing,
        told="still talks to",
        attack=WrongBits,
    ),
    astray("nobody-reorganises", first_branch, "of different work", submit_seconds=100_000),
    astray(
        "checkpoints-bind-nobody",
        any_candidate,
        "left the checkpoint",
        storm_seconds=900,
        fault_seconds=100,
        submit_seconds=60,
        administered_seconds=10,
    ),
    astray(
        "any-depth-is-reorganised",
        any_candidate,
        "expected at most 2",
        storm_seconds=900,
        fault_seconds=100,
        max_reorg=2,
    ),
    Planted(
        name="a-full-disk-is-kept-secret",
        where=ChainRunner,
        what="_note_trouble",
        by=nothing,
        told="got None told of it",
        fault="fill_disk",
        shape=replace(SHAPE, block_seconds=100_000),
    ),
    Planted(
        name="a-full-disk-is-the-end",
        where=HubWork,
        what="_recover",
        by=never,
        told="still takes nothing",
        fault="fill_disk",
    ),
    Planted(
        name="two-blocks-are-not-counted",
        where=Equivocations,
        what="on_header",
        by=nothing,
        told="did not count the blocks",
        attack=Equivocate,
    ),
    Planted(
        name="two-statements-are-not-counted",
        where=Equivocations,
        what="on_statement",
        by=nothing,
        told="did not count two batches",
        attack=TwoWords,
    ),
    Planted(
        name="a-fault-is-only-logged",
        where=AddressGossip,
        what="on_get_addresses",
        by=failing,
        told="a fault of this node",
    ),
    Planted(
        name="an-activation-height-is-ignored",
        where=Schedule,
        what="version_at",
        by=version_before,
        told="bad-version",
        fault="reset",
        shape=UPGRADED,
    ),
    Planted(
        name="an-old-release-goes-on",
        where=ChainState,
        what="upgrade_needed",
        by=nothing,
        told="its last block before version",
        fault="reset",
        shape=replace(UPGRADED, outdated=2),
    ),
)


def only(fault: str) -> Callable[[Faults], None]:
    """Return a weather in which one thing goes wrong."""

    def strike(self: Faults) -> None:
        if self._world.storm:
            getattr(self, fault)()

    return strike


@pytest.mark.parametrize("planted", PLANTED, ids=lambda item: item.name)
def test_a_planted_fault_is_told(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of a few seeds shows it; the first one does, mostly."""
    monkeypatch.setattr(planted.where, planted.what, planted.by)
    monkeypatch.setattr(people, "APPROVAL_SECONDS", 2.0)
    monkeypatch.setattr(people, "DEPTH_MAX", 1)
    if planted.attack is not None:
        monkeypatch.setattr(attacks, "ATTACKS", (planted.attack,))
        monkeypatch.setattr(Faults, "strike", nothing)
    if planted.fault:
        monkeypatch.setattr(Faults, "strike", only(planted.fault))
    shape = planted.shape or (SHAPE if planted.attack is None else HOSTILE)
    for seed in range(1, 1 + SEEDS_MAX):
        violation = simulate(seed, shape=shape).violation
        if planted.told in violation:
            return
        assert not violation, f"seed {seed}: expected {planted.told!r}, got {violation}"
    pytest.fail(f"{planted.name}: no violation in {SEEDS_MAX} seeds, expected {planted.told!r}")
