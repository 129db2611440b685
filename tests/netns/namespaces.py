"""Hosts of `facechain testnet --namespaces`, with a disk of its own each, where nothing is left of them in any case.

Owns disks and the network and mount namespace that the calling process enters first (`enter`): all hosts are made in there,
so that nothing of them is seen outside, and the kernel takes them back when the last process in there ends, whatever ends
it. Knows nothing of nodes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from facechain.cli import testnet_hosts
from facechain.cli.errors import RefusedError
from facechain.cli.testnet_hosts import NAMED, run

PROGRAMS: Final = {**testnet_hosts.PROGRAMS, "mount": "mount", "setpriv": "util-linux"}
HOSTS_MAX: Final = testnet_hosts.HOSTS_MAX
OWN_NETWORK: Final = Path("/proc/self/ns/net")
ENTRY: Final = ("unshare", "--net", "--mount", "--propagation", "private")


def require() -> None:
    """Check that hosts can be made here; RefusedError names what is missing."""
    testnet_hosts.require(PROGRAMS)


def own_network() -> str:
    """Return the name of this process's network namespace."""
    return str(OWN_NETWORK.readlink())


def enter(script: Path, arguments: Sequence[str]) -> NoReturn:
    """Become a process in new namespaces that runs `script` with the same interpreter; the process id stays.

    A last argument is added: the name of the network namespace that was left.
    """
    os.execvp(ENTRY[0], [*ENTRY, sys.executable, "-P", str(script), *arguments, own_network()])


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One host and its disk."""

    name: str
    disk: Path
    place: testnet_hosts.Host

    @property
    def address(self) -> str:
        return self.place.address

    def inside(self, *command: str) -> list[str]:
        """Return the command line that runs `command` on this host, ended by the kernel when its parent dies."""
        return self.place.inside("setpriv", "--pdeathsig", "KILL", "--", *command)

    def shut_out(self, addresses: Iterable[str], *, silently: bool) -> None:
        """Take nothing from `addresses` and send them nothing; `silently`, or with a reset for every packet."""
        self.place.shut_out(addresses, silently=silently)

    def let_in(self) -> None:
        """Take back what `shut_out` did."""
        self.place.let_in()


class Lan:
    """All hosts and the bridge between them. Use `opened`."""

    def __init__(self, root: Path, disk_mib: int) -> None:
        self._root = root
        self._disk_mib = disk_mib
        self._lan = testnet_hosts.Lan.claim()
        self.hosts: list[Host] = []

    def add(self, name: str) -> Host:
        """Make one more host, connected, with an empty disk."""
        place = self._lan.add(name, len(self.hosts))
        host = Host(name=name, disk=self._root / name, place=place)
        host.disk.mkdir(parents=True)
        run("mount", "-t", "tmpfs", "-o", f"size={self._disk_mib}m,mode=0700", "facechain", str(host.disk))
        self.hosts.append(host)
        return host


@contextmanager
def opened(root: Path, *, outside: str, disk_mib: int) -> Iterator[Lan]:
    """Make the bridge, and in the end unmount the disks.

    `outside`: the network namespace that `enter` left. RefusedError when it was not left.
    """
    if own_network() == outside:
        raise RefusedError("hosts", expected="a network namespace of their own", got="that of the machine")
    NAMED.mkdir(exist_ok=True)
    run("mount", "-t", "tmpfs", "facechain", str(NAMED))
    run("ip", "link", "set", "lo", "up")
    lan = Lan(root, disk_mib)
    try:
        yield lan
    finally:
        for host in lan.hosts:
            run("umount", "--lazy", str(host.disk))
