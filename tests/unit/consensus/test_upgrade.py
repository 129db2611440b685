"""Which version a block has: requests, decisions, what replaces and what takes back a schedule."""

from __future__ import annotations

import pytest

from facechain.consensus.errors import DecodeError, RuleViolation
from facechain.consensus.kinds import Role
from facechain.consensus.payloads import ProtocolUpgrade, RoleApproval
from facechain.consensus.signing import LedgerKey
from facechain.consensus.statement import Statement
from facechain.consensus.upgrade import SUPPORTED_VERSIONS, Schedule, UpgradeNeeded
from support.chain import ADMIN, PRODUCER, ChainBuilder, keys, make_genesis
from support.statements import grant, revoke

SECOND, THIRD, FOURTH = keys(3, start=30)


def network(quorum: int = 2) -> ChainBuilder:
    """A chain of three administrators that knows the versions 1 to 4."""
    genesis = make_genesis(administrators=[ADMIN, SECOND, THIRD], quorum=quorum)
    return ChainBuilder(genesis, versions=range(1, 5))


def ask(chain: ChainBuilder, key: LedgerKey, version: int, height: int) -> Statement:
    return chain.statement(key, ProtocolUpgrade(version=version, activation_height=height))


def refusal(chain: ChainBuilder, *statements: Statement) -> RuleViolation:
    """Return the rule that a block with these statements breaks."""
    with pytest.raises(RuleViolation) as caught:
        chain.check(chain.forge(statements))
    chain._waiting.clear()
    return caught.value


def decide(chain: ChainBuilder, version: int, height: int) -> None:
    chain.mine([ask(chain, ADMIN, version, height), ask(chain, SECOND, version, height)])


def test_a_version_is_in_force_from_its_height_on() -> None:
    chain = network()
    chain.mine([ask(chain, ADMIN, 2, 4)])
    assert chain.view().schedule() == Schedule()
    assert chain.view().upgrade_endorsers(0, 2, 4) == (ADMIN.public,)
    chain.mine([ask(chain, THIRD, 2, 4)])
    schedule = chain.view().schedule()
    assert schedule == Schedule(decisions=1, version=1, following=2, activation_height=4)
    assert (schedule.pending_at(3), schedule.pending_at(4)) == ((2, 4), None)
    versions = [block.header.version for block in chain.mine_many(3)]
    assert versions == [1, 2, 2]


def test_quorum_in_the_last_block_before_the_height_acts_on_the_next() -> None:
    chain = network()
    chain.mine([ask(chain, ADMIN, 2, 3)])
    chain.mine([ask(chain, SECOND, 2, 3)])
    assert chain.mine().header.version == 2


def test_height_is_above_the_block_and_the_version_not_below_the_one_in_force() -> None:
    chain = network()
    decide(chain, 3, 2)
    chain.mine()
    error = refusal(chain, ask(chain, ADMIN, 4, 3))
    assert (error.code, error.got) == ("state-conflict", 3)
    error = refusal(chain, ask(chain, ADMIN, 2, 9))
    assert (error.code, error.expected) == ("state-conflict", "version 3 or later")
    chain.mine([ask(chain, ADMIN, 4, 4)])


def test_an_administrator_asks_once_since_the_last_decision() -> None:
    chain = network()
    chain.mine([ask(chain, ADMIN, 2, 50), ask(chain, ADMIN, 2, 60)])
    assert refusal(chain, ask(chain, ADMIN, 2, 50)).code == "duplicate-approval"


def test_the_latest_decision_replaces_a_competing_one() -> None:
    chain = network()
    decide(chain, 2, 5)
    decide(chain, 3, 4)
    assert chain.view().schedule() == Schedule(decisions=2, version=1, following=3, activation_height=4)
    chain.mine()
    assert chain.mine().header.version == 3
    assert chain.mine().header.version == 3


def test_asking_for_the_version_in_force_takes_the_schedule_back() -> None:
    chain = network()
    assert refusal(chain, ask(chain, ADMIN, 1, 9)).code == "state-conflict"
    decide(chain, 2, 5)
    decide(chain, 1, 99)
    assert chain.view().schedule() == Schedule(decisions=2)
    assert chain.view().schedule().pending_at(3) is None
    assert {block.header.version for block in chain.mine_many(4)} == {1}


def test_what_is_in_force_stays_when_a_later_schedule_is_taken_back() -> None:
    chain = network()
    decide(chain, 2, 2)
    decide(chain, 3, 9)
    decide(chain, 2, 9)
    assert chain.view().schedule() == Schedule(decisions=3, version=2, following=2)
    assert chain.mine().header.version == 2


def test_a_decision_voids_the_requests_before_it() -> None:
    chain = network()
    chain.mine([ask(chain, ADMIN, 2, 50), ask(chain, ADMIN, 3, 60)])
    chain.mine([ask(chain, SECOND, 2, 50)])
    assert refusal(chain, ask(chain, THIRD, 2, 50)).code == "state-conflict"
    chain.mine([ask(chain, SECOND, 3, 60)])
    assert chain.view().schedule().pending_at(3) == (2, 50)
    decide(chain, 1, 51)
    chain.mine([ask(chain, THIRD, 2, 50)])
    assert chain.view().schedule().pending_at(5) is None


def test_only_those_count_who_are_administrators_still() -> None:
    chain = network()
    chain.mine([ask(chain, ADMIN, 2, 50)])
    gone = chain.statement(SECOND, revoke(Role.ADMIN, ADMIN))
    chain.mine([gone, chain.statement(THIRD, RoleApproval(proposal=gone.id))])
    chain.mine([ask(chain, SECOND, 2, 50)])
    assert chain.view().schedule() == Schedule()
    chain.mine([ask(chain, THIRD, 2, 50)])
    assert chain.view().schedule().decisions == 1


def test_a_new_administrators_request_counts_from_the_next_block_on() -> None:
    chain = network(quorum=1)
    granted = chain.statement(ADMIN, grant(Role.ADMIN, FOURTH))
    assert refusal(chain, granted, ask(chain, FOURTH, 2, 50)).code == "unauthorized-author"
    assert refusal(chain, ask(chain, PRODUCER, 2, 50)).code == "unauthorized-author"


def test_software_that_does_not_know_a_version_says_which_and_where() -> None:
    schedule = Schedule(decisions=1, following=7, activation_height=12)
    assert schedule.check_known(11) == 1
    with pytest.raises(UpgradeNeeded) as caught:
        schedule.check_known(12)
    assert (caught.value.version, caught.value.height) == (7, 12)
    assert caught.value.diagnostics() == (
        "upgrade-needed: block 12: expected software that knows protocol version 7, got one that knows 1; "
        "install a release that knows it and start again: the chain up to block 11 is complete and stays as it is"
    )
    assert schedule.check_known(12, {1, 7}) == 7


def test_a_block_of_an_unknown_version_is_not_judged() -> None:
    """A store that newer software filled: headers are there that this software would not have added."""
    chain = network()
    decide(chain, 2, 2)
    block = chain.forge()
    chain.versions = SUPPORTED_VERSIONS
    with pytest.raises(UpgradeNeeded):
        chain.check(block)
    assert refusal_of_version(chain, 1) == "bad-version"


def refusal_of_version(chain: ChainBuilder, version: int) -> str:
    with pytest.raises(RuleViolation) as caught:
        chain.check(chain.forge(version=version))
    return caught.value.code


def test_entry_has_twenty_bytes() -> None:
    schedule = Schedule(decisions=1, version=2, following=3, activation_height=4)
    assert schedule.encode().hex() == "0000000100000002000000030000000000000004"
    assert Schedule.decode(schedule.encode()) == schedule
    with pytest.raises(DecodeError, match="schedule: expected 20 bytes, got 19 bytes"):
        Schedule.decode(schedule.encode()[:-1])
