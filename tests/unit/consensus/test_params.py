"""Parameters and genesis: what a network is, and that its id commits to all of it."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import Any

import pytest

from facechain.consensus.encoding import pack, unpack
from facechain.consensus.errors import DecodeError
from facechain.consensus.hashing import sha256
from facechain.consensus.kinds import Role
from facechain.consensus.params import (
    _RANGES,
    _WIDTHS,
    GENESIS_TAG,
    MAX_GENESIS_BYTES,
    PROTOCOL_DRAFT,
    Genesis,
    Grant,
    Params,
    Retarget,
    check_genesis,
    check_params,
)
from support.chain import ADMIN, PRODUCER, STRANGER, SUBMITTER, easy_params, keys, make_genesis, seed


def test_defaults_are_workable() -> None:
    genesis = make_genesis(**asdict(Params()))
    assert Genesis.decode(genesis.encode()).params == Params(), "decoding checks them"


def test_every_parameter_has_a_width_and_a_range() -> None:
    names = [item.name for item in fields(Params)]
    assert list(_WIDTHS) == names
    assert set(_RANGES) == set(names) - {"pow_limit_bits"}
    assert Params().values() == [int(getattr(Params(), name)) for name in names]


@pytest.mark.parametrize("name", [name for name in _RANGES if name != "retarget"])
def test_range_of_each_parameter(name: str) -> None:
    least, most = _RANGES[name]
    for wrong in (least - 1, most + 1):
        with pytest.raises(DecodeError, match=f"{name}: expected {least} to {most}, got {wrong}"):
            check_params(easy_params(**{name: wrong}))


TOGETHER: dict[str, dict[str, Any]] = {
    "future_limit_ms": {"future_limit_ms": 450_001},
    "heartbeat_ms": {"heartbeat_ms": 10_000},
    "max_statement_bytes": {"max_body_bytes": 2**19},
    "producer_share": {"producer_share": 3, "producer_window": 2},
}


@pytest.mark.parametrize("name", TOGETHER)
def test_parameters_fit_each_other(name: str) -> None:
    with pytest.raises(DecodeError) as caught:
        check_params(replace(Params(), **TOGETHER[name]))
    assert caught.value.what == name


def test_future_limit_is_free_without_asert() -> None:
    far = Params(retarget=Retarget.FIXED, future_limit_ms=7_200_000)
    check_params(far)
    with pytest.raises(DecodeError, match="future_limit_ms"):
        check_params(replace(far, retarget=Retarget.ASERT))


@pytest.mark.parametrize("bits", [0, 0x1F800000, 0x01000000, 0x220000FF, 0x21010000])
def test_pow_limit_is_a_canonical_target(bits: int) -> None:
    with pytest.raises(DecodeError, match="bits"):
        check_params(Params(pow_limit_bits=bits))


def test_genesis_round_trip() -> None:
    genesis = make_genesis(administrators=keys(3, start=10), name="Netz Ä", quorum=2)
    assert Genesis.decode(genesis.encode()) == genesis
    assert Genesis.decode(genesis.encode()).signatures == genesis.signatures
    assert genesis.network_id == sha256(genesis.unsigned_bytes())


def test_network_id_commits_to_everything_but_the_signatures() -> None:
    base = make_genesis()
    others = [
        make_genesis(name="other"),
        make_genesis(time_ms=base.time_ms + 1),
        make_genesis(administrators=[STRANGER]),
        make_genesis(producers=[STRANGER]),
        make_genesis(submitters=[]),
        *(
            replace(base, params=easy_params(**{item.name: int(getattr(base.params, item.name)) + 1}))
            for item in fields(Params)
        ),
    ]
    ids = {genesis.network_id for genesis in others}
    assert len(ids) == len(others)
    assert base.network_id not in ids
    assert replace(base, signatures=()).network_id == base.network_id
    assert replace(base, signatures=()) == base


UNSIGNED: list[tuple[int, object, str]] = [
    (0, "facechain/genesis/v2", "genesis"),
    (1, PROTOCOL_DRAFT + 1, "protocol draft"),
    (1, True, "protocol draft"),
    (2, "x" * 65, "network name"),
    (2, "a\nb", "network name"),
    (3, [1], "parameters"),
    (3, [3, *easy_params().values()[1:]], "retarget"),
    (3, [*easy_params().values()[:-1], None], "quorum"),
    (3, [*easy_params().values()[:-1], 0], "quorum"),
    (3, [*easy_params().values()[:-1], 2], "quorum"),
    (4, -1, "structure"),
    (5, [], "administrators"),
    (5, [bytes(31)], "administrator"),
    (5, [ADMIN.public, ADMIN.public], "administrators"),
    (5, [STRANGER.public], "signature"),
    (6, [[1, PRODUCER.public]], "granted role"),
    (6, [[4, PRODUCER.public]], "granted role"),
    (6, [[9, PRODUCER.public]], "granted role"),
    (6, [[2, bytes(31)]], "subject"),
    (6, [[2, bytes(32)]], "public key"),
    (6, [[2]], "grant"),
    (6, [[3, SUBMITTER.public], [2, PRODUCER.public]], "grants"),
]


@pytest.mark.parametrize("at, value, name", UNSIGNED, ids=lambda value: str(value)[:30])
def test_wrong_part_of_a_genesis_is_named(at: int, value: object, name: str) -> None:
    genesis = make_genesis()
    parts = unpack(genesis.unsigned_bytes(), max_bytes=MAX_GENESIS_BYTES)
    assert isinstance(parts, list)
    assert parts[0] == GENESIS_TAG
    changed: list[object] = [*parts]
    changed[at] = value
    with pytest.raises(DecodeError) as caught:
        Genesis.decode(pack([pack(changed), genesis.signatures]))
    assert caught.value.what == name


@pytest.mark.parametrize("signatures", [[], [bytes(63)], [bytes(64)], [bytes(64)] * 2])
def test_every_administrator_signed(signatures: list[bytes]) -> None:
    with pytest.raises(DecodeError, match="signature"):
        Genesis.decode(pack([make_genesis().unsigned_bytes(), signatures]))


def test_signature_of_another_network_does_not_pass() -> None:
    genesis = replace(make_genesis(), signatures=make_genesis(name="other").signatures)
    with pytest.raises(DecodeError, match="one that does not verify"):
        check_genesis(genesis)


def test_signing_takes_exactly_the_administrators() -> None:
    with pytest.raises(DecodeError, match="the key of every administrator"):
        make_genesis().signed_by(ADMIN, STRANGER)


def test_a_genesis_grants_no_administrator_beside_its_list() -> None:
    genesis = replace(make_genesis(), grants=(Grant(role=Role.ADMIN, subject=STRANGER.public),))
    with pytest.raises(DecodeError, match="granted role"):
        check_genesis(genesis)


def test_most_administrators_and_grants_fit() -> None:
    genesis = make_genesis(administrators=keys(64, start=50), quorum=64)
    assert Genesis.decode(genesis.encode()) == genesis
    assert seed("x") not in genesis.administrators
