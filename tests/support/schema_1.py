"""Stores of schema 1: one that the facechain of that time wrote, and a way to put a present one back."""

from __future__ import annotations

import lzma
from pathlib import Path

from facechain.node.runs.placed import ROW_BYTES
from facechain.node.runs.table import LOGICAL_NAMES
from facechain.node.store.lmdb_file import DATA_NAME
from facechain.node.store.port import Store, Writer
from facechain.node.store.schema import SCHEMA_KEY, Table

STORED = Path(__file__).parents[1] / "vectors" / "store" / "schema-1.mdb.xz"
"""28 blocks with 101 records, pruned below 23, with a side branch; written at commit 6aacf221."""


def unpack_stored(folder: Path) -> Path:
    """Put the stored file into a folder as a store."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DATA_NAME).write_bytes(lzma.decompress(STORED.read_bytes()))
    return folder


def put_back(store: Store) -> None:
    """Write the record index of a present store as schema 1 had it: one key for each record, and no runs."""

    def change(writer: Writer) -> None:
        for table, old in LOGICAL_NAMES.items():
            for key, value in list(writer.scan(table)):
                for at in range(0, len(value), ROW_BYTES):
                    writer.put(old, value[at : at + ROW_BYTES], b"")
                writer.delete(table, key)
        for key, _ in list(writer.scan(Table.RUNS)):
            writer.delete(Table.RUNS, key)
        writer.put(Table.META, SCHEMA_KEY, (1).to_bytes(4, "big"))

    store.transact(change)
