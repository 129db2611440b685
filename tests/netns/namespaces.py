"""Hosts on one machine: a network namespace each, with an address on a common bridge and a disk of its own.

Owns namespaces, bridge, addresses, disks and packet filters. All of it is made inside a network and a mount namespace that
the calling process enters first (`enter`), so that nothing of it is seen outside, and the kernel takes it back when the
last process in there ends, whatever ends it. Knows nothing of nodes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from facechain.cli.errors import CheckFailedError, RefusedError

PROGRAMS: Final = {
    "ip": "iproute2",
    "iptables": "iptables",
    "mount": "mount",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}
"""What is needed, and the Debian package that has it."""
BRIDGE: Final = "fc-bridge"
SUBNET: Final = "10.117.0"
OWN_ADDRESS: Final = f"{SUBNET}.1"
"""Where the calling process is."""
FIRST_HOST: Final = 10
HOSTS_MAX: Final = 200
CHAIN: Final = "facechain-cut"
RESET: Final = ("--tcp-flags", "RST", "RST")
NAMED: Final = Path("/run/netns")
"""Where `ip netns` keeps names; covered by a file system of our own."""
OWN_NETWORK: Final = Path("/proc/self/ns/net")
COMMAND_SECONDS: Final = 20.0
ENTRY: Final = ("unshare", "--net", "--mount", "--propagation", "private")

PROBE: Final = "ip link add fc-a type veth peer name fc-b && iptables --numeric --list >/dev/null"


def require() -> None:
    """Check that hosts can be made here; RefusedError names what is missing."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        packages = " ".join(sorted({PROGRAMS[name] for name in absent}))
        raise RefusedError(
            "network namespaces",
            expected=f"the programs {', '.join(PROGRAMS)}",
            got=f"none called {', '.join(absent)}",
            advice=f"install: apt-get install {packages}",
        )
    if os.geteuid() != 0:
        raise RefusedError(
            "network namespaces", expected="root", got=f"user {os.geteuid()}", advice="run it with sudo"
        )
    made = subprocess.run([*ENTRY, "sh", "-c", PROBE], capture_output=True, text=True, check=False)
    if made.returncode:
        raise RefusedError(
            "network namespaces",
            expected="the right to make them, veth pairs and packet filters (CAP_SYS_ADMIN, CAP_NET_ADMIN)",
            got=made.stderr.strip(),
            advice="run it outside the container, or give it these capabilities",
        )


def own_network() -> str:
    """Return the name of this process's network namespace."""
    return str(OWN_NETWORK.readlink())


def enter(script: Path, arguments: Sequence[str]) -> NoReturn:
    """Become a process in new namespaces that runs `script` with the same interpreter; the process id stays.

    A last argument is added: the name of the network namespace that was left.
    """
    os.execvp(ENTRY[0], [*ENTRY, sys.executable, "-P", str(script), *arguments, own_network()])


def run(*command: str) -> str:
    """Run a system command and return what it printed; CheckFailedError with its words when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS)
    if done.returncode:
        raise CheckFailedError(
            " ".join(command), expected="exit code 0", got=f"{done.returncode}: {done.stderr.strip()}"
        )
    return done.stdout


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One host: its namespace, its address and its disk."""

    name: str
    address: str
    disk: Path

    def inside(self, *command: str) -> list[str]:
        """Return the command line that runs `command` on this host, ended by the kernel when its parent dies."""
        namespace = f"--net={NAMED / self.name}"
        return ["nsenter", namespace, "--", "setpriv", "--pdeathsig", "KILL", "--", *command]

    def shut_out(self, addresses: Iterable[str], *, silently: bool) -> None:
        """Take nothing from `addresses` and send them nothing; `silently`, or with a reset for every packet."""
        others = ",".join(addresses)
        how = ("DROP",) if silently else ("REJECT", "--reject-with", "tcp-reset")
        if not silently:  # the resets themselves have to get out
            self._filter("-A", CHAIN, "--destination", others, "-p", "tcp", *RESET, "-j", "ACCEPT")
        for way in ("--source", "--destination"):
            self._filter("-A", CHAIN, way, others, "-p", "tcp", "-j", *how)

    def let_in(self) -> None:
        """Take back what `shut_out` did."""
        self._filter("-F", CHAIN)

    def prepare_filter(self) -> None:
        """Make the chain of rules that `shut_out` fills."""
        self._filter("-N", CHAIN)
        for way in ("INPUT", "OUTPUT"):
            self._filter("-A", way, "-j", CHAIN)

    def _filter(self, *arguments: str) -> None:
        run(*self.inside("iptables", "--wait", "5", *arguments))


class Lan:
    """All hosts and the bridge between them. Use `opened`."""

    def __init__(self, root: Path, disk_mib: int) -> None:
        self._root = root
        self._disk_mib = disk_mib
        self.hosts: list[Host] = []

    def add(self, name: str) -> Host:
        """Make one more host, connected, with an empty disk."""
        number = FIRST_HOST + len(self.hosts)
        host = Host(name=name, address=f"{SUBNET}.{number}", disk=self._root / name)
        inner, outer = f"fc-i{number}", f"fc-o{number}"
        run("ip", "netns", "add", name)
        run("ip", "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", name)
        run("ip", "link", "set", outer, "master", BRIDGE, "up")
        for command in (
            ("addr", "add", f"{host.address}/24", "dev", inner),
            ("link", "set", inner, "up"),
            ("link", "set", "lo", "up"),
        ):
            run("ip", "-n", name, *command)
        host.disk.mkdir(parents=True)
        run("mount", "-t", "tmpfs", "-o", f"size={self._disk_mib}m,mode=0700", "facechain", str(host.disk))
        host.prepare_filter()
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
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "addr", "add", f"{OWN_ADDRESS}/24", "dev", BRIDGE)
    for link in (BRIDGE, "lo"):
        run("ip", "link", "set", link, "up")
    lan = Lan(root, disk_mib)
    try:
        yield lan
    finally:
        for host in lan.hosts:
            run("umount", "--lazy", str(host.disk))
