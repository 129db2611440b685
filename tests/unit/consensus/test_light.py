"""The light client: headers, seals and proofs of authority in, the best authorised chain out."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from facechain.consensus.block import Block, SealedHeader, seal_header
from facechain.consensus.encoding import pack
from facechain.consensus.errors import DecodeError, ProofError, RuleViolation, Temporary
from facechain.consensus.kinds import Role
from facechain.consensus.light import LightClient, ProvenHeader, TrustedStart
from facechain.consensus.params import Genesis
from facechain.consensus.state_proof import HeaderProof, RoleProof
from support.chain import PRODUCER, STRANGER, ChainBuilder, make_genesis, seed
from support.light import (
    NEWCOMER,
    ROTATED,
    active_blocks,
    authority_story,
    prove_header,
    proven,
    trusted_start,
)
from support.strangers import forged_state, strangers_line
from support.vectors import load

NOW_MS = 2 * make_genesis().time_ms


def feed(client: LightClient, items: list[ProvenHeader]) -> None:
    for item in items:
        client.accept(item, now_ms=NOW_MS)


def refusal(client: LightClient, item: ProvenHeader) -> str:
    """Offer a header that is refused; return the rule, checking that nothing stays behind."""
    before, tip = len(client.nodes), client.tip
    with pytest.raises((RuleViolation, ProofError)) as caught:
        client.accept(item, now_ms=NOW_MS)
    assert (len(client.nodes), client.tip) == (before, tip)
    return caught.value.code


def line(builder: ChainBuilder, count: int) -> LightClient:
    """Return a client that took `count` blocks, mined on the builder's tip."""
    client = LightClient.from_genesis(builder.genesis)
    feed(client, proven(builder, builder.mine_many(count)))
    return client


@cache
def story() -> ChainBuilder:
    return authority_story()


def test_follows_grants_revocations_and_rotations_from_the_genesis() -> None:
    client = LightClient.from_genesis(story().genesis)
    blocks = active_blocks(story())
    feed(client, proven(story(), blocks))
    assert client.tip.hash == story().tip.hash
    assert client.tip.chainwork == story().tree.tip.chainwork
    assert [client.at(block.header.height).hash for block in blocks] == [block.hash for block in blocks]  # type: ignore[union-attr]
    assert client.check_on_chain(blocks[4].header) == len(blocks) - 4


def test_a_role_proof_is_given_once_for_a_sub_root_of_roles() -> None:
    client = LightClient.from_genesis(story().genesis)
    needed = 0
    for item in proven(story(), active_blocks(story())):
        try:
            client.accept(replace(item, role=None), now_ms=NOW_MS)
        except ProofError:
            needed += 1
            client.accept(item, now_ms=NOW_MS)
    assert client.tip.hash == story().tip.hash
    changes_of_roles, new_keys = 3, 2
    assert needed == 1 + changes_of_roles + new_keys - 1


def test_a_proof_of_another_sub_root_of_roles_is_not_enough() -> None:
    """A key that was proven before it was revoked is not good any more."""
    client = LightClient.from_genesis(story().genesis)
    blocks = active_blocks(story())
    feed(client, proven(story(), blocks[:8]))
    assert blocks[6].header.producer == NEWCOMER.public
    revoked = strangers_line(story(), blocks[7], 1, key=NEWCOMER)[0]
    true_state = story().state(blocks[7])
    assert refusal(client, prove_header(revoked, true_state)) == "unauthorized-producer"
    assert refusal(client, replace(prove_header(revoked, true_state), role=None)) == "bad-proof"
    older = proven(story(), blocks[6:7])[0]
    assert refusal(client, replace(older, sealed=revoked.sealed)) == "bad-proof"
    mixed = ProvenHeader(
        sealed=revoked.sealed, sub_roots=prove_header(revoked, true_state).sub_roots, role=older.role
    )
    assert refusal(client, mixed) == "bad-proof"


@pytest.mark.parametrize("fork", [0, 4, 10])
def test_a_stranger_s_heavier_chain_is_refused_at_its_first_header(fork: int) -> None:
    builder = ChainBuilder(make_genesis())
    client = line(builder, 10)
    below = [builder.genesis_block, *active_blocks(builder)][fork]
    branch = strangers_line(builder, below, 30)
    forged, true_state = forged_state(builder, below, STRANGER), builder.state(below)
    assert refusal(client, prove_header(branch[0], true_state)) == "unauthorized-producer"
    assert refusal(client, prove_header(branch[0], forged)) == "bad-proof"
    lie = prove_header(branch[0], forged).role
    assert refusal(client, replace(prove_header(branch[0], true_state), role=lie)) == "bad-proof"
    assert refusal(client, replace(prove_header(branch[0], true_state), role=None)) == "bad-proof"
    for later in branch[1:]:
        with pytest.raises(Temporary, match="missing-parent"):
            client.accept(prove_header(later, forged), now_ms=NOW_MS)
    assert client.tip.hash == builder.tip.hash
    # The branch is right in everything but its first seal: with a granted key, the client would follow it.
    granted = ChainBuilder(make_genesis(producers=(PRODUCER, STRANGER)))
    other = LightClient.from_genesis(granted.genesis)
    feed(other, [prove_header(item, granted.state()) for item in strangers_line(granted, granted.tip, 1)])
    assert other.tip.height == 1


def test_most_work_among_authorised_chains_wins_and_of_equal_work_the_first() -> None:
    builder = ChainBuilder(make_genesis())
    client = line(builder, 3)
    first = client.tip.hash
    fork = active_blocks(builder)[0]
    side = [builder.mine(parent=fork, time_ms=fork.header.time_ms + 11_000)]
    side.append(builder.mine(parent=side[-1]))
    feed(client, proven(builder, side))
    assert client.tip.hash == first
    side.append(builder.mine(parent=side[-1]))
    feed(client, proven(builder, side[-1:]))
    assert client.tip.hash == side[-1].hash
    assert [client.at(height).hash for height in (1, 2, 3, 4)] == [fork.hash, *(item.hash for item in side)]  # type: ignore[union-attr]
    with pytest.raises(ProofError, match="block 3"):
        client.check_on_chain(builder.blocks[first].header)
    with pytest.raises(ProofError, match="block 9: expected one of the headers, which end at block 4, got "):
        client.check_on_chain(replace(side[-1].header, height=9))


def test_any_order_ends_with_the_tip_of_a_full_node() -> None:
    builder = ChainBuilder(make_genesis())
    rng = random.Random(5)
    blocks: list[Block] = []
    for number in range(40):
        parent = rng.choice([builder.genesis_block, *blocks][-4:])
        blocks.append(builder.mine(parent=parent, time_ms=parent.header.time_ms + 10_000 + number))
    client = LightClient.from_genesis(builder.genesis)
    feed(client, proven(builder, blocks))
    assert client.tip.hash == builder.tip.hash
    for block in blocks:
        node = client.nodes[block.hash]
        assert node.chainwork == builder.node(block).chainwork
        assert (client.at(node.height) is node) == builder.tree.is_active(builder.node(block))


def test_no_branch_that_leaves_the_chain_deeper_than_allowed_is_followed() -> None:
    builder = ChainBuilder(make_genesis())
    main = builder.mine_many(5)
    deep = builder.mine(parent=main[1], time_ms=main[1].header.time_ms + 11_000)
    branch = [deep, *builder.mine_many(5, parent=deep)]
    for max_reorg, tip in ((2, main[-1]), (3, branch[-1])):
        client = LightClient.from_genesis(builder.genesis, max_reorg=max_reorg)
        feed(client, proven(builder, [*main, *branch]))
        assert client.tip.hash == tip.hash


def test_a_pinned_block_keeps_other_chains_out() -> None:
    builder = ChainBuilder(make_genesis())
    main = builder.mine_many(3)
    other = builder.mine(parent=main[0], time_ms=main[0].header.time_ms + 11_000)
    client = LightClient.from_genesis(builder.genesis, pinned={2: main[1].hash})
    feed(client, proven(builder, main))
    assert refusal(client, proven(builder, [other])[0]) == "below-checkpoint"


def test_every_rule_of_headers_is_checked() -> None:
    builder = ChainBuilder(make_genesis(producer_share=2, producer_window=3, producers=(PRODUCER, NEWCOMER)))
    client = LightClient.from_genesis(builder.genesis)
    feed(client, proven(builder, [builder.mine(), builder.mine()]))
    state = builder.state()
    good = builder.forge(key=NEWCOMER)

    def offer(**changes: Any) -> str:
        return refusal(client, prove_header(builder.forge(key=NEWCOMER, **changes), state))

    assert offer(bits=good.header.bits - 1) == "bad-diffbits"
    assert offer(height=9) == "bad-height"
    assert offer(time_ms=builder.genesis.time_ms) == "time-too-old"
    assert offer(time_ms=NOW_MS + builder.params.future_limit_ms + 1) == "time-too-new"
    assert offer(version=9) == "unknown-version"
    assert refusal(client, prove_header(builder.forge(), state)) == "producer-share"
    header = good.header
    lazy = next(
        header.with_nonce(nonce)
        for nonce in itertools.count(header.nonce + 1)
        if int.from_bytes(header.with_nonce(nonce).hash) >> 255
    )
    easy = Block(seal_header(NEWCOMER, builder.network_id, lazy), good.body)
    assert refusal(client, prove_header(easy, state)) == "high-hash"
    other_seal = seal_header(STRANGER, builder.network_id, header).seal
    assert (
        refusal(client, replace(prove_header(good, state), sealed=SealedHeader(header, other_seal)))
        == "bad-seal"
    )
    feed(client, [prove_header(good, state)])
    assert client.tip.hash == good.hash
    assert client.accept(prove_header(good, state), now_ms=0) is client.tip


# Starting from a trusted block.


@pytest.mark.parametrize("height", [1, 2, 5, 11, 12, 20])
def test_starts_with_a_trusted_block_as_with_the_genesis(height: int) -> None:
    blocks = active_blocks(story())
    block = blocks[height - 1]
    start = trusted_start(story(), block)
    client = LightClient.from_trusted(story().genesis, start, block.hash)
    assert client.base is client.tip
    feed(client, proven(story(), blocks[height:]))
    assert client.tip.hash == story().tip.hash
    assert client.at(height - 1) is None
    with pytest.raises(Temporary, match="missing-parent"):
        client.accept(
            prove_header(strangers_line(story(), story().genesis_block, 2)[1], story().state(blocks[0])),
            now_ms=NOW_MS,
        )


def test_a_trusted_block_of_a_network_with_a_producer_window_needs_that_many_ancestors() -> None:
    builder = ChainBuilder(make_genesis(producer_share=9, producer_window=16, producers=(PRODUCER, NEWCOMER)))
    for number in range(20):
        builder.mine(key=(PRODUCER, NEWCOMER)[number % 2])
    block = active_blocks(builder)[17]
    with pytest.raises(ProofError, match="expected 15, got 10"):
        LightClient.from_trusted(builder.genesis, trusted_start(builder, block), block.hash)
    start = trusted_start(builder, block, ancestors=15)
    client = LightClient.from_trusted(builder.genesis, start, block.hash)
    feed(client, proven(builder, active_blocks(builder)[18:]))
    assert client.tip.hash == builder.tip.hash


def test_targets_follow_from_block_1_after_a_trusted_block_too() -> None:
    builder = ChainBuilder(make_genesis(half_life_ms=60_000, future_limit_ms=7_000, heartbeat_ms=0))
    block = builder.genesis_block
    for _ in range(24):
        block = builder.mine(time_ms=block.header.time_ms + 100)
    blocks = active_blocks(builder)
    assert len({item.header.bits for item in blocks[12:]}) > 6
    client = LightClient.from_trusted(builder.genesis, trusted_start(builder, blocks[12]), blocks[12].hash)
    feed(client, proven(builder, blocks[13:]))
    assert client.tip.hash == block.hash


def wrong_starts() -> list[tuple[TrustedStart, str]]:
    """Return starts at block 12 that do not follow from its hash, with what is said of them."""
    blocks = active_blocks(story())
    good = trusted_start(story(), blocks[11])
    return [
        (replace(good, sealed=blocks[12].sealed), "trusted block"),
        (replace(good, sealed=replace(good.sealed, seal=bytes(64))), "bad-seal"),
        (replace(good, ancestors=good.ancestors[1:]), "ancestors of the trusted block"),
        (replace(good, ancestors=(*good.ancestors[1:], good.ancestors[0])), "ancestors"),
        (replace(good, sub_roots=(*good.sub_roots[:5], seed("part"))), "state root of the trusted block"),
        (replace(good, first=blocks[1].header), "expected height 1"),
        (replace(good, first=replace(good.first, time_ms=1)), "inclusion proof"),
        (replace(good, first_path=()), "inclusion proof"),
    ]


@pytest.mark.parametrize("number", range(8))
def test_a_start_that_does_not_follow_from_the_trusted_hash_is_refused(number: int) -> None:
    start, message = wrong_starts()[number]
    trusted = active_blocks(story())[11].hash
    with pytest.raises((ProofError, RuleViolation), match=message):
        LightClient.from_trusted(story().genesis, start, trusted)


def test_a_start_at_block_1_names_itself_as_block_1_and_none_is_at_block_0() -> None:
    blocks = active_blocks(story())
    start = trusted_start(story(), blocks[0])
    with pytest.raises(ProofError, match="block 1"):
        LightClient.from_trusted(story().genesis, replace(start, first=blocks[1].header), blocks[0].hash)
    genesis = story().genesis_block
    with pytest.raises(ProofError, match="trusted block"):
        LightClient.from_trusted(story().genesis, replace(start, sealed=genesis.sealed), genesis.hash)


# What the chain is good for.


def test_roles_and_old_headers_count_under_headers_of_the_best_chain_only() -> None:
    client = LightClient.from_genesis(story().genesis)
    blocks = active_blocks(story())
    feed(client, proven(story(), blocks))
    tip = blocks[-1]
    roles = RoleProof.make(story().state(tip), tip.sealed, Role.PRODUCER, ROTATED.public)
    assert client.check_role(roles).is_open
    old = HeaderProof.make(story().state(tip), tip.sealed, blocks[3].header)
    client.check_ancestor(old)
    stranger = strangers_line(story(), tip, 1)[0]
    lie = RoleProof.make(
        forged_state(story(), tip, STRANGER), stranger.sealed, Role.PRODUCER, STRANGER.public
    )
    assert lie.check().is_open
    with pytest.raises(ProofError, match="one of the headers, which end at block"):
        client.check_role(lie)
    with pytest.raises(ProofError, match="one of the headers, which end at block"):
        client.check_ancestor(replace(old, anchor=stranger.sealed))


def test_a_proven_header_has_one_encoding() -> None:
    item = proven(story(), active_blocks(story())[:1])[0]
    for one in (item, replace(item, role=None)):
        assert ProvenHeader.decode(one.encode()) == one
    assert len(replace(item, role=None).encode()) == 224 + 192 + 6
    for wrong in ([bytes(224), bytes(191), None], [bytes(223), bytes(192), None], [bytes(224), bytes(192)]):
        with pytest.raises(DecodeError):
            ProvenHeader.decode(pack(wrong))


def test_golden_vectors() -> None:
    content = load("light")
    genesis = Genesis.decode(bytes.fromhex(content["genesis"]))
    client = LightClient.from_genesis(genesis)
    for row in content["headers"]:
        item = ProvenHeader.decode(bytes.fromhex(row["proven"]))
        assert item.encode().hex() == row["proven"]
        assert client.accept(item, now_ms=NOW_MS).hash.hex() == row["hash"]
        assert client.tip.height == row["height"]
    for row in content["refused"]:
        assert refusal(client, ProvenHeader.decode(bytes.fromhex(row["proven"]))) == row["code"], row["what"]
    for row in content["role_proofs"]:
        roles = RoleProof.decode(bytes.fromhex(row["proof"]))
        assert (roles.role.label, roles.key.hex()) == (row["role"], row["key"])
        client.check_role(roles)
        assert [height for height in range(client.tip.height + 2) if roles.held_at(height)] == row["held_at"]
    for row in content["header_proofs"]:
        old = HeaderProof.decode(bytes.fromhex(row["proof"]))
        client.check_ancestor(old)
        assert (old.header.height, old.header.hash.hex()) == (row["height"], row["hash"])
