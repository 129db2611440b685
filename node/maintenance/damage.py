"""What a check of a store found to be wrong, as one line that names the place.

Owns the error and the translation of a rule's or decoder's failure into it. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from typing import ClassVar

from ...consensus.errors import ConsensusError
from ...consensus.kv import MissingNode

VALUE_HEX_MAX = 80
"""Characters of a value that are shown."""

ADVICE = "restore a backup, try 'facechain db reindex', or remove the store's folder and sync again"


class StoreDamage(Exception):
    """The store holds something that its own headers, bodies or signatures contradict."""

    code: ClassVar[str] = "store-damage"
    advice: ClassVar[str] = ADVICE

    def __init__(self, place: str, *, expected: str, got: str) -> None:
        """Name the place and keep both sides."""
        super().__init__(f"{place}: expected {expected}, got {got}")
        self.place = place
        self.expected = expected
        self.got = got

    def diagnostics(self) -> str:
        """Return the damage as one line for a person."""
        return f"{self.code}: {self}; {self.advice}"


class SnapshotDamage(StoreDamage):
    """A snapshot file is not what it claims to be; no store was touched."""

    code: ClassVar[str] = "snapshot-damage"
    advice: ClassVar[str] = "fetch the file again, or export it again; no store was made"


class MaintenanceRefused(Exception):
    """What was asked for cannot be done with this store; nothing was changed."""

    code: ClassVar[str] = "refused"

    def diagnostics(self) -> str:
        """Return the refusal as one line for a person."""
        return f"{self.code}: {self}"


def shown(value: bytes | None) -> str:
    """Return a value as text for an error line."""
    if value is None:
        return "nothing"
    text = value.hex()
    return text if len(text) <= VALUE_HEX_MAX else f"{text[:VALUE_HEX_MAX]}… ({len(value)} bytes)"


@contextmanager
def at(place: str) -> Iterator[None]:
    """Turn a failed rule, decoder or tree inside into damage at a place."""
    try:
        yield
    except (ConsensusError, MissingNode, ValueError) as error:
        raise StoreDamage(place, expected="what its hash commits to", got=str(error)) from error


def check_same(place: str, expected: bytes | None, got: bytes | None) -> None:
    """Raise StoreDamage when two values differ."""
    if expected != got:
        raise StoreDamage(place, expected=shown(expected), got=shown(got))


def compare_rows(
    place: str, expected: Iterable[tuple[bytes, bytes]], got: Iterable[tuple[bytes, bytes]]
) -> None:
    """Raise StoreDamage at the first difference of two ascending sequences of rows, in both directions."""
    for ours, theirs in zip_longest(expected, got):
        if ours != theirs:
            key = min(row[0] for row in (ours, theirs) if row is not None)
            sides = [row[1] if row is not None and row[0] == key else None for row in (ours, theirs)]
            check_same(f"{place} {key.hex()}", *sides)
