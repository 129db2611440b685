"""One chain that the project's code and the page's second implementation both keep, and their verdicts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from facechain.consensus import validation
from facechain.consensus.block import Block, Body, Header, SealedHeader, seal_header
from facechain.consensus.errors import ConsensusError
from facechain.consensus.kinds import Role, StageType
from facechain.consensus.params import Genesis
from facechain.consensus.payloads import (
    AnyPayload,
    Attestation,
    Cancel,
    Checkpoint,
    ProtocolUpgrade,
    Retract,
    RoleApproval,
    ViewGrant,
)
from facechain.consensus.signing import LedgerKey
from facechain.consensus.statement import Statement
from facechain.consensus.upgrade import SUPPORTED_VERSIONS
from support.chain import (
    ChainBuilder,
    keys,
    make_genesis,
    make_stage,
    seed,
    solve,
)
from support.reference import Reference, Rejected
from support.statements import grant, revoke, rotation

A0, A1, A2, P0, P1, S0, S1, STRANGER, VIEWER = keys(9, start=300)
FRESH: Final = keys(12, start=320)
VIEW_KEY: Final = seed("encryption key")

EXPLAINED: Final = {
    # The reference knows one chain: for it a fork's parent is not the one that the next block must name.
    ("bad-prevblk", "bad-height"): "a header that names an older ancestor",
}


ODD: Final[tuple[Any, ...]] = (
    *(None, False, True, 0, 1, 2, 3, 5, 7, 8, 12, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**64 - 1),
    *(b"", bytes(31), bytes(32), bytes(33), bytes(64), seed("key"), b"x" * 70, b"x" * 512, b"x" * 513),
    *("", "a", "a" * 128, "a" * 129, "ü" * 256, "ü" * 257, "\n", "\x7f", "\u2028", "\u2066", "ok\U0001f600"),
    *([], [bytes(32)], [bytes(32)] * 17, [["a", "b"], ["b", ""]], [["b", ""], ["a", ""]], [["a", "b", "c"]]),
    *([["a", "\n"]], [["a" * 65, ""]], [["a", "b" * 1025]], [[]], [[f"{n:02}", ""] for n in range(65)]),
)
"""Values that fit some field of some structure, and most fields not at all."""


# Both verdicts


def own_verdict(chain: ChainBuilder, sealed: bytes, body: bytes, now: int | None) -> str | None:
    """Return the rule that the project's code finds broken, checked in the page's order."""
    try:
        read = SealedHeader.decode(sealed)
        chain.tree.add_header(read)
        if now is not None:
            validation.check_time(read.header, chain.params, now_ms=now)
        validation.check_seal(read, chain.network_id)
        block = Block(read, Body.decode(body, max_bytes=2**27))
        chain.check(block)
    except ConsensusError as error:
        return error.code
    return None


def page_verdict(reference: Reference, sealed: bytes, body: bytes, now: int | None) -> str | None:
    """Return the rule that the reference finds broken; `reference` stays as it is."""
    other = reference.fork()
    try:
        other.accept(sealed, body, now=now)
    except Rejected as error:
        assert (other.tip_hash, other.state) == (reference.tip_hash, reference.state)
        return error.code
    return None


@dataclass
class Pair:
    """One chain, kept by both."""

    chain: ChainBuilder
    reference: Reference
    verdicts: Counter[tuple[str | None, str | None]] = field(default_factory=Counter)

    @classmethod
    def of(cls, genesis: Genesis, versions: frozenset[int] = SUPPORTED_VERSIONS) -> Pair:
        return cls(ChainBuilder(genesis, versions=versions), Reference(genesis.encode(), versions))

    def same(self) -> None:
        assert self.reference.height == self.chain.height
        assert self.reference.tip_hash == self.chain.tip.hash
        assert self.reference.state_root == self.chain.tip.header.state_root
        assert self.reference.chainwork == self.chain.tree.tip.chainwork

    def mine(self, *statements: Statement, key: LedgerKey = P0, after: int | None = None) -> Block:
        """Mine the next block with the project's code, `after` ms past its parent; the reference takes it."""
        time_ms = None if after is None else self.chain.tip.header.time_ms + after
        block = self.chain.mine(statements, key=key, time_ms=time_ms)
        self.reference.accept(block.sealed.encode(), block.body.encode())
        self.same()
        return block

    def say(self, key: LedgerKey, payload: AnyPayload, **more: Any) -> Statement:
        return self.chain.statement(key, payload, **more)

    def judge(self, sealed: bytes, body: bytes, what: str, *, now: int | None = None) -> str | None:
        """Return the rule that both find broken; fail when they disagree."""
        found = page_verdict(self.reference, sealed, body, now), own_verdict(self.chain, sealed, body, now)
        self.verdicts[found] += 1
        assert found[0] == found[1] or found in EXPLAINED, f"{what}: page {found[0]}, code {found[1]}"
        return found[1]

    def judge_block(self, block: Block, what: str, *, now: int | None = None) -> str | None:
        return self.judge(block.sealed.encode(), block.body.encode(), what, now=now)

    def judge_statements(self, what: str, *statements: Statement, key: LedgerKey = P0) -> str | None:
        """Judge the block that holds these statements; its state root is the true one if there is one."""
        self.chain._waiting.clear()
        return self.judge_block(self.chain.forge(statements, key=key), what)

    def count(self, least: int) -> None:
        """At least so many were judged, and nobody took what the other refused."""
        assert self.verdicts.total() >= least, self.verdicts
        assert not [found for found in self.verdicts if (found[0] is None) != (found[1] is None)]
        assert all(found[0] == found[1] or found in EXPLAINED for found in self.verdicts)


def view(batch: bytes, viewer: bytes, wrapped_key: bytes = b"") -> ViewGrant:
    return ViewGrant(batch=batch, viewer=viewer, wrapped_key=wrapped_key)


def attest(batch: bytes, record: int, pixel_hash: bytes, note: str) -> Attestation:
    return Attestation(batch=batch, record=record, pixel_hash=pixel_hash, note=note)


# Chains


def quorum_genesis(**params: Any) -> Genesis:
    return make_genesis(
        administrators=(A0, A1, A2),
        producers=(P0, P1),
        submitters=(S0, S1),
        **{"quorum": 2, "half_life_ms": 80_000, "future_limit_ms": 10_000, "heartbeat_ms": 1_000, **params},
    )


def every_kind(pair: Pair) -> Pair:
    """Make a chain with every kind, by several authors, with grants, revocations, rotations, checkpoints."""
    say, mine, chain = pair.say, pair.mine, pair.chain
    mine()
    stages = [say(S0, make_stage(StageType.DATASET, name="data", größe="1"))]
    for kind in (StageType.TRAINING, StageType.CLUSTERING, StageType.FILTER):
        stages.append(say(S0, make_stage(kind, stages[0].id, stages[-1].id, name=kind.label)))
    mine(*stages, say(P0, make_stage(StageType.PRIVACY)), key=P1, after=1_000)
    named = {"model": stages[1].id, "clustering": stages[2].id, "filter": stages[3].id}
    public = chain.batch(S0, 3, name="public", **named)
    private = chain.batch(S1, 2, name="private", public=False)
    mine(public, private, chain.batch(P0, name="by a producer"), after=1)
    viewer = say(A0, grant(Role.VIEWER, VIEWER))
    submitter = say(A2, grant(Role.SUBMITTER, FRESH[0]))
    second = Checkpoint(height=2, block_hash=chain.tree.active[2].hash)
    upgrade = ProtocolUpgrade(version=2, activation_height=9_000)
    mine(viewer, say(A1, RoleApproval(proposal=viewer.id)), submitter, say(A0, upgrade), say(A0, second))
    mine(
        say(S1, ViewGrant(batch=private.id, viewer=VIEWER.public, wrapped_key=b"wrapped")),
        say(A0, RoleApproval(proposal=submitter.id)),
        say(A1, second),
        say(A1, upgrade),
        say(VIEWER, Attestation(batch=public.id, record=1, pixel_hash=seed("pixels"), note="again")),
        say(S0, Retract(target=public.id, record=1, reason="a person")),
        say(A2, Retract(target=stages[3].id, record=None, reason="")),
        after=15_000,
    )
    mine(
        chain.batch(FRESH[0], name="newcomer"),
        say(FRESH[0], rotation(FRESH[0], FRESH[1], chain.network_id)),
        say(P1, rotation(P1, FRESH[2], chain.network_id)),
        say(P1, rotation(P1, FRESH[3], chain.network_id)),
        say(VIEWER, Cancel(note="Ärger")),
        key=P1,
    )
    gone = say(A1, revoke(Role.SUBMITTER, S0, suspect_since=3))
    short, shorter = say(A0, grant(Role.SUBMITTER, FRESH[5])), say(A1, revoke(Role.SUBMITTER, FRESH[5]))
    nobody = say(A2, revoke(Role.VIEWER, STRANGER, suspect_since=4))
    approvals = [say(A2, RoleApproval(proposal=item.id)) for item in (gone, short, shorter)]
    mine(gone, short, shorter, nobody, *approvals, say(A0, RoleApproval(proposal=nobody.id)), key=FRESH[2])
    back = say(A0, grant(Role.SUBMITTER, S0))
    fewer = say(A1, revoke(Role.ADMIN, A2))
    never = say(A2, grant(Role.SUBMITTER, FRESH[9]))
    mine(back, fewer, never, *[say(A2, RoleApproval(proposal=item.id)) for item in (back, fewer)])
    mine(say(A0, RoleApproval(proposal=never.id)), say(S0, Retract(target=public.id, record=None, reason="")))
    mine(
        say(A1, RoleApproval(proposal=never.id)),
        say(A0, rotation(A0, FRESH[7], chain.network_id)),
        say(A1, Checkpoint(height=0, block_hash=chain.genesis_block.hash)),
        say(VIEWER, rotation(VIEWER, FRESH[8], chain.network_id)),
    )
    zero = Checkpoint(height=0, block_hash=chain.genesis_block.hash)
    mine(say(FRESH[7], zero), say(FRESH[8], Cancel(note="")), say(FRESH[9], make_stage()))
    for after in (9_001, 20_000, *[1_000] * 12):
        mine(key=FRESH[2], after=after)
    mine(say(A1, grant(Role.PRODUCER, STRANGER)))
    return pair


@cache
def asert_pair() -> Pair:
    return every_kind(Pair.of(quorum_genesis()))


@cache
def busy_block() -> Block:
    """Return a block that fits on the chain, with statements of three kinds."""
    pair = asert_pair()
    chain = pair.chain
    pair.chain._waiting.clear()
    statements = [
        chain.batch(S0, 2, name="busy"),
        pair.say(S0, make_stage(StageType.TRAINING, name="busy", epochs="30", preset="ppsa")),
        pair.say(A1, grant(Role.VIEWER, STRANGER)),
    ]
    return chain.forge(statements, key=P0)


def flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def resealed(header: Header, key: LedgerKey = P0) -> bytes:
    return seal_header(key, asert_pair().chain.network_id, solve(header)).encode()
