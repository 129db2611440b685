"""Header chains of little work: what they cost, what passes, and what an exchange between the passes meets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from facechain.consensus.block import Body, Header, SealedHeader, seal_header
from facechain.consensus.chain import BlockTree, HeaderNode, context_headers
from facechain.consensus.errors import RuleViolation, Temporary
from facechain.consensus.params import Genesis, Retarget
from facechain.consensus.work import block_work
from facechain.node.chainstate import ChainState
from facechain.node.protocol import header_sync
from facechain.node.protocol.presync import (
    ChainChanged,
    ChainEnded,
    HeaderRules,
    Presync,
    PresyncLimits,
    check_own_work,
)
from facechain.node.protocol.sync import Synchronizer, SyncLimits
from facechain.node.store.memory import MemoryStore
from facechain.node.wire import messages as wire
from support.chain import EASY_BITS, PRODUCER, ChainBuilder, make_genesis, seed, solve
from support.gossip import FAR_FUTURE_MS, Gossip

LIMITS = PresyncLimits(period=4, held_back=64, bits=1_000)
MESSAGE = 20
WORK = block_work(EASY_BITS)


@pytest.fixture
def builder() -> ChainBuilder:
    return ChainBuilder(make_genesis(retarget=Retarget.FIXED, fixed_digits=1, pow_limit_bits=EASY_BITS))


def line(genesis: Genesis, root: SealedHeader, count: int, *, late_ms: int = 0) -> list[SealedHeader]:
    """Return a chain of headers on top of block 0 that keep every rule of headers; nobody needs their bodies."""
    tree = BlockTree(root, genesis.params)
    made: list[SealedHeader] = []
    parent = tree.tip
    for _ in range(count):
        context = tree.context(parent)
        header = Header(
            version=1,
            height=context.height,
            previous=context.parent_hash,
            body_root=Body(()).root(),
            state_root=bytes(32),
            time_ms=context.parent_time_ms + genesis.params.spacing_ms + late_ms,
            bits=context.bits,
            producer=PRODUCER.public,
            nonce=0,
        )
        made.append(seal_header(PRODUCER, genesis.network_id, solve(header)))
        parent = tree.add_header(made[-1])
    return made


def rules(genesis: Genesis, number: int = 0, limits: PresyncLimits = LIMITS) -> HeaderRules:
    return HeaderRules(params=genesis.params, salt=seed(f"salt {number}"), limits=limits)


def feed(presync: Presync, headers: Sequence[SealedHeader], *, ends: bool = True) -> list[SealedHeader]:
    """Give a chain in messages from where the pass is; return what is released."""
    released: list[SealedHeader] = []
    was_second = presync.is_second_pass
    for start in range(0, len(headers), MESSAGE):
        part = headers[start : start + MESSAGE]
        full = len(part) == MESSAGE and not (ends and start + MESSAGE >= len(headers))
        released += presync.take(part, is_full=full, now_ms=FAR_FUTURE_MS)
        if presync.is_done or presync.is_second_pass != was_second:
            break
    return released


def work_of(genesis: Genesis, root: SealedHeader, headers: Sequence[SealedHeader]) -> int:
    return sum(block_work(item.header.bits) for item in headers)


@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("retarget", [Retarget.ASERT, Retarget.FIXED])
def test_an_honest_chain_passes_whole_and_in_order(number: int, retarget: Retarget) -> None:
    genesis = make_genesis(retarget=retarget, fixed_digits=1)
    root = ChainBuilder(genesis).genesis_block.sealed
    headers = line(genesis, root, 300)
    tree = BlockTree(root, genesis.params)
    presync = Presync(tree.tip, work_of(genesis, root, headers[:250]), rules(genesis, number))
    assert feed(presync, headers) == []
    assert presync.is_second_pass
    assert presync.last_hash == root.hash, "the chain is asked for again from where it began"
    released = feed(presync, headers)
    assert presync.is_done
    assert released == headers[: len(released)]
    assert len(released) >= 250
    assert list(tree.nodes) == [root.hash], "nothing is added to the tree"


def test_memory_is_a_bit_for_every_period_and_a_window_of_headers(builder: ChainBuilder) -> None:
    headers = line(builder.genesis, builder.genesis_block.sealed, 400)
    presync = Presync(
        builder.tree.tip, work_of(builder.genesis, headers[0], headers[:390]), rules(builder.genesis)
    )
    most_headers = most_bits = 0
    for _ in range(2):
        for start in range(0, 400, MESSAGE):
            presync.take(headers[start : start + MESSAGE], is_full=True, now_ms=FAR_FUTURE_MS)
            held, bits = presync.kept
            most_headers, most_bits = max(most_headers, held), max(most_bits, bits)
            if presync.is_second_pass and start >= 380:
                break
    assert presync.is_done
    assert most_bits <= 390 // LIMITS.period + 1
    assert most_headers <= LIMITS.held_back + MESSAGE
    held_first = context_headers(builder.params)
    first = Presync(builder.tree.tip, 2**200, rules(builder.genesis))
    first.take(headers, is_full=True, now_ms=FAR_FUTURE_MS)
    assert first.kept == (held_first, sum(first._commitments.is_due(item.height) for item in headers))
    oldest = first._line[0]
    assert oldest.parent is None, "a header's ancestors would be kept along with it"


def test_a_chain_with_more_headers_than_bits_are_kept_of_ends(builder: ChainBuilder) -> None:
    headers = line(builder.genesis, builder.genesis_block.sealed, 60)
    presync = Presync(builder.tree.tip, 2**200, rules(builder.genesis, limits=replace(LIMITS, bits=3)))
    with pytest.raises(ChainEnded):
        presync.take(headers, is_full=True, now_ms=FAR_FUTURE_MS)
    assert presync.kept[1] == 3


def test_a_chain_exchanged_between_the_passes_is_noticed_before_any_of_it_is_released(
    builder: ChainBuilder,
) -> None:
    root = builder.genesis_block.sealed
    shown, other = (line(builder.genesis, root, 120, late_ms=late) for late in (0, 1))
    enough = work_of(builder.genesis, root, shown[:110])
    released = 0
    for number in range(40):
        presync = Presync(builder.tree.tip, enough, rules(builder.genesis, number))
        assert feed(presync, shown) == []
        try:
            released += len(feed(presync, other))
        except ChainChanged:
            continue
    # 16 bits have to agree by chance before the first header is let go.
    assert released == 0


def test_a_chain_exchanged_at_its_end_has_only_what_was_committed_to_released(builder: ChainBuilder) -> None:
    genesis, root = builder.genesis, builder.genesis_block.sealed
    shown = line(genesis, root, 200)
    enough = work_of(genesis, root, shown[:190])
    tail = line(genesis, root, 200, late_ms=1)
    mixed = [*shown[:100], *tail[100:]]  # not even a chain: the link shows it
    presync = Presync(builder.tree.tip, enough, rules(genesis))
    feed(presync, shown)
    released: list[SealedHeader] = []
    with pytest.raises(ChainChanged):
        for start in range(0, 200, MESSAGE):
            released += presync.take(mixed[start : start + MESSAGE], is_full=True, now_ms=FAR_FUTURE_MS)
    assert released == shown[: len(released)]
    assert len(released) == 100 - LIMITS.held_back


@pytest.mark.parametrize("cut", [1, 40, 109])
def test_a_chain_that_is_shorter_the_second_time_is_noticed(builder: ChainBuilder, cut: int) -> None:
    headers = line(builder.genesis, builder.genesis_block.sealed, 120)
    presync = Presync(
        builder.tree.tip, work_of(builder.genesis, headers[0], headers[:110]), rules(builder.genesis)
    )
    feed(presync, headers)
    with pytest.raises(ChainChanged):
        feed(presync, headers[:cut])


def broken(sealed: SealedHeader, **changes: Any) -> SealedHeader:
    return SealedHeader(solve(replace(sealed.header, **changes)), sealed.seal)


def test_the_first_pass_checks_every_rule_of_headers(builder: ChainBuilder) -> None:
    headers = line(builder.genesis, builder.genesis_block.sealed, 30)
    old = headers[20].header.time_ms - 20 * builder.params.spacing_ms
    cases = {
        "time-too-old": broken(headers[20], time_ms=old),
        "bad-height": broken(headers[20], height=99),
        "bad-diffbits": broken(headers[20], bits=EASY_BITS - 1),
        "bad-prevblk": headers[21],
    }
    for code, bad in cases.items():
        presync = Presync(builder.tree.tip, 2**200, rules(builder.genesis))
        with pytest.raises(RuleViolation) as caught:
            presync.take([*headers[:20], bad], is_full=True, now_ms=FAR_FUTURE_MS)
        assert caught.value.code == code
    late = Presync(builder.tree.tip, 2**200, rules(builder.genesis))
    with pytest.raises(Temporary):
        late.take(headers, is_full=True, now_ms=builder.genesis.time_ms)


def test_an_answer_that_begins_elsewhere_is_another_chain_and_no_broken_rule(builder: ChainBuilder) -> None:
    """A peer that reorganised between two questions answers from an older block of the second one."""
    headers = line(builder.genesis, builder.genesis_block.sealed, 30)
    presync = Presync(builder.tree.tip, 2**200, rules(builder.genesis))
    presync.take(headers[:20], is_full=True, now_ms=FAR_FUTURE_MS)
    with pytest.raises(ChainChanged, match=headers[19].hash.hex()):
        presync.take(headers[10:], is_full=True, now_ms=FAR_FUTURE_MS)


def test_the_share_of_one_producer_counts_below_the_start_too() -> None:
    genesis = make_genesis(producer_share=3, producer_window=5)
    builder = ChainBuilder(genesis)
    blocks = builder.mine_many(2)
    following = builder.forge(key=PRODUCER)
    builder.accept(following)
    header, body = builder.draft()
    fourth = builder.seal(header, body).sealed
    presync = Presync(builder.node(blocks[-1]), 2**200, rules(genesis))
    with pytest.raises(RuleViolation, match="producer-share"):
        presync.take([following.sealed, fourth], is_full=True, now_ms=FAR_FUTURE_MS)


def test_a_header_without_work_of_its_own_costs_no_signature(builder: ChainBuilder) -> None:
    (sealed,) = line(builder.genesis, builder.genesis_block.sealed, 1)
    assert check_own_work(sealed, builder.params) == block_work(sealed.header.bits)
    idle = sealed.header
    while int.from_bytes(idle.hash, "big") >> 252 == 0:
        idle = idle.with_nonce(idle.nonce + 1)
    with pytest.raises(RuleViolation, match="high-hash"):
        check_own_work(SealedHeader(idle, sealed.seal), builder.params)
    easier = replace(idle, bits=0x2100FFFF)
    with pytest.raises(RuleViolation, match="bad-diffbits"):
        check_own_work(SealedHeader(easier, sealed.seal), builder.params)


# In the synchroniser.


def make_sync(builder: ChainBuilder, minimum: int) -> Synchronizer:
    chain = ChainState.open(MemoryStore.open(), builder.genesis)
    sync = Synchronizer(
        chain, lambda _leaf: None, SyncLimits(minimum_chainwork=minimum), rules(builder.genesis)
    )
    sync.on_connected(1, 0.0)
    return sync


def known(sync: Synchronizer) -> dict[bytes, HeaderNode]:
    return sync._chain.tree.nodes


def test_a_flood_of_headers_of_little_work_leaves_nothing_in_the_tree(
    builder: ChainBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(header_sync, "MAX_HEADERS", MESSAGE)
    headers = line(builder.genesis, builder.genesis_block.sealed, 200)
    sync = make_sync(builder, 2**200)
    for start in range(0, 200, MESSAGE):
        sync.on_headers(1, headers[start : start + MESSAGE], now=0.0, now_ms=FAR_FUTURE_MS)
        assert len(known(sync)) == 1
    presync = sync._peers[1].presync
    assert presync is not None
    assert sync.behind().checked_height == 200
    assert presync.kept[0] <= context_headers(builder.params)
    sync.on_headers(1, [], now=0.0, now_ms=FAR_FUTURE_MS)
    assert sync._peers[1].presync is None
    assert len(known(sync)) == 1


def test_short_branches_of_little_work_are_passed_over(builder: ChainBuilder) -> None:
    headers = line(builder.genesis, builder.genesis_block.sealed, 10)
    sync = make_sync(builder, 2**200)
    assert sync.on_headers(1, headers, now=0.0, now_ms=FAR_FUTURE_MS) == []
    news = wire.AnnounceBlock(sealed_header=headers[0].encode(), byte_count=0, leaves=())
    assert sync.on_announce_block(1, news, now=0.0, now_ms=FAR_FUTURE_MS) == []
    assert len(known(sync)) == 1


def test_branches_near_the_tip_are_stored_and_old_ones_are_not() -> None:
    builder = ChainBuilder(make_genesis())
    sync = make_sync(builder, 0)
    blocks = builder.mine_many(30)
    chain = sync._chain
    assert isinstance(chain, ChainState)
    for block in blocks:
        chain.accept_block(block, now_ms=FAR_FUTURE_MS)
    sync.headers._limits = SyncLimits(margin_blocks=10)
    last = blocks[-1]
    for fork, stored in ((5, False), (17, False), (18, True), (28, True)):
        side = builder.forge(parent=blocks[fork], time_ms=blocks[fork + 1].header.time_ms + 1)
        sync.on_headers(1, [side.sealed], now=0.0, now_ms=FAR_FUTURE_MS)
        assert (side.hash in known(sync)) == stored, fork
    assert chain.tree.tip.hash == last.hash


@pytest.mark.parametrize("number", range(3))
def test_a_node_with_a_minimum_of_work_catches_up_through_both_passes(
    builder: ChainBuilder, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(header_sync, "MAX_HEADERS", MESSAGE)
    blocks = builder.mine_many(150)
    enough = builder.node(blocks[140]).chainwork
    net = Gossip(builder.genesis, 3, seed=number, limits=SyncLimits(minimum_chainwork=enough), presync=LIMITS)
    for source in (0, 1):
        net.give(source, *blocks)
    late = net.nodes[2]
    net.connect(2, 0)
    net.run()
    net.connect(2, 1)
    net.run()
    assert late.tip == blocks[-1].hash
    assert len([peer for peer, message in late.sent if isinstance(message, wire.GetHeaders)]) >= 15
    assert not any(node.punished or node.dropped for node in net.nodes)


def test_a_peer_that_shows_another_chain_the_second_time_is_dropped(
    builder: ChainBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(header_sync, "MAX_HEADERS", MESSAGE)
    root = builder.genesis_block.sealed
    shown, other = (line(builder.genesis, root, 120, late_ms=late) for late in (0, 1))
    sync = make_sync(builder, work_of(builder.genesis, root, shown[:110]))
    for start in range(0, 120, MESSAGE):
        sync.on_headers(1, shown[start : start + MESSAGE], now=0.0, now_ms=FAR_FUTURE_MS)
    reasons = []
    for start in range(0, 120, MESSAGE):
        actions = sync.on_headers(1, other[start : start + MESSAGE], now=0.0, now_ms=FAR_FUTURE_MS)
        reasons += [action.reason for action in actions if hasattr(action, "reason")]
        if reasons:
            break
    assert reasons == ["headers-changed"]
    assert len(known(sync)) == 1


def test_a_peer_is_asked_for_headers_only_so_far_ahead_of_bodies(
    builder: ChainBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(header_sync, "MAX_HEADERS", MESSAGE)
    blocks = builder.mine_many(100)
    net = Gossip(builder.genesis, 2, limits=SyncLimits(headers_ahead=2 * MESSAGE))
    net.give(0, *blocks)
    served = net.nodes[0].sync.on_get_body
    net.nodes[0].sync.on_get_body = lambda peer, message: []  # type: ignore[method-assign]  # not yet
    net.connect(1, 0)
    net.run()
    assert len(net.nodes[1].chain.tree.nodes) == 1 + 2 * MESSAGE
    net.nodes[0].sync.on_get_body = served  # type: ignore[method-assign]
    for _ in range(20):
        net.tick(21.0)
    assert net.nodes[1].tip == blocks[-1].hash
