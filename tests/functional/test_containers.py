"""The compose network fits the node: its settings are known ones, and its founding script founds one network."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from facechain.node.api.middleware import OPEN_PATHS
from facechain.node.config import load_config
from facechain.node.genesis_file import read_genesis

DOCKER = Path(__file__).resolve().parents[2] / "docker"
NODES = ("validator1", "validator2", "validator3", "producer")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    return content


@pytest.fixture(scope="module")
def image_environment() -> dict[str, str]:
    """What the Dockerfile sets for every node."""
    return dict(re.findall(r"(FACECHAIN_\w+)=(\S+)", (DOCKER / "Dockerfile").read_text()))


@pytest.mark.parametrize("name", NODES)
def test_node_settings_are_understood(
    name: str, compose: dict[str, Any], image_environment: dict[str, str]
) -> None:
    service = compose["services"][name]
    config = load_config(environment={**image_environment, **service["environment"]})
    assert config.data_dir == Path("/data")
    assert service["volumes"] == [f"{name}:/data"]
    assert {peer.host for peer in config.peers} == set(NODES) - {name} - ({"producer"} - {name})
    assert {peer.port for peer in config.peers} == {config.listen.port}
    assert str(config.advertise) == f"{name}:{config.listen.port}"
    assert service["ports"][0].endswith(f":{config.api.port}")
    assert config.mine is (name == "producer")


def test_health_check_asks_an_open_path_of_the_api() -> None:
    asked = re.findall(r"http://127.0.0.1:(\d+)(/\w+)", (DOCKER / "Dockerfile").read_text())
    assert asked == [(str(load_config().api.port), "/healthz")]
    assert "/healthz" in OPEN_PATHS


def test_producer_mines_with_the_key_that_is_handed_to_it(compose: dict[str, Any]) -> None:
    founder = compose["services"]["found"]
    assert tuple(founder["command"][2:]) == NODES
    assert compose["services"]["producer"]["environment"]["FACECHAIN_NODE_MINING_KEY"] == "producer"
    assert compose["services"]["producer"]["image"] == "facechain:producer"


def found(network: Path, nodes: Path) -> None:
    search = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        ["sh", str(DOCKER / "found.sh"), str(network), str(nodes), *NODES],
        check=True,
        capture_output=True,
        env={**os.environ, "PATH": search},
    )


def test_founding_twice_keeps_the_network(tmp_path: Path) -> None:
    network, nodes = tmp_path / "network", tmp_path / "nodes"
    network.mkdir()
    found(network, nodes)
    first = read_genesis(network / "genesis.json")
    found(network, nodes)
    for name in NODES:
        assert read_genesis(nodes / name / "genesis.json") == first
    keys = {path.relative_to(nodes) for path in nodes.glob("*/keys/*")}
    assert keys == {Path("producer/keys/producer.pem")}
    assert (nodes / "producer/keys/producer.pem").stat().st_mode & 0o777 == 0o600
