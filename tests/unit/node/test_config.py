"""Settings: precedence, errors, and the TOML that is printed."""

import dataclasses
import string
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facechain.node.config import SETTINGS, ConfigError, NodeConfig, load_config, render_config
from facechain.node.config_kinds import Endpoint, PeerPattern, PinnedBlock

HASH = "ab" * 32


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    return tmp_path / "share" / "facechain"


def written(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults(home: Path) -> None:
    config = load_config()
    assert config == NodeConfig()
    assert config.data_dir == home
    assert config.genesis_file == home / "genesis.json"
    assert config.token_file == home / "api-token"
    assert config.admin_token_file == home / "admin-token"
    assert not config.mine


def test_precedence_is_override_environment_file_default(home: Path) -> None:
    written(home, 'mining_workers = 2\nlog_level = "debug"\nmax_inbound = 5')
    config = load_config(
        overrides={"mining_workers": 4, "mine": None},
        environment={"FACECHAIN_NODE_MINING_WORKERS": "3", "FACECHAIN_NODE_LOG_LEVEL": "error"},
    )
    assert (config.mining_workers, config.log_level, config.max_inbound, config.max_outbound) == (
        4,
        "error",
        5,
        8,
    )


def test_every_kind_from_a_file(tmp_path: Path) -> None:
    path = written(
        tmp_path / "etc",
        f"""data_dir = "../data"
        genesis = "/net/genesis.json"
        listen = "[::]:1000"
        api = "0.0.0.0:0"
        advertise = "node.example.org:1000"
        peers = ["a:1", "b:2"]
        mine = true
        mining_key = "miner-1"
        mining_backend = "cuda"
        mining_workers = 3
        api_token_file = "token"
        api_read_token = true
        api_admin_token_file = "admin"
        api_admin = ["192.0.2.0/24"]
        max_inbound = 0
        max_outbound = 1
        log_level = "warning"
        log_json = true
        minimum_chainwork = "0xFf"
        checkpoints = ["7:{HASH}"]
        max_reorg = 12
        deep_reorg = 3
        allow = ["10.0.0.0/8"]
        deny = ["{HASH}"]
        wire_version = 1
        """,
    )
    config = load_config(config_file=path)
    assert config == NodeConfig(
        data_dir=tmp_path / "etc" / ".." / "data",
        genesis=Path("/net/genesis.json"),
        listen=Endpoint(host="::", port=1000),
        api=Endpoint(host="0.0.0.0", port=0),
        advertise=Endpoint(host="node.example.org", port=1000),
        peers=(Endpoint(host="a", port=1), Endpoint(host="b", port=2)),
        mine=True,
        mining_key="miner-1",
        mining_backend="cuda",
        mining_workers=3,
        api_token_file=tmp_path / "etc" / "token",
        api_read_token=True,
        api_admin_token_file=tmp_path / "etc" / "admin",
        api_admin=(PeerPattern(network=IPv4Network("192.0.2.0/24")),),
        max_inbound=0,
        max_outbound=1,
        log_level="warning",
        log_json=True,
        minimum_chainwork=255,
        checkpoints=(PinnedBlock(height=7, block_hash=bytes.fromhex(HASH)),),
        max_reorg=12,
        deep_reorg=3,
        allow=(PeerPattern(network=IPv4Network("10.0.0.0/8")),),
        deny=(PeerPattern(node_key=bytes.fromhex(HASH)),),
        wire_version=1,
    )
    changed, default = dataclasses.asdict(config), dataclasses.asdict(NodeConfig())
    assert not [key for key in SETTINGS if changed[key] == default[key]]


def test_environment_and_overrides_take_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(
        overrides={"data_dir": "data", "checkpoints": f"1:{HASH},2:{HASH}", "api": "localhost:9"},
        environment={
            "FACECHAIN_NODE_PEERS": "a:1, b:2,",
            "FACECHAIN_NODE_MINE": "Yes",
            "FACECHAIN_NODE_MAX_REORG": "3",
            "FACECHAIN_NODE_LOG_LEVEL": "",
            "HOME": "/root",
        },
    )
    assert config.data_dir == tmp_path / "data"
    assert [str(pinned) for pinned in config.checkpoints] == [f"1:{HASH}", f"2:{HASH}"]
    assert [str(peer) for peer in config.peers] == ["a:1", "b:2"]
    assert (config.mine, config.max_reorg, config.log_level, str(config.api)) == (
        True,
        3,
        "info",
        "localhost:9",
    )


def test_file_is_found_in_the_data_directory(tmp_path: Path) -> None:
    written(tmp_path, "max_inbound = 1")
    assert load_config(overrides={"data_dir": tmp_path}).max_inbound == 1
    assert load_config(environment={"FACECHAIN_NODE_DATA_DIR": str(tmp_path)}).max_inbound == 1


def test_file_is_named_by_the_environment_or_the_caller(tmp_path: Path) -> None:
    first = written(tmp_path / "1", "max_inbound = 1")
    second = written(tmp_path / "2", "max_inbound = 2")
    environment = {"FACECHAIN_NODE_CONFIG": str(first)}
    assert load_config(environment=environment).max_inbound == 1
    assert load_config(environment=environment, config_file=second).max_inbound == 2


def test_file_in_the_data_directory_may_not_point_elsewhere(tmp_path: Path) -> None:
    path = written(tmp_path, 'data_dir = "/elsewhere"')
    with pytest.raises(ConfigError, match=r"data_dir: expected .* got /elsewhere"):
        load_config(overrides={"data_dir": tmp_path})
    assert load_config(config_file=path).data_dir == Path("/elsewhere")


def test_a_mining_key_may_be_a_file_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('mining_key = "/run/secrets/alice.pem"\n')
    assert load_config(config_file=path).mining_key == "/run/secrets/alice.pem"


@pytest.mark.parametrize(
    "line, message",
    [
        ("minee = true", "expected a known setting, got 'minee'; did you mean 'mine'?"),
        ("peer = []", "did you mean 'peers'?"),
        ("[node]", "expected a known setting, got 'node'"),
        ('mine = "yes"', "mine: expected true or false, got 'yes'"),
        ("mine = 1", "mine: expected true or false, got 1"),
        ("mining_workers = 0", "mining_workers: expected a whole number from 1 to 1024, got 0"),
        ("mining_workers = true", "expected a whole number from 1 to 1024, got True"),
        ("mining_workers = 1.5", "got 1.5"),
        ('mining_backend = "gpu"', "expected one of hashlib, numba, cuda, got 'gpu'"),
        ('listen = "7440"', "listen: expected HOST:PORT, got '7440'"),
        ('peers = "a:1"', "peers: expected a list, each HOST:PORT, got 'a:1'"),
        ('peers = ["a:1", "b"]', "peers: expected a list, each HOST:PORT, got ['a:1', 'b']"),
        ('minimum_chainwork = "xyz"', "expected a hexadecimal number of at most 64 digits, got 'xyz'"),
        ("minimum_chainwork = 12", "expected a hexadecimal number"),
        ('checkpoints = ["1:ab"]', "expected a list, each HEIGHT:HASH (64 hex digits)"),
        ('deny = ["example.org"]', "expected a list, each an address, a network or a node key"),
        ('mining_key = "../key"', "expected a name of letters"),
        ('data_dir = ""', "data_dir: expected a path, got ''"),
        ('genesis = "~nobody-has-this-name/x"', "genesis: expected a path"),
        (f'log_level = "{"x" * 500}"', f"got '{'x' * 79}…"),
        ("mine = ", "expected TOML, got a syntax error"),
    ],
)
def test_bad_files_are_one_clear_line(tmp_path: Path, line: str, message: str) -> None:
    path = written(tmp_path, line)
    with pytest.raises(ConfigError) as caught:
        load_config(config_file=path)
    said = caught.value.diagnostics()
    assert said.startswith(f"config: {path}")
    assert message in said
    assert "\n" not in said


def test_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "")
    path.write_bytes(b"mine = true # \xff")
    with pytest.raises(ConfigError, match="expected UTF-8 text, got byte 0xff"):
        load_config(config_file=path)


def test_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a readable file, got No such file"):
        load_config(config_file=tmp_path / "missing.toml")


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("FACECHAIN_NODE_PERS", "a:1", "got 'FACECHAIN_NODE_PERS'; did you mean 'FACECHAIN_NODE_PEERS'?"),
        ("FACECHAIN_NODE_MINE", "maybe", "FACECHAIN_NODE_MINE: expected true or false, got 'maybe'"),
        (
            "FACECHAIN_NODE_MAX_REORG",
            "ten",
            "expected a whole number from 0 to 9223372036854775807, got 'ten'",
        ),
    ],
)
def test_bad_environment_names_the_variable(name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(environment={name: text})
    assert message in caught.value.diagnostics()


@pytest.mark.parametrize(
    "name",
    [
        "FACECHAIN_NODE_START_PEERS",
        "FACECHAIN_NODE_PORT_7440_TCP",
        "FACECHAIN_NODE_SERVICE_HOST",
        "FACECHAIN_NODE",
    ],
)
def test_variables_of_others_are_left_alone(name: str) -> None:
    assert load_config(environment={name: "tcp://10.0.0.1:1"}) == NodeConfig()


def test_bad_overrides_name_the_option() -> None:
    with pytest.raises(ConfigError, match="--max-reorg: expected a whole number"):
        load_config(overrides={"max_reorg": -1})
    with pytest.raises(ConfigError, match="override: expected a known setting, got 'max_reorgs'"):
        load_config(overrides={"max_reorgs": 1})


names = st.text(string.ascii_letters + string.digits, min_size=1, max_size=8)
endpoints = st.builds(Endpoint, host=names, port=st.integers(0, 65535))
paths = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0~"), min_size=1, max_size=12
).map(lambda name: Path("/data") / name)
configs = st.builds(
    NodeConfig,
    data_dir=paths,
    genesis=st.none() | paths,
    listen=endpoints,
    advertise=st.none() | endpoints,
    peers=st.lists(endpoints, max_size=3).map(tuple),
    mine=st.booleans(),
    mining_key=st.none() | names,
    mining_backend=st.sampled_from(["hashlib", "numba", "cuda"]),
    max_reorg=st.integers(0, 2**63 - 1),
    minimum_chainwork=st.integers(0, 2**256 - 1),
    checkpoints=st.lists(
        st.builds(PinnedBlock, height=st.integers(0, 2**60), block_hash=st.binary(min_size=32, max_size=32))
    ).map(tuple),
    allow=st.lists(st.integers(0, 2**32 - 1).map(IPv4Network).map(lambda net: PeerPattern(network=net))).map(
        tuple
    ),
)


@given(configs)
def test_printed_settings_read_back_as_the_same(tmp_path_factory: Any, config: NodeConfig) -> None:
    path = tmp_path_factory.mktemp("config") / "printed.toml"
    path.write_text(render_config(config), encoding="utf-8", newline="")
    assert load_config(config_file=path) == config


def test_printed_defaults(home: Path) -> None:
    text = render_config(NodeConfig())
    assert f'data_dir = "{home}"\n' in text
    assert "# advertise =\n" in text
    assert "mine = false\n" in text
    assert 'minimum_chainwork = "0"\n' in text
    assert all(f"{key} =" in text for key in SETTINGS)
