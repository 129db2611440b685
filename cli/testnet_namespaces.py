"""A test network on hosts of its own: each node in a network namespace, partitions by packets that are dropped.

Owns which host belongs to which node, and what becomes of hosts that an earlier network left behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from .errors import CommandError
from .output import say
from .testnet_hosts import Host, Lan, numbers_in_use, only_one_at_work, require
from .testnet_process import uninterrupted
from .testnet_record import NetworkRecord

PEER_PORT: Final = 7440
API_PORT: Final = 7441


class Namespaces:
    """The hosts of one network."""

    def __init__(self, record: NetworkRecord) -> None:
        """Take a network that was founded with hosts."""
        if record.lan is None:
            raise ValueError("expected a network with hosts of its own, got one on loopback")
        self._lan = Lan(number=record.lan)
        self._names = list(record.nodes)

    def _host(self, name: str) -> Host:
        return self._lan.host(name, self._names.index(name))

    def places(self, name: str) -> tuple[str, str]:
        """Return the usual ports at the host's address."""
        address = self._host(name).address
        return f"{address}:{PEER_PORT}", f"{address}:{API_PORT}"

    def command(self, name: str, command: Sequence[str]) -> list[str]:
        """Return the command line that runs on the node's host."""
        return self._host(name).inside(*command)

    def divide(self, record: NetworkRecord, names: Sequence[str]) -> None:
        """Drop what passes between the groups, at the hosts of all nodes, whether they run or not."""
        for name in record.nodes:
            host = self._host(name)
            host.let_in()
            if beyond := record.beyond(name):
                host.shut_out([self._host(other).address for other in beyond])

    def remove(self) -> None:
        """Take all hosts away."""
        with only_one_at_work():
            self._lan.remove()


@contextmanager
def made_hosts(record: NetworkRecord) -> Iterator[NetworkRecord]:
    """Make hosts for a network and yield its record with their number; an error in the context takes them back.

    Nodes take orders of their operator from the machine's own address on the bridge, too. What earlier networks left is cleared before. RefusedError names what is missing here.
    """
    require()
    with only_one_at_work():
        _clear_leftovers()
        lan = Lan.claim(str(record.root))
        try:
            for place, name in enumerate(record.nodes):
                lan.add(name, place)
                with record.data_dir(name).config_file.open("a", encoding="utf-8") as settings:
                    settings.write(f'api_admin = ["{lan.own_address}"]\n')
            yield replace(record, lan=lan.number)
        except BaseException:
            with uninterrupted():
                lan.remove()
            raise


def _clear_leftovers() -> None:
    """Remove hosts that no network knows of; name those in which a process still runs, and leave them alone."""
    for number in numbers_in_use():
        lan = Lan(number=number)
        owner = lan.owner
        if owner and _is_known(Path(owner), number):
            continue
        what = f"namespaces {lan.interface}-* of a test network that is gone ({owner or 'no folder'})"
        processes = lan.processes()
        if processes:
            say(f"left alone: {what}; these processes are in them: {', '.join(map(str, processes))}")
            continue
        lan.remove()
        say(f"removed: {what}")


def _is_known(root: Path, number: int) -> bool:
    try:
        return NetworkRecord.load(root).lan == number
    except CommandError:
        return False
