"""Bringing a store of an older schema up to this one.

Owns the table of migrations and their order. Each is made of transactions of bounded size. Until its last one the
store is still one of the older schema, whole for the older facechain, and after a death at any instant the next
opening goes on. A store that is newer than this facechain is refused where it is opened, not here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from ..store.port import Store
from ..store.schema import RETIRED, SCHEMA_KEY, SCHEMA_VERSION, Table
from .record_runs import build_runs, remove_retired

MIGRATIONS: Final[Mapping[int, Callable[[Store], None]]] = MappingProxyType({1: build_runs})
"""From which version to the next, by what."""

_log = logging.getLogger(__name__)


def bring_up_to_date(store: Store) -> None:
    """Migrate a store to this schema, and remove the rows that the schema has no more use for.

    Raises StoreError; opening the store again then goes on.
    """
    with store.read() as reader:
        found = int.from_bytes(reader.get(Table.META, SCHEMA_KEY) or b"", "big")
    for version in range(found, SCHEMA_VERSION):
        _log.warning(
            "the store has schema %d: bringing it to %d; this may take minutes", version, version + 1
        )
        MIGRATIONS[version](store)
        _log.warning("the store has schema %d now", version + 1)
    with store.read() as reader:
        left = sum(reader.count(table) for table in RETIRED)
    if left:
        _log.warning("removing %d rows of an older schema from the store", left)
        remove_retired(store)
