"""genesis.json: round trip, strictness, signing by several administrators."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facechain.consensus.errors import DecodeError
from facechain.consensus.kinds import Role
from facechain.consensus.params import Genesis, Grant, Params, Retarget
from facechain.consensus.signing import LedgerKey
from facechain.node.genesis_file import (
    GenesisDocument,
    params_from_json,
    params_to_json,
    read_document,
    read_genesis,
    write_document,
)

KEYS = sorted((LedgerKey.from_seed(bytes([number]) * 32) for number in (1, 2)), key=lambda key: key.public)
PRODUCER = LedgerKey.from_seed(b"\x09" * 32)


def draft() -> GenesisDocument:
    return GenesisDocument(
        genesis=Genesis(
            name="Testnetz Ä",
            params=Params(quorum=2),
            time_ms=1_790_000_000_000,
            administrators=tuple(key.public for key in KEYS),
            grants=(Grant(role=Role.PRODUCER, subject=PRODUCER.public),),
        )
    )


def complete() -> GenesisDocument:
    return draft().signed(KEYS[0]).signed(KEYS[1])


def test_round_trip_through_a_file(tmp_path: Path) -> None:
    path = tmp_path / "genesis.json"
    write_document(path, complete())
    genesis = read_genesis(path)
    assert genesis == complete().genesis
    assert genesis.signatures == draft().genesis.signed_by(*KEYS).signatures
    assert Genesis.decode(genesis.encode()).network_id == genesis.network_id
    assert GenesisDocument.of(genesis) == complete()
    assert [entry.name for entry in tmp_path.iterdir()] == ["genesis.json"]


def test_file_is_readable_json_with_the_network_id() -> None:
    content = json.loads(complete().encode())
    assert content["network_id"] == draft().genesis.network_id.hex()
    assert content["params"]["retarget"] == "asert"
    assert content["params"]["pow_limit_bits"] == "0x1f010000"
    assert content["grants"] == [{"role": "producer", "key": PRODUCER.public.hex()}]


def test_incomplete_genesis_names_who_has_to_sign(tmp_path: Path) -> None:
    path = tmp_path / "genesis.json"
    write_document(path, draft().signed(KEYS[1]))
    assert read_document(path).missing == (KEYS[0].public,)
    with pytest.raises(DecodeError, match=f"{path}: genesis: .* none of {KEYS[0].public.hex()}"):
        read_genesis(path)


def test_only_administrators_sign() -> None:
    with pytest.raises(DecodeError, match="the key of an administrator"):
        draft().signed(PRODUCER)


def test_existing_file_stays_unless_replaced(tmp_path: Path) -> None:
    path = tmp_path / "genesis.json"
    write_document(path, draft())
    with pytest.raises(FileExistsError) as taken:
        write_document(path, complete())
    assert taken.value.filename == str(path)
    with pytest.raises(FileNotFoundError) as nowhere:
        write_document(tmp_path / "no" / "genesis.json", complete())
    assert nowhere.value.filename == str(tmp_path / "no" / "genesis.json")
    assert read_document(path) == draft()
    write_document(path, complete(), replace_existing=True)
    assert read_document(path) == complete()


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c.update(extra=1), "unknown extra"),
        (lambda c: c.pop("name"), "missing name"),
        (lambda c: c.update(format="other"), "format: expected 'facechain-genesis'"),
        (lambda c: c.update(draft=99), "draft"),
        (lambda c: c.update(name="Other"), "network_id"),
        (lambda c: c.update(name=""), "printable"),
        (lambda c: c.update(name="x" * 65), "at most 64 bytes"),
        (lambda c: c.update(time_ms=1.5), "time_ms"),
        (lambda c: c.update(time_ms=True), "time_ms"),
        (lambda c: c.update(time_ms=-1), "time_ms"),
        (lambda c: c["params"].update(speed=1), "unknown speed"),
        (lambda c: c["params"].update(quorum=3), "quorum"),
        (lambda c: c["params"].update(heartbeat_ms=99_999), "heartbeat_ms"),
        (lambda c: c["params"].update(retarget="sometimes"), "asert or fixed"),
        (lambda c: c["params"].update(pow_limit_bits="0xzz"), "compact bits"),
        (lambda c: c["params"].update(pow_limit_bits=5), "compact bits"),
        (lambda c: c.update(administrators=[]), "at least one"),
        (lambda c: c["administrators"].reverse(), "ascending"),
        (lambda c: c["administrators"][0].update(signature="00" * 64), "does not verify"),
        (lambda c: c["administrators"][0].update(signature="00"), "128 hex digits"),
        (lambda c: c["grants"][0].update(role="admin"), "producer or submitter"),
        (lambda c: c["grants"][0].update(key="zz" * 32), "64 hex digits"),
        (lambda c: c.update(grants=c["grants"] * 2), "ascending"),
    ],
)
def test_what_is_not_as_expected_is_named(change: Change, message: str) -> None:
    content = json.loads(complete().encode())
    change(content)
    with pytest.raises(DecodeError, match=message):
        GenesisDocument.decode(json.dumps(content))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"name": 1, "name": 2}',
        "[" * 100_000,
        '{"time_ms": NaN}',
        "null",
        '{"time_ms": ' + "9" * 5_000 + "}",
    ],
)
def test_what_is_no_genesis_is_refused(text: str) -> None:
    with pytest.raises(DecodeError, match="expected"):
        GenesisDocument.decode(text)


def test_long_and_binary_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "genesis.json"
    for content in (b" " * 600_000, b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(DecodeError, match=str(path)):
            read_document(path)


@pytest.mark.parametrize("params", [Params(), Params(retarget=Retarget.FIXED, fixed_digits=2)])
def test_params_round_trip(params: Params) -> None:
    assert params_from_json(json.loads(json.dumps(params_to_json(params)))) == params
