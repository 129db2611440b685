"""Which of two connections to one node stays: both ends agree, and a lost one never keeps a new one out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facechain.node.protocol.peer_duplicates import CROSSING_SECONDS, newer_stays

SMALL, LARGE = bytes(32), bytes([1]) * 32


@given(st.floats(0, CROSSING_SECONDS), st.floats(0, CROSSING_SECONDS))
def test_of_two_that_cross_both_ends_keep_the_one_of_the_smaller_key(here: float, there: float) -> None:
    """Each end saw the other's connection come second: one of them takes it, the other refuses it."""
    assert newer_stays(older_seconds=here, same_way=False, opener=SMALL, other=LARGE)
    assert not newer_stays(older_seconds=there, same_way=False, opener=LARGE, other=SMALL)


@pytest.mark.parametrize("opener, other", [(SMALL, LARGE), (LARGE, SMALL)])
def test_one_that_is_old_or_came_the_same_way_gives_place(opener: bytes, other: bytes) -> None:
    late = CROSSING_SECONDS + 0.001
    assert newer_stays(older_seconds=late, same_way=False, opener=opener, other=other)
    assert newer_stays(older_seconds=0.0, same_way=True, opener=opener, other=other)
