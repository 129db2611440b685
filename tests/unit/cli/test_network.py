"""`facechain network`: presets, parameters, signing by one and by several, showing."""

import json
from pathlib import Path
from typing import Any

import pytest

from facechain.cli.main import run
from facechain.cli.network import PRESET_NAMES
from facechain.cli.network_presets import PRESETS
from facechain.consensus.apply import genesis_block
from facechain.consensus.kinds import Role
from facechain.consensus.params import Params, Retarget, check_params
from facechain.consensus.signing import LedgerKey
from facechain.node.genesis_file import read_genesis
from support.chain import PRODUCER
from support.commands import Capture, failure

ALICE, BOB = (LedgerKey.from_seed(bytes([number]) * 32).public for number in (1, 2))
CAROL = PRODUCER.public
FOREIGN = LedgerKey.from_seed(b"\x08" * 32).public

pytestmark = pytest.mark.usefixtures("data_dir")


def init(out: Path | None, *more: str) -> list[str]:
    target = [] if out is None else ["--out", str(out)]
    return ["network", "init", "--name", "trial", *target, *more]


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_every_preset_founds_a_network(name: str, tmp_path: Path) -> None:
    path = tmp_path / "genesis.json"
    assert run(init(path, "--admin", "alice", "--preset", name)) == 0
    genesis = read_genesis(path)
    assert genesis.params == PRESETS[name]
    check_params(genesis.params)
    assert genesis_block(genesis)[0].header.height == 0


def test_presets_are_what_they_say() -> None:
    assert tuple(PRESETS) == PRESET_NAMES
    assert PRESETS["standard"] == Params()
    paper = PRESETS["paper"]
    assert (paper.retarget, paper.fixed_digits, paper.producer_share) == (Retarget.FIXED, 4, 0)
    assert PRESETS["test"].spacing_ms == 1_000


def test_roles_and_parameters_are_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "genesis.json"
    people = ["--admin", "alice", "--admin", "bob", "--producer", "carol", "--producer", FOREIGN.hex()]
    params = ["--param", "quorum=2", "--param", "spacing-ms=20000", "--param", "pow_limit_bits=0x1f100000"]
    assert run(init(path, *people, "--submitter", "alice", *params, "--time-ms", "1790000000000")) == 0
    genesis = read_genesis(path)
    assert set(genesis.administrators) == {ALICE, BOB}
    assert {(grant.role, grant.subject) for grant in genesis.grants} == {
        (Role.PRODUCER, CAROL),
        (Role.PRODUCER, FOREIGN),
        (Role.SUBMITTER, ALICE),
    }
    assert (genesis.params.quorum, genesis.params.spacing_ms, genesis.params.pow_limit_bits) == (
        2,
        20_000,
        0x1F100000,
    )
    assert genesis.time_ms == 1_790_000_000_000


@pytest.mark.parametrize("time_ms", ["-1", str(2**64)])
def test_time_fits_into_its_field(time_ms: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "genesis.json"
    assert run(init(path, "--admin", "alice", "--time-ms", time_ms)) == 3
    assert f"{time_ms} is not in the range 0<=x<=18446744073709551615" in capsys.readouterr().err
    assert run(init(path, "--admin", "alice", "--time-ms", str(2**64 - 1))) == 0


def test_dry_run_writes_nothing(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "genesis.json"
    assert run(init(path, "--admin", "alice", "--dry-run")) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["administrators"] == [{"key": ALICE.hex(), "signature": None}]
    assert not path.exists()


def test_several_parties_sign_one_after_the_other(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "genesis.json"
    assert run(init(path, "--admin", "alice", "--admin", BOB.hex())) == 0
    assert "has not signed" in capsys.readouterr().out
    assert run(["network", "show", str(path)]) == 2
    assert "got 1 of 2" in capsys.readouterr().err
    assert run(["network", "sign", str(path), "--key", "bob"]) == 0
    capsys.readouterr()
    assert run(["network", "show", str(path), "--json"]) == 0
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert shown["complete"]
    assert shown["network_id"] == read_genesis(path).network_id.hex()


def test_only_an_administrator_signs(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "genesis.json"
    run(init(path, "--admin", "alice"))
    capsys.readouterr()
    code, err = failure(capsys, "network", "sign", str(path), "--key", "carol")
    assert (code, f"expected the key of an administrator of {path}, got {CAROL.hex()}" in err) == (5, True)
    assert "decode-error" not in err


def test_changed_genesis_is_found_out(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "genesis.json"
    run(init(path, "--admin", "alice"))
    capsys.readouterr()
    path.write_text(path.read_text().replace('"quorum": 1', '"quorum": 2'))
    code, err = failure(capsys, "network", "show", str(path))
    assert (code, f"{path}: quorum" in err) == (2, True)
    path.write_text(path.read_text().replace('"quorum": 2', f'"quorum": {10**30}'))
    code, err = failure(capsys, "network", "show", str(path))
    assert (code, f"{path}: quorum: expected a whole number from 0 to {2**64 - 1}, got 1000" in err) == (
        2,
        True,
    )
    path.write_text(path.read_text().replace(str(10**30), "1").replace("trial", "other"))
    code, err = failure(capsys, "network", "show", str(path))
    assert (code, "network_id" in err) == (2, True)


def test_existing_file_is_kept(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "genesis.json"
    path.write_text("mine")
    code, err = failure(capsys, *init(path, "--admin", "alice"))
    assert (code, "one genesis for good" in err) == (5, True)
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    "more, message",
    [
        (["--param", "speed=1"], "--param: expected NAME=VALUE"),
        (["--param", "quorum"], "--param: expected NAME=VALUE"),
        (["--param", "quorum=two"], "a whole number"),
        (["--param", f"spacing-ms={2**64}"], "a whole number from 0 to 18446744073709551615"),
        (["--param", f"spacing-ms={10**40}"], "a whole number from 0 to 18446744073709551615"),
        (["--param", "quorum=2"], "at most 1"),
        (["--param", "heartbeat-ms=99999"], "heartbeat_ms: expected below spacing_ms"),
        (["--param", "retarget=never"], "asert or fixed"),
        (["--admin", "alice"], "each key once"),
        (["--producer", "00" * 32], "small order"),
        (["--preset", "fast"], "--preset"),
        (["--name", ""], "printable text"),
    ],
)
def test_usage_errors_name_what_is_wrong(
    more: list[str], message: str, tmp_path: Path, capsys: Capture
) -> None:
    code, err = failure(capsys, *init(tmp_path / "genesis.json", "--admin", "alice", *more))
    assert (code, message in err) == (3, True), err
    assert list(tmp_path.glob("*.json")) == []


def test_output_must_be_named(capsys: Capture) -> None:
    code, err = failure(capsys, *init(None, "--admin", "alice"))
    assert (code, "--out" in err) == (3, True)


def test_missing_genesis_is_a_usage_error(tmp_path: Path, capsys: Capture) -> None:
    assert failure(capsys, "network", "show", str(tmp_path / "none.json"))[0] == 3
