"""Protocol versions: which ones this software knows, and which one the administrators scheduled.

Owns the schedule's entry in the state and the refusal to go on under a version that is not known here. What
changes with a version is the business of the modules that check.

Source: ``docs/protocol.md``, sections "State" and "State transition".
"""

from __future__ import annotations

import struct
from collections.abc import Container
from dataclasses import dataclass
from typing import Final, Self

from .block import HEADER_VERSION
from .errors import ConsensusError, DecodeError

FIRST_VERSION: Final = HEADER_VERSION
"""Version of block 0, and in force until the administrators decide otherwise."""

SUPPORTED_VERSIONS: Final = frozenset({FIRST_VERSION})
"""Versions whose rules this software knows."""

_LAYOUT: Final = struct.Struct(">IIIQ")


class UpgradeNeeded(ConsensusError):
    """The next block follows rules that this software does not know, so it goes no further."""

    def __init__(self, version: int, height: int) -> None:
        """Name the version that is in force from block ``height`` on."""
        super().__init__(
            "upgrade-needed",
            f"block {height}: expected software that knows protocol version {version}, got one that knows "
            f"{', '.join(map(str, sorted(SUPPORTED_VERSIONS)))}; install a release that knows it and start "
            f"again: the chain up to block {height - 1} is complete and stays as it is",
        )
        self.version = version
        self.height = height


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The version in force, and the one that follows it."""

    decisions: int = 0
    """How often a quorum decided; each decision voids the requests before it."""
    version: int = FIRST_VERSION
    following: int = FIRST_VERSION
    """In force from ``activation_height`` on; the same as ``version`` when none is scheduled."""
    activation_height: int = 0

    def version_at(self, height: int) -> int:
        """Return the version that block ``height`` must have, a block after the last decision."""
        return self.following if height >= self.activation_height else self.version

    def pending_at(self, height: int) -> tuple[int, int] | None:
        """Return (version, activation height) of what is scheduled above ``height``."""
        return (self.following, self.activation_height) if self.activation_height > height else None

    def decided(self, height: int, version: int, activation_height: int) -> Schedule:
        """Return the schedule after a decision in block ``height``; the version in force takes back the rest."""
        in_force = self.version_at(height)
        return Schedule(
            decisions=self.decisions + 1,
            version=in_force,
            following=version,
            activation_height=0 if version == in_force else activation_height,
        )

    def check_known(self, height: int, versions: Container[int] = SUPPORTED_VERSIONS) -> int:
        """Return the version of block ``height``.

        Raises:
            UpgradeNeeded: it is not among ``versions``.
        """
        version = self.version_at(height)
        if version not in versions:
            raise UpgradeNeeded(version, height)
        return version

    def encode(self) -> bytes:
        """Return the 20 bytes of the entry."""
        return _LAYOUT.pack(self.decisions, self.version, self.following, self.activation_height)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read an entry; raises DecodeError."""
        if len(data) != _LAYOUT.size:
            raise DecodeError("schedule", expected=f"{_LAYOUT.size} bytes", got=f"{len(data)} bytes")
        decisions, version, following, activation_height = _LAYOUT.unpack(data)
        return cls(
            decisions=decisions, version=version, following=following, activation_height=activation_height
        )
