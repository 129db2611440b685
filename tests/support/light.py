"""What a light client is shown, made from the states that the tests' chain keeps."""

from __future__ import annotations

from collections.abc import Iterable

from facechain.consensus.block import Block, Header
from facechain.consensus.kinds import SEALING_ROLE, Role
from facechain.consensus.kv import StateReader
from facechain.consensus.light import ProvenHeader, TrustedStart
from facechain.consensus.payloads import RoleApproval
from facechain.consensus.state import prove_history, sub_roots
from facechain.consensus.state_proof import prove_role_entry

from .chain import ADMIN, PRODUCER, ChainBuilder, keys, make_genesis
from .statements import grant, revoke, rotation

SECOND, NEWCOMER, ROTATED = keys(3, start=70)
"""A second administrator, a producer who comes and goes, and the key that the first producer changes to."""


def prove_header(block: Block, parent_state: StateReader) -> ProvenHeader:
    """Prove a block's seal from a state that is said to be its parent's."""
    return ProvenHeader(
        sealed=block.sealed,
        sub_roots=sub_roots(parent_state),
        role=prove_role_entry(parent_state, SEALING_ROLE, block.header.producer),
    )


def proven(builder: ChainBuilder, blocks: Iterable[Block]) -> list[ProvenHeader]:
    """Prove blocks of the tests' chain."""
    return [prove_header(block, builder.states[block.header.previous]) for block in blocks]


def active_blocks(builder: ChainBuilder) -> list[Block]:
    """Return the best chain from block 1 on."""
    return [builder.blocks[node.hash] for node in builder.tree.active[1:]]


def trusted_start(builder: ChainBuilder, block: Block, *, ancestors: int = 10) -> TrustedStart:
    """Say about a block what a client that starts there needs."""
    line: list[Header] = []
    header = block.header
    while header.height > 0 and len(line) < ancestors:
        header = builder.blocks[header.previous].header
        line.insert(0, header)
    state = builder.state(block)
    first = builder.blocks[builder.tree.active[1].hash].header
    return TrustedStart(
        sealed=block.sealed,
        ancestors=tuple(line),
        sub_roots=sub_roots(state),
        first=first,
        first_path=prove_history(state, 1) if block.header.height > 1 else (),
    )


def authority_story() -> ChainBuilder:
    """Mine a chain on which producers are granted, revoked and rotated; whoever may seal seals in turn."""
    chain = ChainBuilder(make_genesis(administrators=(ADMIN, SECOND), quorum=2))
    for _ in range(3):
        chain.mine()
    for change in (grant(Role.PRODUCER, NEWCOMER), revoke(Role.PRODUCER, NEWCOMER)):
        proposal = chain.statement(ADMIN, change)
        chain.mine([proposal, chain.statement(SECOND, RoleApproval(proposal=proposal.id))])
        if change.action.label == "grant":
            chain.mine(key=NEWCOMER)
            chain.mine(key=PRODUCER)
            chain.mine(key=NEWCOMER)
    chain.mine()
    handover = rotation(PRODUCER, ROTATED, chain.network_id)
    chain.mine([chain.statement(PRODUCER, handover)])
    for _ in range(15):
        chain.mine(key=ROTATED)
    return chain
