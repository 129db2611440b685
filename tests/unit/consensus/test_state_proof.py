"""Roles and old headers, proven to someone who holds one header."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import TypeVar

import pytest

from facechain.consensus.block import SealedHeader
from facechain.consensus.encoding import pack
from facechain.consensus.errors import ConsensusError, DecodeError, ProofError
from facechain.consensus.kinds import Role
from facechain.consensus.payloads import RoleApproval
from facechain.consensus.state import OPEN_END
from facechain.consensus.state_proof import HeaderProof, RoleProof
from support.chain import ADMIN, PRODUCER, STRANGER, ChainBuilder, keys, make_genesis, seed
from support.statements import grant, revoke

Proof = TypeVar("Proof", RoleProof, HeaderProof)

SECOND, NEWCOMER = keys(2, start=70)
GRANTED, REVOKED, TIP = 3, 6, 20
"""Blocks that grant and revoke the newcomer's role, and the last one."""


@cache
def story() -> ChainBuilder:
    """A network in which one producer comes and goes."""
    chain = ChainBuilder(make_genesis(administrators=(ADMIN, SECOND), quorum=2))
    for height in range(1, TIP + 1):
        said = {GRANTED: grant(Role.PRODUCER, NEWCOMER), REVOKED: revoke(Role.PRODUCER, NEWCOMER)}
        if height in said:
            proposal = chain.statement(ADMIN, said[height])
            chain.mine([proposal, chain.statement(SECOND, RoleApproval(proposal=proposal.id))])
        else:
            chain.mine()
    return chain


def anchor(height: int) -> SealedHeader:
    return story().blocks[story().tree.active[height].hash].sealed


def role_proof(key: bytes, *, height: int = TIP, role: Role = Role.PRODUCER) -> RoleProof:
    block = story().blocks[story().tree.active[height].hash]
    return RoleProof.make(story().state(block), block.sealed, role, key)


def header_proof(height: int, *, below: int = TIP) -> HeaderProof:
    block = story().blocks[story().tree.active[below].hash]
    old = story().blocks[story().tree.active[height].hash].header
    return HeaderProof.make(story().state(block), block.sealed, old)


def test_one_header_tells_who_was_a_producer_at_every_height_before() -> None:
    proof = RoleProof.decode(role_proof(NEWCOMER.public).encode())
    held = [height for height in range(TIP + 2) if proof.held_at(height)]
    assert held == list(range(GRANTED + 1, REVOKED + 1))
    assert proof.check().intervals == ((GRANTED + 1, REVOKED + 1),)
    assert all(role_proof(PRODUCER.public).held_at(height) for height in range(1, TIP + 2))


def test_a_key_that_never_had_the_role_is_proven_not_to_have_had_it() -> None:
    proof = RoleProof.decode(role_proof(STRANGER.public).encode())
    assert proof.entry.value is None
    assert not any(proof.held_at(height) for height in range(TIP + 2))
    assert not role_proof(PRODUCER.public, role=Role.ADMIN).held_at(1)


def test_a_proof_tells_nothing_of_what_comes_after_the_next_block() -> None:
    before = role_proof(NEWCOMER.public, height=GRANTED)
    assert before.held_at(GRANTED + 1)
    assert before.check().intervals == ((GRANTED + 1, OPEN_END),)
    for height in (GRANTED + 2, -1):
        with pytest.raises(ProofError, match=f"expected 0 to {GRANTED + 1}"):
            before.held_at(height)


@pytest.mark.parametrize("height", range(TIP))
def test_an_old_header_is_proven_in_a_few_hashes(height: int) -> None:
    proof = HeaderProof.decode(header_proof(height).encode())
    proof.check()
    assert len(proof.path) <= TIP.bit_length()
    other = replace(proof, header=replace(proof.header, nonce=proof.header.nonce + 1))
    with pytest.raises(ProofError):
        other.check()


def test_a_header_is_proven_below_the_anchor_only() -> None:
    proof = header_proof(5, below=9)
    for old in (anchor(9).header, anchor(10).header):
        with pytest.raises(ProofError):
            replace(proof, header=old).check()
    with pytest.raises(DecodeError, match="expected 0 to 8"):
        header_proof(9, below=9)
    with pytest.raises(ProofError, match="state root of the anchor"):
        replace(proof, anchor=anchor(10)).check()


def test_a_proof_is_bound_to_its_header_key_and_role() -> None:
    proof = role_proof(NEWCOMER.public)
    wrong = (
        replace(proof, anchor=anchor(TIP - 1)),
        replace(proof, key=PRODUCER.public),
        replace(proof, key=STRANGER.public),
        replace(proof, role=Role.ADMIN),
        replace(proof, entry=role_proof(PRODUCER.public).entry),
        replace(proof, entry=role_proof(STRANGER.public).entry),
        replace(proof, entry=replace(proof.entry, value=None)),
        replace(proof, sub_roots=(*proof.sub_roots[:5], seed("another part"))),
    )
    for changed in wrong:
        with pytest.raises(ProofError):
            changed.check()


def test_any_flipped_bit_of_a_role_proof_is_noticed_or_asks_another_question() -> None:
    for key in (NEWCOMER.public, STRANGER.public):
        proof = role_proof(key)
        for other in flipped(proof.encode(), RoleProof):
            # The seal is not under the hash, and one proof of absence is good for many keys.
            assert (other.anchor.seal, other.key) != (proof.anchor.seal, proof.key)
            assert other.check().intervals == () or other.key == key


def test_any_flipped_bit_of_a_header_proof_is_noticed() -> None:
    proof = header_proof(7)
    assert all(other.anchor.seal != proof.anchor.seal for other in flipped(proof.encode(), HeaderProof))


def flipped(data: bytes, kind: type[Proof]) -> Iterator[Proof]:
    """Yield what holds, about the same anchor, when one bit of one byte is another."""
    trusted = kind.decode(data).anchor.hash
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        try:
            other = kind.decode(bytes(changed))
            other.check()
        except ConsensusError:
            continue
        if other.anchor.hash == trusted:
            yield other


def test_other_bytes_do_not_decode() -> None:
    proof = role_proof(PRODUCER.public)
    fields = [proof.anchor.encode(), b"".join(proof.sub_roots), proof.role, proof.key, proof.entry.values()]
    changes: dict[int, object] = {0: bytes(223), 1: bytes(191), 2: 5, 3: bytes(31), 4: [None]}
    for place, value in changes.items():
        with pytest.raises(DecodeError):
            RoleProof.decode(pack([*fields[:place], value, *fields[place + 1 :]]))
    with pytest.raises(DecodeError):
        RoleProof.decode(proof.encode() + b"\x00")
    with pytest.raises(DecodeError):
        HeaderProof.decode(proof.encode())
