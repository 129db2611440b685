"""Kinds of values that a setting can have: how each is read from TOML or text, checked and written.

Owns the value types `Endpoint`, `PinnedBlock` and `PeerPattern`, and the tables of kinds. It knows no setting.
A kind turns what it cannot take into `ValueError` with the words after "expected" and "got".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Final, Self

PORT_MAX: Final = 65_535
HOST_CHARACTERS_MAX: Final = 253
CHAINWORK_BYTES: Final = 32
HASH_BYTES: Final = 32

_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?")
_HEX: Final = re.compile(r"[0-9A-Fa-f]+")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_WORDS: Final = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Endpoint:
    """A TCP host (name, IPv4 or IPv6 address) and port; port 0 lets the system choose when listening."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `HOST:PORT` or `[IPV6]:PORT`; ValueError on anything else."""
        host, colon, port = text.strip().rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or int(port) > PORT_MAX:
            raise ValueError(text)
        if host.startswith("[") and host.endswith("]"):
            return cls(host=str(IPv6Address(host[1:-1])), port=int(port))
        if len(host) > HOST_CHARACTERS_MAX or not _HOST.fullmatch(host):
            raise ValueError(text)
        return cls(host=host, port=int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PinnedBlock:
    """A block that the active chain must contain."""

    height: int
    block_hash: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `HEIGHT:HASH`; ValueError on anything else."""
        height, _, digest = text.strip().partition(":")
        if not height.isascii() or not height.isdigit() or len(height) > 19:
            raise ValueError(text)
        return cls(height=int(height), block_hash=_exact_hex(digest, HASH_BYTES))

    def __str__(self) -> str:
        return f"{self.height}:{self.block_hash.hex()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerPattern:
    """Which peers a rule of the allow or deny list is about: those of a network, or the one with a node key."""

    network: IPv4Network | IPv6Network | None = None
    node_key: bytes | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address, a network (`10.0.0.0/8`) or a node key of 64 hex digits; ValueError otherwise."""
        given = text.strip()
        if len(given) == 2 * HASH_BYTES:
            return cls(node_key=_exact_hex(given, HASH_BYTES))
        return cls(network=ip_network(given))

    def matches(self, address: str, node_key: bytes | None = None) -> bool:
        """Tell whether a peer at `address` (numeric), with `node_key` once that is known, is meant."""
        if self.network is None:
            return node_key is not None and node_key == self.node_key
        peer: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
        if isinstance(peer, IPv6Address) and peer.ipv4_mapped is not None:
            peer = peer.ipv4_mapped
        return peer in self.network

    def __str__(self) -> str:
        return str(self.network) if self.node_key is None else self.node_key.hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of value: from TOML (`read`), from an environment variable (`text`, then `read`), to TOML."""

    expected: str
    read: Callable[[Any], Any]
    text: Callable[[str], Any] = str
    write: Callable[[Any], Any] = str


def whole(low: int, high: int) -> Kind:
    """Return the kind of whole numbers from `low` to `high`."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(value)
        return value

    return Kind(expected=f"a whole number from {low} to {high}", read=read, text=int, write=int)


def choice(*names: str) -> Kind:
    """Return the kind of one word out of `names`."""

    def read(value: object) -> str:
        if _string(value) not in names:
            raise ValueError(value)
        return _string(value)

    return Kind(expected=f"one of {', '.join(names)}", read=read)


def parsed(expected: str, parse: Callable[[str], Any]) -> Kind:
    """Return the kind of values that have a text form, which `parse` reads and `str` writes."""
    return Kind(expected=expected, read=lambda value: parse(_string(value)))


def listed(item: Kind) -> Kind:
    """Return the kind of lists of `item`; in an environment variable they are separated by commas."""

    def read(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise ValueError(value)  # noqa: TRY004 - one exception type means "not of this kind"
        return tuple(item.read(part) for part in value)

    return Kind(
        expected=f"a list, each {item.expected}",
        read=read,
        text=lambda text: [part.strip() for part in text.split(",") if part.strip()],
        write=lambda values: [item.write(value) for value in values],
    )


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(value)  # noqa: TRY004 - one exception type means "not of this kind"
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(value)  # noqa: TRY004 - one exception type means "not of this kind"
    return value


def _flag_from_text(text: str) -> bool:
    if text.strip().lower() not in _WORDS:
        raise ValueError(text)
    return _WORDS[text.strip().lower()]


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(text)
    return text


def _key(text: str) -> str:
    """Take a name, or an absolute path, which means the same in a file, a variable and an option."""
    return text if text.startswith("/") and "\0" not in text else _name(text)


def _path(value: object) -> Path:
    path = value if isinstance(value, Path) else Path(_string(value))
    if not path.parts or "\0" in str(path):
        raise ValueError(value)
    return path.expanduser()


def _chainwork(text: str) -> int:
    digits = text.strip().removeprefix("0x")
    if not _HEX.fullmatch(digits) or len(digits) > 2 * CHAINWORK_BYTES:
        raise ValueError(text)
    return int(digits, 16)


def _exact_hex(text: str, size: int) -> bytes:
    if len(text) != 2 * size or not _HEX.fullmatch(text):
        raise ValueError(text)
    return bytes.fromhex(text)


FLAG: Final = Kind(expected="true or false", read=_flag, text=_flag_from_text, write=bool)
PATH: Final = Kind(expected="a path", read=_path)
KEY: Final = parsed("a name of letters, digits, '-', '_' and '.', or the absolute path of a key file", _key)
ENDPOINT: Final = parsed("HOST:PORT", Endpoint.parse)
PINNED: Final = parsed("HEIGHT:HASH (64 hex digits)", PinnedBlock.parse)
PATTERN: Final = parsed("an address, a network or a node key of 64 hex digits", PeerPattern.parse)
CHAINWORK: Final = Kind(
    expected="a hexadecimal number of at most 64 digits",
    read=lambda value: _chainwork(_string(value)),
    write=lambda work: f"{work:x}",
)
