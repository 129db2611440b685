"""Network groups, and who may name which address."""

from __future__ import annotations

import pytest

from facechain.node.protocol.peer_groups import Reach, canonical_host, may_tell, network_group, reach_of


@pytest.mark.parametrize(
    "host, group",
    [
        ("20.1.2.3", "20.1.0.0/16"),
        ("::ffff:20.1.2.3", "20.1.0.0/16"),
        ("2a00:1450:4001:81b::200e", "2a00:1450::/32"),
        ("127.0.3.4", "127.0.3.4"),
        ("10.1.2.3", "10.1.2.3"),
        ("fd00::1", "fd00::1"),
        ("node.example", "node.example"),
    ],
)
def test_public_addresses_are_grouped_and_others_stand_alone(host: str, group: str) -> None:
    assert network_group(host) == group


@pytest.mark.parametrize(
    "host", ["", "node.example", "224.0.0.1", "0.0.0.0", "255.255.255.255", "::", "fe80::1%eth0", "1.2.3"]
)
def test_what_nobody_can_dial_has_no_reach(host: str) -> None:
    assert canonical_host(host) is None
    assert reach_of(host) is None


def test_one_address_has_one_spelling() -> None:
    assert canonical_host("2A00:1450:0:0:0:0:0:1") == "2a00:1450::1"
    assert canonical_host("::ffff:20.1.2.3") == "20.1.2.3"


@pytest.mark.parametrize(
    "source, host, allowed",
    [
        ("20.1.0.1", "21.1.0.1", True),
        ("20.1.0.1", "10.0.0.1", False),
        ("20.1.0.1", "127.0.0.1", False),
        ("10.0.0.1", "10.0.0.2", True),
        ("10.0.0.1", "20.1.0.1", True),
        ("10.0.0.1", "127.0.0.1", False),
        ("127.0.0.1", "127.0.0.9", True),
        ("127.0.0.1", "node.example", False),
    ],
)
def test_nobody_names_addresses_nearer_than_his_own(source: str, host: str, *, allowed: bool) -> None:
    assert may_tell(source, host) is allowed


def test_reach_is_ordered() -> None:
    assert reach_of("127.1.2.3") is Reach.LOOPBACK
    assert reach_of("192.168.0.1") is Reach.PRIVATE
    assert reach_of("8.8.8.8") is Reach.PUBLIC
