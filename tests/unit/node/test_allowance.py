"""What submitters may have waiting follows what the chain seals, and is shared among nodes and authors."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from facechain.node.mempool.allowance import (
    BACKLOG_SECONDS,
    CROWD,
    IDLE_SECONDS,
    IDLE_STATEMENTS,
    OWN_MIN,
    RETRY_SECONDS_MAX,
    Allowance,
)

A, B = b"a" * 32, b"b" * 32


class Site:
    """One node's allowance, and what its submitters have waiting: as much as they may."""

    def __init__(self, leaves: Iterator[int], *, spacing_ms: int = 1_000) -> None:
        self.allowance = Allowance(spacing_ms=spacing_ms)
        self.waiting: list[bytes] = []
        self._leaves = leaves

    def fill(self, waiting: int, now: float, *, author: bytes = A, wanted: int = 100_000) -> int:
        """Take in what the allowance lets in while `waiting` statements wait at all nodes; return how many."""
        limits = self.allowance.limits(waiting, now)
        taken = 0
        while taken < wanted and self.allowance.room(author, limits) > 0:
            leaf = next(self._leaves).to_bytes(32, "big")
            self.allowance.on_taken(leaf, author)
            self.waiting.append(leaf)
            taken += 1
        return taken

    def seal(self, share: float) -> None:
        """A block takes a share of what waits."""
        for _ in range(round(share * len(self.waiting))):
            self.allowance.on_left(self.waiting.pop())


def test_an_idle_network_takes_a_burst_at_once() -> None:
    site = Site(count())
    assert site.fill(0, 0.0) == OWN_MIN + IDLE_STATEMENTS
    assert site.fill(len(site.waiting), 0.0) == 0


def test_what_others_have_waiting_uses_up_the_burst() -> None:
    assert Site(count()).fill(IDLE_STATEMENTS - 100, 0.0) == OWN_MIN + 100
    assert Site(count()).fill(10 * IDLE_STATEMENTS, 0.0) == OWN_MIN


def test_a_node_may_have_waiting_what_is_sealed_of_its_own_in_a_few_seconds() -> None:
    site = Site(count())
    for second in range(1, 9):
        site.fill(5_000, float(second), wanted=100)
        site.seal(1.0)
        site.allowance.on_block(1_000, float(second))
    found = site.allowance.limits(5_000, 8.0)
    sealed = site.allowance.rates(8.0)[1]
    assert 50 < sealed <= 100
    assert found.own == OWN_MIN + int(BACKLOG_SECONDS * sealed)


def test_a_chain_that_stands_still_lets_less_and_less_in() -> None:
    site = Site(count())
    for second in range(8):
        site.fill(5_000, float(second), wanted=100)
        site.seal(1.0)
        site.allowance.on_block(1_000, float(second))
    limits = [site.allowance.limits(5_000, 8.0 + later).own for later in (0, 10, 100, 10_000)]
    assert limits == sorted(limits, reverse=True)
    assert limits[-1] == OWN_MIN


def test_the_burst_is_there_again_when_the_network_was_idle_for_long() -> None:
    site = Site(count())
    site.allowance.on_block(10_000, 1.0)
    assert site.allowance.limits(0, 1.0).own == OWN_MIN
    assert site.allowance.limits(0, 1.0 + IDLE_SECONDS).own == OWN_MIN + IDLE_STATEMENTS


def test_blocks_that_come_at_once_tell_no_endless_rate() -> None:
    allowance = Allowance(spacing_ms=1_000)
    for _ in range(20):
        allowance.on_block(1_000, 5.0)
    assert allowance.rates(5.0)[0] <= 20_000


@pytest.mark.parametrize("nodes", [2, 4, 20])
def test_nodes_that_all_ask_for_more_come_to_the_same_part_of_a_bounded_backlog(nodes: int) -> None:
    """A chain that seals 400 a second: whatever each node could take at once, little waits, and for few seconds."""
    leaves = count()
    sites = [Site(leaves) for _ in range(nodes)]
    sites[0].fill(0, 0.0)  # the first one has a start
    for second in range(1, 120):
        waiting = sum(len(site.waiting) for site in sites)
        for site in sites:
            site.fill(waiting, float(second))
        waiting = sum(len(site.waiting) for site in sites)
        before = waiting
        for site in sites:
            site.seal(min(1.0, 400 / before))
        for site in sites:
            site.allowance.on_block(400, float(second))
    parts = [len(site.waiting) for site in sites]
    assert sum(parts) <= 400 * (BACKLOG_SECONDS + 1) + 2 * nodes * OWN_MIN
    assert max(parts) <= 2 * min(parts)


def test_a_busy_author_leaves_room_for_others() -> None:
    site = Site(count())
    site.fill(0, 0.0, author=A)
    limits = site.allowance.limits(0, 0.0)
    assert site.allowance.room(A, limits) <= 0
    assert site.allowance.room(B, limits) > 0
    assert site.fill(0, 0.0, author=B) > limits.own // 4
    assert site.allowance.room(B, limits) <= 0


def test_nobody_is_let_in_beyond_the_reserve() -> None:
    site = Site(count())
    for number in range(100):
        site.fill(0, 0.0, author=bytes([number]) * 32)
    limits = site.allowance.limits(len(site.waiting), 0.0)
    assert len(site.waiting) <= 1.5 * (OWN_MIN + IDLE_STATEMENTS)
    assert site.allowance.room(B, limits) <= 0
    assert site.allowance.room(None, limits) <= 0


def test_statements_on_their_way_count() -> None:
    allowance = Allowance(spacing_ms=1_000)
    limits = allowance.limits(0, 0.0)
    assert allowance.room(None, limits, coming=limits.own - 1) > 0
    assert allowance.room(None, limits, coming=2 * limits.own) <= 0


def test_what_left_the_pool_makes_room() -> None:
    site = Site(count())
    site.fill(0, 0.0)
    limits = site.allowance.limits(len(site.waiting), 0.0)
    site.allowance.keep(site.waiting[:10])
    assert site.allowance.room(A, limits) > 0
    site.allowance.on_left(site.waiting[0])
    site.allowance.on_left(site.waiting[0])
    site.allowance.on_taken(site.waiting[1], A)
    assert site.fill(0, 0.0) == OWN_MIN + IDLE_STATEMENTS - 9


def test_crowd_and_wait_follow_the_rate() -> None:
    allowance = Allowance(spacing_ms=1_000)
    assert allowance.limits(0, 0.0).all == int(CROWD * IDLE_STATEMENTS)
    for second in range(8):
        allowance.on_block(10_000, float(second))
    assert allowance.limits(0, 7.0).all > 20 * IDLE_STATEMENTS
    site = Site(count())
    site.fill(0, 0.0)
    site.allowance.on_block(0, 0.0)
    site.seal(0.1)
    for second in range(1, 4):
        site.allowance.on_block(500, float(second))
    assert 1 < site.allowance.limits(600, 3.0).retry_seconds <= RETRY_SECONDS_MAX


def test_slow_blocks_allow_for_two_of_them() -> None:
    slow = Site(count(), spacing_ms=60_000)
    for block in range(1, 9):
        slow.fill(5_000, 60.0 * block, wanted=120)
        slow.seal(1.0)
        slow.allowance.on_block(120, 60.0 * block)
    assert slow.allowance.limits(5_000, 480.0).own >= 2 * 100
