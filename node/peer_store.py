"""The address book, the bans and the anchors in the store.

Owns the rows of `Table.PEERS` and `Table.BANS`. A row that cannot be read is dropped: all of it is only a memory of
convenience.

Anchors are written by a stop in order and taken away by the next start, so that a node which was killed, perhaps
by what an anchor sent, does not go back to it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ..consensus.encoding import U16, as_array, as_list, as_text, as_uint, pack, unpack
from ..consensus.errors import DecodeError
from .config_kinds import PeerPattern
from .protocol.peer_bans import Ban, BanList
from .protocol.peer_book import AddressBook
from .protocol.peer_entry import AddressEntry, Endpoint, RandomSource
from .store.errors import StoreError
from .store.port import Store, Writer
from .store.schema import Table
from .wire.limits import MAX_ANCHORS, MAX_HOST_BYTES

SECRET_BYTES: Final = 32
SECRET_KEY: Final = b"secret"
"""Row of `Table.PEERS` with the secret of the address book's places; addresses have a `|` in their key."""
ANCHORS_KEY: Final = b"anchors"

_MAX_ROW_BYTES: Final = 4_096

_log = logging.getLogger(__name__)

Rows = Mapping[Table, Mapping[bytes, bytes]]
"""What is to be in the store, by table and key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerMemory:
    """What an earlier run left."""

    book: AddressBook
    bans: BanList
    anchors: tuple[Endpoint, ...]


def load_memory(store: Store, *, random: RandomSource, new_secret: Callable[[], bytes]) -> PeerMemory:
    """Read what an earlier run learnt of peers, and take its anchors away."""
    with store.read() as reader:
        rows = dict(reader.scan(Table.PEERS))
        ban_rows = dict(reader.scan(Table.BANS))
    anchors = _anchors(rows.pop(ANCHORS_KEY, None))
    if anchors:
        try:
            store.transact(lambda writer: writer.delete(Table.PEERS, ANCHORS_KEY))
        except StoreError as error:
            _log.warning("anchors are left in the store: %s", error)
    secret = rows.pop(SECRET_KEY, b"")
    book = AddressBook(secret=secret if len(secret) == SECRET_BYTES else new_secret(), random=random)
    book.restore(_entries(rows.values()))
    bans = BanList()
    for key, value in ban_rows.items():
        try:
            bans.restore(PeerPattern.parse(key.decode()), Ban.decode(value))
        except (DecodeError, ValueError):
            continue
    return PeerMemory(book=book, bans=bans, anchors=anchors)


def _entries(values: Iterable[bytes]) -> list[AddressEntry]:
    """Read what can be read; the addresses that work first, since they have the older right to a place."""
    entries = []
    for value in values:
        try:
            entries.append(AddressEntry.decode(value))
        except DecodeError:
            continue
    return sorted(entries, key=lambda entry: (not entry.tried, entry.endpoint))


def _anchors(row: bytes | None) -> tuple[Endpoint, ...]:
    if row is None:
        return ()
    try:
        items = as_list(unpack(row, max_bytes=_MAX_ROW_BYTES), "anchors", max_items=MAX_ANCHORS)
        pairs = [as_array(item, "anchor", 2) for item in items]
        return tuple(
            (as_text(host, "host", max_bytes=MAX_HOST_BYTES), as_uint(port, "port", U16))
            for host, port in pairs
        )
    except DecodeError:
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerPicture:
    """What is known of peers at one moment: taken on the thread that changes it, written by any."""

    secret: bytes
    entries: tuple[AddressEntry, ...]
    bans: Mapping[PeerPattern, Ban]
    anchors: tuple[Endpoint, ...] = ()
    """Only at a stop in order."""

    def rows(self) -> Rows:
        """Return the rows of both tables."""
        peers = {_key(entry): entry.encode() for entry in self.entries}
        peers[SECRET_KEY] = self.secret
        if self.anchors:
            peers[ANCHORS_KEY] = pack([list(item) for item in self.anchors])
        return {
            Table.PEERS: peers,
            Table.BANS: {str(pattern).encode(): ban.encode() for pattern, ban in self.bans.items()},
        }


def take_picture(
    book: AddressBook, bans: BanList, now_ms: int, anchors: tuple[Endpoint, ...] = ()
) -> PeerPicture:
    """Return what is known now, without bans that ended and addresses that are worth nothing."""
    book.drop_terrible(now_ms)
    return PeerPicture(secret=book.secret, entries=book.to_store(), bans=bans.active(now_ms), anchors=anchors)


def save_picture(store: Store, picture: PeerPicture) -> None:
    """Write a picture in place of the stored one; any thread may. Nothing is written when nothing changed."""
    wanted = picture.rows()
    with store.read() as reader:
        if all(dict(reader.scan(table)) == rows for table, rows in wanted.items()):
            return

    def change(writer: Writer) -> None:
        for table, rows in wanted.items():
            for key, _ in list(writer.scan(table)):
                if key not in rows:
                    writer.delete(table, key)
            writer.put_many(table, sorted(rows.items()))

    store.transact(change)


def _key(entry: AddressEntry) -> bytes:
    return f"{entry.host}|{entry.port}".encode()
