from __future__ import annotations

import pytest

from facechain.consensus.errors import (
    RULES,
    ConsensusError,
    DecodeError,
    ProofError,
    Rule,
    RuleViolation,
    Temporary,
)


def test_rules_are_listed_under_their_own_code() -> None:
    assert all(code == rule.code and rule.summary for code, rule in RULES.items())


def test_design_rules_are_all_listed() -> None:
    named = {
        "high-hash",
        "bad-diffbits",
        "time-too-old",
        "time-too-new",
        "bad-prevblk",
        "missing-parent",
        "bad-merkle-root",
        "bad-state-root",
        "bad-signature",
        "bad-seal",
        "unauthorized-producer",
        "bad-sequence",
        "expired-statement",
        "producer-share",
        "last-admin",
        "below-checkpoint",
        "max-reorg",
        "oversized",
    }
    assert named <= RULES.keys()


def test_temporary_rules_are_never_punished_or_cached() -> None:
    temporary = {code: rule for code, rule in RULES.items() if not rule.permanent}
    assert {"time-too-new", "missing-parent"} <= temporary.keys()
    assert not any(rule.punish or rule.cacheable for rule in temporary.values())


def test_failures_that_say_nothing_about_the_hash_are_not_cacheable() -> None:
    assert not RULES["bad-seal"].cacheable
    assert not RULES["bad-merkle-root"].cacheable
    assert RULES["bad-seal"].punish


def test_rule_violation_carries_rule_expected_and_got() -> None:
    violation = RuleViolation("bad-height", expected=8, got=9)
    assert violation.rule is RULES["bad-height"]
    assert (violation.code, violation.expected, violation.got) == ("bad-height", 8, 9)
    assert "expected 8, got 9" in violation.diagnostics()
    assert str(violation) == violation.diagnostics()


def test_rule_violation_takes_a_rule() -> None:
    rule: Rule = RULES["high-hash"]
    assert RuleViolation(rule, expected="below", got="above").rule is rule


def test_unknown_rule_is_a_programming_error() -> None:
    with pytest.raises(KeyError):
        RuleViolation("bad-weather", expected=1, got=2)


def test_temporary_is_kept_apart_from_permanent() -> None:
    assert not Temporary("missing-parent", expected="a parent", got="none").permanent
    with pytest.raises(ValueError, match="missing-parent"):
        RuleViolation("missing-parent", expected=1, got=2)
    with pytest.raises(ValueError, match="high-hash"):
        Temporary("high-hash", expected=1, got=2)


@pytest.mark.parametrize(
    "error, code",
    [
        (DecodeError("header", expected=160, got=159), "decode-error"),
        (ProofError("inclusion", expected="root a", got="b"), "bad-proof"),
    ],
)
def test_decode_and_proof_errors_have_codes(error: ConsensusError, code: str) -> None:
    assert error.code == code
    assert error.diagnostics().startswith(f"{code}: ")


def test_diagnostics_are_one_line() -> None:
    assert ConsensusError("some-code", "two\nlines  here").diagnostics() == "some-code: two lines here"
