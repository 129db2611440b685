"""Short runs of the fault drivers; `make check-store` and `make check-io` are the long ones."""

import pytest

from fault.check_io import check_faults, check_flips
from fault.check_store import check_kills

KILLS, STEPS, FLIPS = 6, 40, 25


def test_a_killed_process_leaves_a_sound_store() -> None:
    score = check_kills(KILLS, seed=7, steps=STEPS)
    assert not score.problems
    assert score.sound
    assert score.kills == KILLS


def test_a_flipped_bit_is_found_or_changes_nothing() -> None:
    result = check_flips(seed=7, count=FLIPS)
    assert not result.problems
    assert result.found + result.harmless == FLIPS
    assert result.found > 0


@pytest.mark.strace
def test_a_failing_system_call_is_told_and_harms_nothing() -> None:
    result = check_faults(seed=7, per_call=1, steps=13, calls=("pwrite64", "writev", "fdatasync"))
    assert not result.score.problems
    assert result.score.sound
    assert result.silent == 0
    assert result.told == result.faults > 0
