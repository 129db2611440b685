"""The address book and the ban list in the store.

Owns the rows of `Table.PEERS` and `Table.BANS`. A row that cannot be read is dropped: both lists are
only a memory of convenience.
"""

from __future__ import annotations

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


def save_book(store: Store, book: AddressBook) -> None:
    """Write the lists in place of the stored ones."""
    peers = {_key(entry): entry.encode() for entry in book.entries()}
    bans = {key: ban.encode() for key, ban in book.bans.items()}

    def change(writer: Writer) -> None:
        for table, rows in ((Table.PEERS, peers), (Table.BANS, bans)):
            for key, _ in list(writer.scan(table)):
                if key not in rows:
                    writer.delete(table, key)
            writer.put_many(table, sorted(rows.items()))

    store.transact(change)


def _key(entry: AddressEntry) -> bytes:
    return f"{entry.host}|{entry.port}".encode()
