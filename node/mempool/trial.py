"""Trying statements on top of the tip, by the network's own rules and without keeping the result.

Owns the changes that pooled statements would make, by statement, so that any of them can be taken back. It
decides nothing: a statement that breaks a rule raises that rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ...consensus.apply import Checked, Transition
from ...consensus.kv import Bucket, StateReader
from ...consensus.params import Params
from ...consensus.state import StateView

Key = tuple[Bucket, bytes]

_PER_BLOCK: Final = frozenset({Bucket.HISTORY, Bucket.META_STATE})
"""Written by every block, not by its statements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tip:
    """The block on which the pool stands, with its state; valid only while the view is open."""

    height: int
    hash: bytes
    state: StateView


class _Layered:
    """A state reader with pending changes in front of the tip's state."""

    def __init__(self, base: StateReader, writes: Mapping[Key, dict[bytes, bytes | None]]) -> None:
        self._base = base
        self._writes = writes

    def get(self, bucket: Bucket, key: bytes, /) -> bytes | None:
        written = self._writes.get((bucket, key))
        if written:
            return next(reversed(written.values()))
        return self._base.get(bucket, key)


class Pending:
    """What a list of statements would change, one after the other, in the block after the tip."""

    def __init__(self, params: Params) -> None:
        self._params = params
        self._writes: dict[Key, dict[bytes, bytes | None]] = {}
        """Key -> value by the leaf that writes it; the latest writer's value counts."""

    def begin(self, tip: Tip) -> Transition:
        """Return a transition on top of the tip and all pending changes; authority is read from the tip."""
        transition = Transition(
            _Layered(tip.state.reader, self._writes),
            self._params,
            height=tip.height + 1,
            parent_hash=tip.hash,
        )
        transition.parent = tip.state
        return transition

    def keep(self, leaf: bytes, transition: Transition) -> tuple[Key, ...]:
        """Add what `transition` changed under the name `leaf`; return the changed keys for `forget`."""
        keys = []
        for bucket, key, new in transition.state.overlay.changed():
            if bucket not in _PER_BLOCK:
                self._writes.setdefault((bucket, key), {})[leaf] = new
                keys.append((bucket, key))
        return tuple(keys)

    def apply(self, tip: Tip, checked: Checked) -> tuple[Key, ...]:
        """Apply one statement and keep its changes; RuleViolation leaves everything as it was."""
        transition = self.begin(tip)
        transition.add(checked)
        return self.keep(checked.statement.leaf, transition)

    def forget(self, leaf: bytes, keys: tuple[Key, ...]) -> None:
        """Take back what `leaf` wrote. Later writers of the same keys keep their values."""
        for key in keys:
            written = self._writes[key]
            del written[leaf]
            if not written:
                del self._writes[key]

    def clear(self) -> None:
        """Take back everything."""
        self._writes.clear()
