"""How many bytes of bodies may be under way at a time, whatever the number of peers: a pure rule.

A body counts whole while it is asked for, once its leaves said how large it is, and as one chunk before that. A body
that nobody is asked for counts as what came of it: it waits for its turn, lowest first, and the rest of it is not
asked for while there is no room. One body is always let through, however large.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Final

from ..wire.limits import CHUNK_BYTES
from .assembly import BodyAssembly

UNKNOWN_BODY_BYTES: Final = CHUNK_BYTES
"""What a body counts as before its size is known: what one answer brings."""


def expected_bytes(assembly: BodyAssembly) -> int:
    """Return what a body will take when all of it is here."""
    return UNKNOWN_BODY_BYTES if assembly.leaves is None else assembly.byte_count


class BodyBudget:
    """See the module's text."""

    def __init__(
        self, assemblies: Mapping[bytes, BodyAssembly], asked: Container[bytes], limit_bytes: int
    ) -> None:
        """`assemblies`: the bodies that are put together, by block; `asked`: those of them that somebody is asked for."""
        self._assemblies = assemblies
        self._asked = asked
        self._limit_bytes = limit_bytes

    def has_room(self, assembly: BodyAssembly) -> bool:
        """Tell whether (more of) a body may be asked for."""
        total, others = expected_bytes(assembly), 0
        for block_hash, other in self._assemblies.items():
            if other is assembly:
                continue
            if block_hash in self._asked:
                others += 1
                total += max(expected_bytes(other), other.received_bytes)
            else:
                total += other.received_bytes
        return not others or total <= self._limit_bytes
