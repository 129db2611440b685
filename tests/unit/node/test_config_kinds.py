"""Values of settings: endpoints, pinned blocks and peer patterns."""

import pytest

from facechain.node.config_kinds import Endpoint, PeerPattern, PinnedBlock

HASH = "0a" * 32


@pytest.mark.parametrize(
    "text, host, port",
    [
        ("127.0.0.1:80", "127.0.0.1", 80),
        ("node-1.example.org:65535", "node-1.example.org", 65535),
        ("a_b:0", "a_b", 0),
        ("[::1]:7440", "::1", 7440),
        ("[2001:DB8::1]:7440", "2001:db8::1", 7440),
    ],
)
def test_endpoint(text: str, host: str, port: int) -> None:
    endpoint = Endpoint.parse(text)
    assert endpoint == Endpoint(host=host, port=port)
    assert Endpoint.parse(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "host:",
        ":80",
        "host:65536",
        "host:-1",
        "host:8o",
        "::1:80",
        "[host]:80",
        "a b:80",
        "http://a:80",
        "h:²",
    ],
)
def test_endpoint_refuses(text: str) -> None:
    with pytest.raises(ValueError):
        Endpoint.parse(text)


def test_pinned_block() -> None:
    pinned = PinnedBlock.parse(f"12:{HASH.upper()}")
    assert pinned == PinnedBlock(height=12, block_hash=bytes.fromhex(HASH))
    assert str(pinned) == f"12:{HASH}"


@pytest.mark.parametrize(
    "text", ["", HASH, f":{HASH}", f"-1:{HASH}", f"1:{HASH[2:]}", f"1:{HASH[:-1]}g", f"{'9' * 20}:{HASH}"]
)
def test_pinned_block_refuses(text: str) -> None:
    with pytest.raises(ValueError):
        PinnedBlock.parse(text)


@pytest.mark.parametrize(
    "pattern, address, node_key, expected",
    [
        ("10.0.0.0/8", "10.1.2.3", None, True),
        ("10.0.0.0/8", "11.1.2.3", None, False),
        ("10.0.0.0/8", "::ffff:10.1.2.3", None, True),
        ("10.0.0.7", "10.0.0.7", bytes(32), True),
        ("2001:db8::/32", "2001:db8::5", None, True),
        ("2001:db8::/32", "10.0.0.1", None, False),
        ("fe80::/10", "fe80::1%eth0", None, True),
        (HASH, "10.0.0.1", bytes.fromhex(HASH), True),
        (HASH, "10.0.0.1", bytes(32), False),
        (HASH, "10.0.0.1", None, False),
    ],
)
def test_peer_pattern(pattern: str, address: str, node_key: bytes | None, *, expected: bool) -> None:
    parsed = PeerPattern.parse(pattern)
    assert parsed.matches(address, node_key) is expected
    assert PeerPattern.parse(str(parsed)) == parsed


@pytest.mark.parametrize("text", ["", "example.org", "10.0.0.1/8", "10.0.0.0/33", "zz" * 32])
def test_peer_pattern_refuses(text: str) -> None:
    with pytest.raises(ValueError):
        PeerPattern.parse(text)
