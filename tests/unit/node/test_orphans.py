"""Orphan statements: found by what they wait for, bounded in number and bytes."""

from __future__ import annotations

from facechain.consensus.payloads import Cancel
from facechain.consensus.statement import Statement
from facechain.node.orphans import Orphans
from support.chain import PRODUCER, SUBMITTER, ChainBuilder


def notes(count: int) -> list[Statement]:
    builder = ChainBuilder()
    return [builder.statement(SUBMITTER, Cancel(note=str(number))) for number in range(count)]


def test_an_orphan_is_found_by_the_statement_before_it() -> None:
    first, second, third = notes(3)
    orphans = Orphans()
    orphans.keep(second)
    orphans.keep(third)
    assert orphans.take_after(first) == (second,)
    assert orphans.take_after(second) == (third,)
    assert len(orphans) == 0


def test_an_orphan_is_found_by_any_statement_it_names_and_only_once() -> None:
    (named,) = notes(1)
    waiting = ChainBuilder().statement(PRODUCER, Cancel(note="names"), sequence=5)
    orphans = Orphans()
    orphans.keep(waiting, (named.id, bytes(32)))
    orphans.keep(waiting, (named.id, bytes(32)))
    assert orphans.get(waiting.leaf) == waiting
    assert orphans.take_after(named) == (waiting,)
    assert orphans.take_after(named) == ()
    assert orphans.get(waiting.leaf) is None


def test_the_oldest_leave_when_there_are_too_many_or_they_are_too_large() -> None:
    statements = notes(6)
    few = Orphans(max_count=2)
    small = Orphans(max_bytes=2 * statements[0].size_bytes + 2)
    for orphans in (few, small):
        for statement in statements:
            orphans.keep(statement)
        assert [orphans.get(item.leaf) for item in statements] == [None] * 4 + statements[4:]
