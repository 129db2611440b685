"""Hosts on one machine: a network namespace each, with an address on a common bridge and a packet filter of its own.

Owns namespaces, cables, bridge, addresses and filters, by the programs ip(8), iptables(8) and nsenter(1): a filter needs
a program in any case, and a validator should carry no netlink library for this. The bridge is in a namespace of its
own, so that no filter of the machine (Docker's, for one) decides what passes on it; outside there is one interface,
through which the machine's user reaches all hosts. Hosts reach nothing beyond it. Knows nothing of nodes.
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from .errors import CheckFailedError, RefusedError, UsageError

PROGRAMS: Final[Mapping[str, str]] = {
    "ip": "iproute2",
    "iptables": "iptables",
    "iptables-restore": "iptables",
    "nsenter": "util-linux",
    "unshare": "util-linux",
}
"""What is needed, and the Debian package that has it."""
_ENTRY: Final = ("unshare", "--net", "--mount", "sh", "-c")
_PROBE: Final = "ip link add fc-a type veth peer name fc-b && iptables --numeric --list >/dev/null"
COMMAND_SECONDS: Final = 20.0
PREFIX: Final = "facechain-"
SUBNETS: Final = "10.117"
"""Network number N has the addresses SUBNETS.N.0/24."""
NUMBERS: Final = 256
ROUTE_BITS_MIN: Final = 16
"""A number is left out where a route of at least so many bits leads to its addresses."""
OWN_HOST: Final = 1
FIRST_HOST: Final = 11
HOSTS_MAX: Final = 200
NAMED: Final = Path("/run/netns")
"""Where `ip netns` keeps names."""
BRIDGE: Final = "bridge"
UPLINK: Final = "uplink"
PORT: Final = "eth0"
"""A host's interface."""
CHAIN: Final = "facechain-cut"
OWNER_BYTES_MAX: Final = 255
"""IFALIASZ of the kernel, less the NUL."""
_NAME: Final = re.compile(rf"{PREFIX}(\d+)(-.+)?")


def require(programs: Mapping[str, str] = PROGRAMS) -> None:
    """Check that hosts can be made here; RefusedError names what is missing."""
    absent = [name for name in programs if shutil.which(name) is None]
    if absent:
        packages = " ".join(sorted({programs[name] for name in absent}))
        raise RefusedError(
            "network namespaces",
            expected=f"the programs {', '.join(programs)}",
            got=f"none called {', '.join(absent)}",
            advice=f"on Debian and Ubuntu: apt-get install {packages}",
        )
    if os.geteuid() != 0:
        raise RefusedError(
            "network namespaces", expected="root", got=f"user {os.geteuid()}", advice="run it with sudo"
        )
    made = subprocess.run([*_ENTRY, _PROBE], capture_output=True, text=True, check=False)
    if made.returncode:
        raise RefusedError(
            "network namespaces",
            expected="the right to make them, veth pairs and packet filters (CAP_SYS_ADMIN, CAP_NET_ADMIN)",
            got=made.stderr.strip(),
            advice="run it outside the container, or give it these capabilities",
        )


def run(*command: str, given: str = "") -> str:
    """Run a system command with `given` as its input and return what it printed.

    CheckFailedError with its words when it fails.
    """
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS
    )
    if done.returncode:
        raise CheckFailedError(
            " ".join(command), expected="exit code 0", got=f"{done.returncode}: {done.stderr.strip()}"
        )
    return done.stdout


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One host: the name of its namespace, and its address."""

    namespace: str
    address: str

    def inside(self, *command: str) -> list[str]:
        """Return the command line that runs `command` on this host; the process id stays that of the caller's child."""
        return ["nsenter", f"--net={NAMED / self.namespace}", "--", *command]

    def shut_out(self, addresses: Iterable[str], *, silently: bool = True) -> None:
        """Take nothing from `addresses` any more and send them nothing, whatever was said before.

        `silently`, or with a reset for every packet.
        """
        others = ",".join(addresses)
        how = "DROP" if silently else "REJECT --reject-with tcp-reset"
        rules = [f"{way} {others} -p tcp -j {how}" for way in ("--source", "--destination")]
        if not silently:  # the resets themselves have to get out
            rules.insert(0, f"--destination {others} -p tcp --tcp-flags RST RST -j ACCEPT")
        self._filter([f"-A {CHAIN} {rule}" for rule in rules])

    def let_in(self) -> None:
        """Take back what `shut_out` did."""
        self._filter([])

    def prepare(self) -> None:
        """Make the chain of rules that `shut_out` fills."""
        self._filter([f"-A {way} -j {CHAIN}" for way in ("INPUT", "OUTPUT")])

    def _filter(self, rules: Iterable[str]) -> None:
        """Make these the rules of the chain, at one instant: nothing slips through between old and new ones."""
        lines = ("*filter", f":{CHAIN} - [0:0]", *rules, "COMMIT", "")
        run(*self.inside("iptables-restore", "--noflush", "--wait", "5"), given="\n".join(lines))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lan:
    """A bridge and the hosts on it, known by its number. `claim` makes one, `remove` takes it away."""

    number: int

    @classmethod
    def claim(cls, owner: str = "") -> Self:
        """Make a bridge with the first number that is free here; `owner` is kept beside it, see `owner`.

        Hold `only_one_at_work` around it. RefusedError when no number is free.
        """
        if len(os.fsencode(owner)) > OWNER_BYTES_MAX:
            raise UsageError(
                "network namespaces",
                expected=f"a folder's path of at most {OWNER_BYTES_MAX} bytes",
                got=owner,
            )
        taken, routes = numbers_in_use(), _routes()
        for number in range(NUMBERS):
            lan = cls(number=number)
            if number not in taken and not any(lan.subnet.overlaps(route) for route in routes):
                lan._build(owner)
                return lan
        raise RefusedError("network namespaces", expected=f"a free network {SUBNETS}.N.0/24", got="none")

    @property
    def subnet(self) -> ipaddress.IPv4Network:
        """All addresses of it."""
        return ipaddress.IPv4Network(f"{SUBNETS}.{self.number}.0/24")

    @property
    def own_address(self) -> str:
        """The machine's address on it."""
        return str(self.subnet[OWN_HOST])

    @property
    def interface(self) -> str:
        """The machine's interface on it."""
        return f"{PREFIX}{self.number}"

    @property
    def owner(self) -> str | None:
        """Whom it was claimed for; None when the claim was cut short."""
        return _interfaces().get(self.interface)

    @property
    def _switch(self) -> str:
        return f"{PREFIX}{self.number}-lan"

    def _build(self, owner: str) -> None:
        run("ip", "netns", "add", self._switch)
        inside = ("ip", "-n", self._switch, "link")
        run(*inside, "add", BRIDGE, "type", "bridge")
        run(
            "ip", "link", "add", self.interface, "type", "veth", "peer", "name", UPLINK, "netns", self._switch
        )
        run(*inside, "set", UPLINK, "master", BRIDGE, "up")
        run(*inside, "set", BRIDGE, "up")
        if owner:
            run("ip", "link", "set", self.interface, "alias", owner)
        run("ip", "addr", "add", f"{self.own_address}/24", "dev", self.interface)
        run("ip", "link", "set", self.interface, "up")

    def host(self, name: str, place: int) -> Host:
        """Return host number `place` (from 0 on), made or not."""
        return Host(namespace=f"{PREFIX}{self.number}-{name}", address=str(self.subnet[FIRST_HOST + place]))

    def add(self, name: str, place: int) -> Host:
        """Make a host, connected to the bridge."""
        host, port = self.host(name, place), f"port-{place}"
        run("ip", "netns", "add", host.namespace)
        cable = ("type", "veth", "peer", "name", PORT, "netns", host.namespace)
        run("ip", "-n", self._switch, "link", "add", port, *cable)
        run("ip", "-n", self._switch, "link", "set", port, "master", BRIDGE, "up")
        for command in (
            ("addr", "add", f"{host.address}/24", "dev", PORT),
            ("link", "set", PORT, "up"),
            ("link", "set", "lo", "up"),
        ):
            run("ip", "-n", host.namespace, *command)
        host.prepare()
        return host

    def namespaces(self) -> list[str]:
        """Return the names of all namespaces that there are of it."""
        return [name for name in _names() if name.startswith(f"{PREFIX}{self.number}-")]

    def processes(self) -> list[int]:
        """Return the ids of all processes in them."""
        return [int(pid) for name in self.namespaces() for pid in run("ip", "netns", "pids", name).split()]

    def remove(self) -> None:
        """Take away all that there is of it; nothing happens where nothing is left."""
        if self.interface in _interfaces():
            run("ip", "link", "delete", self.interface)
        for name in self.namespaces():
            run("ip", "netns", "delete", name)


def numbers_in_use() -> list[int]:
    """Return the numbers of all networks of which something is here."""
    return sorted({int(match[1]) for name in (*_names(), *_interfaces()) if (match := _NAME.fullmatch(name))})


@contextmanager
def only_one_at_work() -> Iterator[None]:
    """Wait until no other process claims or clears networks; the lock ends with its holder."""
    descriptor = os.open(NAMED.parent, os.O_RDONLY | os.O_DIRECTORY)  # ip(8) locks NAMED itself
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _names() -> list[str]:
    return sorted(path.name for path in NAMED.iterdir()) if NAMED.is_dir() else []


def _interfaces() -> dict[str, str]:
    """Return the machine's interfaces and what is written beside them."""
    listed = json.loads(run("ip", "-json", "link", "show"))
    return {link["ifname"]: link.get("ifalias", "") for link in listed}


def _routes() -> list[ipaddress.IPv4Network]:
    """Return the networks to which this machine has a way, without those so wide that a small one hides little."""
    listed = json.loads(run("ip", "-json", "-4", "route", "show", "table", "all") or "[]")
    found = [ipaddress.IPv4Network(item["dst"]) for item in listed if item["dst"] != "default"]
    return [network for network in found if network.prefixlen >= ROUTE_BITS_MIN]
