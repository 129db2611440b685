"""What was acknowledged is on disk first, and is there again after a restart, a crash or a reorganisation."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from facechain.consensus.kinds import Role, RoleAction
from facechain.consensus.statement import Statement
from facechain.node.mempool import (
    Admitted,
    DurableMempool,
    MempoolFull,
    MempoolLimits,
    OpenTip,
    SequenceGap,
    Tip,
    allowance,
)
from facechain.node.mempool.limits import KEEP_ROWS_BLOCKS
from facechain.node.store.lmdb_store import LmdbStore
from facechain.node.store.memory import MemoryStore, Operation
from facechain.node.store.port import Store
from facechain.node.store.schema import Table
from support.ledger import ADMIN, EASY, Ledger, ledger_key

A, B = ledger_key(11), ledger_key(12)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(authors=(A, B), params=replace(EASY, max_statement_bytes=4_096))


def open_tip_of(ledger: Ledger, store: Store) -> OpenTip:
    """A tip that is read with the store's read open, as the node does: writing meanwhile is misuse."""

    @contextmanager
    def open_tip() -> Iterator[Tip]:
        with store.read():
            yield ledger.tip()

    return open_tip


def opened(ledger: Ledger, store: Store, **limits: int) -> DurableMempool:
    return DurableMempool.open(
        store, ledger.params, ledger.network_id, open_tip_of(ledger, store), MempoolLimits(**limits)
    )


def relay(durable: DurableMempool, statement: Statement) -> Admitted:
    with durable.open_tip() as tip:
        return durable.pool.add(statement, tip)


def rows(store: Store) -> int:
    with store.read() as reader:
        return reader.count(Table.MEMPOOL)


def test_queued_means_that_the_row_is_there(ledger: Ledger) -> None:
    store = MemoryStore.open()
    durable = opened(ledger, store)
    statements = [ledger.note(A, 0), ledger.note(A, 1), ledger.note(A, 5)]
    answers = durable.submit(statements)
    assert [answer.queued for answer in answers] == [True, True, False]
    assert isinstance(answers[2].refusal, SequenceGap)
    assert rows(store) == 2
    again = opened(ledger, store.reopen())
    assert again.select() == tuple(statements[:2])


def test_who_has_to_wait_is_told_so_of_all_that_follows(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allowance, "IDLE_STATEMENTS", 2)
    monkeypatch.setattr(allowance, "OWN_MIN", 2)
    store = MemoryStore.open()
    durable = opened(ledger, store)
    busy = [ledger.note(A, number) for number in range(8)]
    answers = durable.submit([*busy[:6], ledger.note(B, 0)])
    assert [answer.queued for answer in answers] == [True] * 4 + [False] * 2 + [True]
    assert all(isinstance(answer.refusal, MempoolFull) for answer in answers[4:6])
    assert rows(store) == 5
    known = durable.submit(busy[:6])
    assert [answer.known for answer in known] == [True] * 4 + [False] * 2
    block = ledger.mine(*durable.select())
    durable.on_update(connected=(block,), disconnected=())
    assert [answer.queued for answer in durable.submit(busy[4:6])] == [True, True]


def test_statements_of_peers_are_taken_when_submitters_have_to_wait(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allowance, "IDLE_STATEMENTS", 0)
    monkeypatch.setattr(allowance, "OWN_MIN", 0)
    durable = opened(ledger, MemoryStore.open())
    assert isinstance(durable.submit([ledger.note(A, 0)])[0].refusal, MempoolFull)
    assert not relay(durable, ledger.note(A, 0)).known
    assert durable.submit([ledger.note(A, 0)])[0].queued


def test_a_failed_commit_acknowledges_nothing(ledger: Ledger) -> None:
    def fail(operation: Operation) -> None:
        if operation is Operation.COMMIT:
            raise OSError("disk full")

    durable = opened(ledger, MemoryStore.open(on_operation=fail), statements=1)
    with pytest.raises(OSError, match="disk full"):
        durable.submit([ledger.note(A, 0, size=99)])
    assert relay(durable, ledger.note(B, 0)).evicted


def test_a_relayed_statement_has_no_row_until_somebody_submits_it(ledger: Ledger) -> None:
    store = MemoryStore.open()
    durable = opened(ledger, store)
    first, second = ledger.note(A, 0), ledger.note(A, 1)
    relay(durable, first)
    relay(durable, second)
    assert rows(store) == 0
    (answer,) = durable.submit([second])
    assert answer.known
    assert rows(store) == 2


def test_rows_of_confirmed_statements_stay_until_they_are_buried(ledger: Ledger) -> None:
    store = MemoryStore.open()
    durable = opened(ledger, store)
    statement = ledger.note(A, 0)
    durable.submit([statement])
    block = ledger.mine(statement)
    durable.on_update(connected=(block,), disconnected=())
    for _ in range(KEEP_ROWS_BLOCKS):
        assert rows(store) == 1
        durable.on_update(connected=(ledger.mine(),), disconnected=())
    assert rows(store) == 0


def test_a_crash_between_disconnect_and_update_loses_nothing(ledger: Ledger) -> None:
    store = MemoryStore.open()
    durable = opened(ledger, store)
    statement = ledger.note(A, 0)
    durable.submit([statement])
    durable.on_update(connected=(ledger.mine(statement),), disconnected=())
    ledger.disconnect()
    assert opened(ledger, store.reopen()).select() == (statement,)


def test_a_returned_statement_without_a_row_gets_one_under_an_acknowledged_one(ledger: Ledger) -> None:
    store = MemoryStore.open()
    durable = opened(ledger, store)
    relayed, submitted = ledger.note(A, 0), ledger.note(A, 1)
    block = ledger.mine(relayed)
    durable.on_update(connected=(block,), disconnected=())
    durable.submit([submitted])
    ledger.disconnect()
    durable.on_update(connected=(), disconnected=(block,))
    assert opened(ledger, store.reopen()).select() == (relayed, submitted)


def test_a_statement_that_another_one_displaced_outlives_the_block_of_that_one(ledger: Ledger) -> None:
    store = MemoryStore.open()
    durable = opened(ledger, store)
    statement, rival = ledger.note(A, 0), ledger.note(A, 0, until=99)
    durable.submit([statement])
    (drop,) = durable.on_update(connected=(ledger.mine(rival),), disconnected=())
    assert drop.code == "sequence-taken"
    ledger.disconnect()
    assert opened(ledger, store.reopen()).select() == (statement,)


def test_a_reorganisation_without_the_rival_brings_the_statement_back(ledger: Ledger) -> None:
    store = MemoryStore.open()
    durable = opened(ledger, store)
    statement, rival = ledger.note(A, 0), ledger.note(A, 0, until=1)
    durable.submit([statement])
    block = ledger.mine(rival)
    durable.on_update(connected=(block,), disconnected=())
    ledger.disconnect()
    other = ledger.mine(ledger.note(B, 0))
    durable.on_update(connected=(other,), disconnected=(block,))
    assert durable.select() == (statement,)


def test_dropped_rows_go_and_the_reason_stays(ledger: Ledger) -> None:
    store = MemoryStore.open()
    durable = opened(ledger, store)
    statement = ledger.note(A, 0, until=1)
    durable.submit([statement])
    (drop,) = durable.on_update(connected=(ledger.mine(),), disconnected=())
    assert rows(store) == 0
    assert durable.pool.dropped(statement.id) == drop


def test_what_is_refused_for_good_leaves_once_its_refusal_is_buried(ledger: Ledger) -> None:
    store = MemoryStore.open()
    durable = opened(ledger, store)
    statement = ledger.note(A, 0)
    durable.submit([statement])
    revocation = ledger.proposal(ADMIN, 0, subject=A, role=Role.SUBMITTER, action=RoleAction.REVOKE)
    (drop,) = durable.on_update(connected=(ledger.mine(revocation),), disconnected=())
    assert drop.code == "unauthorized-author"
    for _ in range(KEEP_ROWS_BLOCKS):
        assert rows(store) == 1
        durable.on_update(connected=(ledger.mine(),), disconnected=())
    assert rows(store) == 0


def test_what_follows_a_dropped_one_is_parked_and_comes_back_when_the_gap_is_filled(ledger: Ledger) -> None:
    store = MemoryStore.open()
    durable = opened(ledger, store)
    after = ledger.note(A, 1)
    durable.submit([ledger.note(A, 0, until=1), after])
    durable.on_update(connected=(ledger.mine(),), disconnected=())
    assert after.leaf not in durable.pool
    replacement = ledger.note(A, 0)
    durable.submit([replacement])
    durable.on_update(connected=(ledger.mine(),), disconnected=())
    assert durable.select() == (replacement, after)
    assert opened(ledger, store.reopen()).select() == (replacement, after)


def test_what_does_not_fit_at_the_start_stays_on_disk(ledger: Ledger) -> None:
    store = MemoryStore.open()
    durable = opened(ledger, store)
    statements = [ledger.note(A, sequence) for sequence in range(3)]
    durable.submit(statements)
    small = opened(ledger, store, statements=1, returned_statements=0)
    assert len(small.pool) == 1
    assert rows(store) == 3
    small.on_update(connected=(ledger.mine(statements[0]),), disconnected=())
    assert small.select() == (statements[1],)


def test_a_damaged_row_is_removed(ledger: Ledger) -> None:
    store = MemoryStore.open()
    store.transact(lambda writer: writer.put(Table.MEMPOOL, bytes(32), b"damaged"))
    assert not opened(ledger, store).select()
    assert rows(store) == 0


def test_a_submission_that_displaces_its_own_statement_says_so(ledger: Ledger) -> None:
    store = MemoryStore.open()
    durable = opened(ledger, store, statements=1)
    first, second = durable.submit([ledger.note(A, 0, size=99), ledger.note(B, 0)])
    assert (first.queued, second.queued) == (False, True)
    assert rows(store) == 1


def test_lmdb_keeps_it_too(ledger: Ledger, tmp_path: Path) -> None:
    statements = (ledger.note(A, 0), ledger.note(B, 0), ledger.note(A, 1))
    with LmdbStore.open(tmp_path / "store") as store:
        opened(ledger, store).submit(statements)
    with LmdbStore.open(tmp_path / "store") as store:
        assert set(opened(ledger, store).select()) == set(statements)
