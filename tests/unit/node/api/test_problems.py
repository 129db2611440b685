import pytest

from facechain.consensus.errors import RULES, DecodeError, RuleViolation, Temporary
from facechain.node.api.problems import RULE_STATUS, problem_of
from facechain.node.mempool import MempoolFull, SequenceGap, SequenceTaken


@pytest.mark.parametrize("code", sorted(RULES))
def test_every_rule_has_a_status_and_keeps_its_code(code: str) -> None:
    kind = RuleViolation if RULES[code].permanent else Temporary
    problem = problem_of(kind(code, expected="this", got=b"\x01"))
    assert 400 <= problem.status < 500
    assert problem.error()["code"] == code
    assert problem.error()["got"] == "01"


def test_the_table_names_rules_that_exist() -> None:
    assert set(RULE_STATUS) <= set(RULES)


def test_sequence_problems_name_the_sequence_to_sign_with() -> None:
    assert problem_of(SequenceGap(expected=3, got=5)).error()["expected"] == 3
    assert problem_of(SequenceTaken(sequence=1, held=bytes(32), following=4)).error()["expected"] == 4
    wrong = RuleViolation("bad-sequence", expected="sequence 2", got="sequence 1")
    assert problem_of(wrong, following=2).error()["expected"] == 2


def test_a_full_mempool_says_when_to_come_again() -> None:
    problem = problem_of(MempoolFull(what="bytes", limit=5, retry_after_seconds=9))
    assert (problem.status, problem.headers) == (429, {"Retry-After": "9"})


def test_undecodable_bytes_are_the_clients_fault() -> None:
    assert problem_of(DecodeError("statement", expected="an array", got="text")).status == 400
