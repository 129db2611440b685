"""The address book and the ban list in the store.

Owns the rows of `Table.PEERS` and `Table.BANS`. A row that cannot be read is dropped: both lists are
only a memory of convenience.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..consensus.errors import DecodeError
from .protocol.peers import AddressBook, AddressEntry, Ban
from .store.port import Store, Writer
from .store.schema import Table


def load_book(store: Store) -> AddressBook:
    """Read what an earlier run learnt of peers."""
    book = AddressBook()
    with store.read() as reader:
        for _, value in reader.scan(Table.PEERS):
            try:
                book.restore([AddressEntry.decode(value)])
            except DecodeError:
                continue
        for key, value in reader.scan(Table.BANS):
            try:
                book.bans[key] = Ban.decode(value)
            except DecodeError:
                continue
    return book


BookRows = Mapping[Table, Mapping[bytes, bytes]]
"""What is to be in the store, by table and key."""


def book_rows(book: AddressBook) -> BookRows:
    """Return the rows of both lists as they stand now: for the thread that changes the lists."""
    return {
        Table.PEERS: {_key(entry): entry.encode() for entry in book.entries()},
        Table.BANS: {key: ban.encode() for key, ban in book.bans.items()},
    }


def save_rows(store: Store, rows: BookRows) -> None:
    """Write the lists in place of the stored ones; any thread may. Nothing is written when nothing changed."""
    with store.read() as reader:
        if all(dict(reader.scan(table)) == wanted for table, wanted in rows.items()):
            return

    def change(writer: Writer) -> None:
        for table, wanted in rows.items():
            for key, _ in list(writer.scan(table)):
                if key not in wanted:
                    writer.delete(table, key)
            writer.put_many(table, sorted(wanted.items()))

    store.transact(change)


def save_book(store: Store, book: AddressBook) -> None:
    """Write the lists in place of the stored ones; for the thread that changes them."""
    save_rows(store, book_rows(book))


def _key(entry: AddressEntry) -> bytes:
    return f"{entry.host}|{entry.port}".encode()
