"""Every decoder against its seeds, the corpus, what once broke it, and mutations of all of them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facechain.consensus.encoding import pack
from fuzz.mutation import mutate
from fuzz.target import KIB, Finding, Form, Target, check, warm_up
from fuzz.targets import CORPUS, REGRESSIONS, all_targets, kept_inputs

TARGETS = all_targets()
EACH = pytest.mark.parametrize("name", TARGETS)

DENSE_BYTES = 32 * KIB
DENSE = {
    Form.PACKED: (
        pack([[[[]] * 60] * 60] * 9),
        pack([[300] * 60] * 150),
        pack([["éa"] * 60] * 135),
        b"\x91" * DENSE_BYTES,
        b"\x9f" * DENSE_BYTES,
        b"\xdd\x00\x00\xff\xff" + b"\x90" * DENSE_BYTES,
    ),
    Form.JSON: (
        b"[" + b"[]," * (DENSE_BYTES // 3) + b"[]]",
        b"[" * DENSE_BYTES,
        b'{"a":' * DENSE_BYTES,
        b"9" * DENSE_BYTES,
    ),
    Form.TEXT: (
        b"a = [" + b"[]," * (DENSE_BYTES // 3) + b"]",
        b"a=" + b"[" * DENSE_BYTES,
        b"a=" + b"9" * DENSE_BYTES,
    ),
}
"""What takes the most memory for its length."""


@pytest.fixture(autouse=True)
def _memory_is_traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def finding(target: Target, data: bytes) -> Finding | None:
    """Return what is wrong with how a decoder takes an input, None when the property holds."""
    try:
        check(target, data)
    except Finding as found:
        return found
    return None


@EACH
def test_seeds_are_accepted_and_kept_inputs_hold(name: str) -> None:
    target = TARGETS[name]
    warm_up(target)
    assert all(check(target, seed) for seed in target.seeds())
    for data in kept_inputs(name):
        assert finding(target, data) is None


@EACH
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_mutations_hold(name: str, data: st.DataObject) -> None:
    target = TARGETS[name]
    pool = [*target.seeds(), *kept_inputs(name)]
    chosen = data.draw(st.integers(0, len(pool) - 1), "input")
    random = Random(data.draw(st.integers(0, 2**32), "seed"))
    assert finding(target, mutate(target.form, pool[chosen], random)[: target.max_bytes]) is None


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.form in DENSE])
def test_dense_inputs_take_a_small_multiple_of_their_length(name: str) -> None:
    target = TARGETS[name]
    warm_up(target)
    for data in DENSE[target.form]:
        for prefix in {b"", *(seed[:1] for seed in target.seeds())}:
            assert finding(target, prefix + data) is None


def test_every_kept_input_belongs_to_a_target() -> None:
    assert {path.stem for path in CORPUS.iterdir()} <= TARGETS.keys()
    assert {path.name for path in REGRESSIONS.iterdir()} <= TARGETS.keys()


def _target(**changes: object) -> Target:
    fields: dict[str, object] = {
        "name": "example",
        "read": bytes,
        "refusals": (ValueError,),
        "seeds": lambda: (b"x",),
        "encode": bytes,
        "constant_bytes": 4 * KIB,
    }
    return Target(**{**fields, **changes})  # type: ignore[arg-type]


def _fail(data: bytes) -> object:
    raise ValueError("x" * 5_000 if data else "x")


def test_the_property_finds_what_it_is_for() -> None:
    assert check(_target(), b"abc")
    assert not check(_target(read=_fail), b"")
    with pytest.raises(Finding, match="expected ValueError, got IndexError"):
        check(_target(read=lambda data: data[0]), b"")
    with pytest.raises(Finding, match="expected the same bytes again"):
        check(_target(encode=lambda value: value + b"\0"), b"abc")
    with pytest.raises(Finding, match=r"expected at most 4192 bytes for an input of 3, got 1\d{4}"):
        check(_target(read=lambda data: [bytes(10_000), data], encode=None), b"abc")
    with pytest.raises(Finding, match="expected a short error, got 5000"):
        check(_target(read=_fail, constant_bytes=64 * KIB), b"abc")
