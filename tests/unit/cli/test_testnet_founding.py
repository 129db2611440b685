"""Founding a test network: keys, genesis, data directories, modes."""

import stat
from pathlib import Path

import pytest

from facechain.cli.errors import RefusedError
from facechain.cli.testnet_founding import PRODUCER, SUBMITTER, WALLET_KEYS, found_testnet
from facechain.cli.testnet_network import TrialNetwork
from facechain.cli.testnet_record import NetworkRecord
from facechain.consensus.kinds import Role
from facechain.node.genesis_file import read_genesis
from facechain.node.keystore import Keystore


def test_the_genesis_names_the_people_of_the_wallet(tmp_path: Path) -> None:
    record = found_testnet(tmp_path / "net", count=3, mines=True)
    genesis = read_genesis(record.genesis_file)
    keys = {name: Keystore(record.wallet.keys).info(name).public for name in WALLET_KEYS}
    assert genesis.network_id == record.network_id
    assert read_genesis(record.wallet.genesis_file) == genesis
    assert genesis.administrators == (keys["admin"],)
    assert {(grant.role, grant.subject) for grant in genesis.grants} == {
        (Role.PRODUCER, keys[PRODUCER]),
        (Role.SUBMITTER, keys[PRODUCER]),
        (Role.SUBMITTER, keys[SUBMITTER]),
    }
    assert NetworkRecord.load(record.root) == record


def test_two_networks_are_never_the_same(tmp_path: Path) -> None:
    first, second = (found_testnet(tmp_path / name, count=1, mines=False) for name in ("a", "b"))
    assert first.network_id != second.network_id


def test_only_the_first_node_mines_and_only_it_has_the_key(tmp_path: Path) -> None:
    record = found_testnet(tmp_path / "net", count=3, mines=True)
    assert [node.mines for node in record.nodes.values()] == [True, False, False]
    held = [Keystore(record.data_dir(name).keys).names() for name in record.nodes]
    assert held == [(PRODUCER,), (), ()]
    idle = found_testnet(tmp_path / "idle", count=1, mines=False)
    assert Keystore(idle.data_dir("node-1").keys).names() == ()


def test_one_token_opens_every_node(tmp_path: Path) -> None:
    record = found_testnet(tmp_path / "net", count=2, mines=False)
    tokens = {record.data_dir(name).api_token_file.read_text() for name in record.nodes}
    assert tokens == {record.wallet.api_token_file.read_text()}
    admins = {record.data_dir(name).admin_token_file.read_text() for name in record.nodes}
    assert admins == {record.wallet.admin_token_file.read_text()} != tokens


def test_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    record = found_testnet(tmp_path / "net", count=2, mines=True)
    secrets = [*record.root.rglob("*.pem"), *record.root.rglob("api-token")]
    assert len(secrets) == len(WALLET_KEYS) + 1 + 3
    for path in secrets:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for folder in (record.root, *record.root.rglob("keys")):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RefusedError, match="expected a new or empty folder, got other files"):
        found_testnet(tmp_path, count=1, mines=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_with_a_network_is_refused(tmp_path: Path) -> None:
    record = found_testnet(tmp_path, count=1, mines=False)
    with pytest.raises(RefusedError, match="got a test network; end it with: facechain testnet down"):
        found_testnet(tmp_path, count=1, mines=False)
    assert NetworkRecord.load(tmp_path) == record


def test_removing_takes_what_was_made_and_leaves_the_rest(tmp_path: Path) -> None:
    network = TrialNetwork.found(tmp_path / "net", count=2, mines=True)
    assert network.remove()
    assert list(tmp_path.iterdir()) == []
    network = TrialNetwork.found(tmp_path / "net", count=2, mines=True)
    (network.record.root / "my-batch").mkdir()
    assert not network.remove()
    assert [path.name for path in network.record.root.iterdir()] == ["my-batch"]
