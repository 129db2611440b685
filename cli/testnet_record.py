"""testnet.json: what a test network consists of, for the commands that come later.

Owns the file's form and the names of everything in a test network's folder. Refuses to describe a network
that it did not found: `down` removes by these names and nothing else.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Any, Final, Self

from ..node.data_dir import DataDir
from .errors import NotFoundError, UsageError
from .testnet_process import ProcessId

FORMAT: Final = "facechain-testnet-3"
RECORD_FILE: Final = "testnet.json"
GENESIS_FILE: Final = "genesis.json"
WALLET_FOLDER: Final = "wallet"
NODE_PREFIX: Final = "node-"
OUTPUT_FILE: Final = "output.log"
MAX_RECORD_BYTES: Final = 1 << 20
_TYPES: Final = MappingProxyType(
    {
        "name": (str,),
        "mines": (bool,),
        **dict.fromkeys(("peer", "api"), (str, NoneType)),
    }
)
"""Types of a node's fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecord:
    """One node of a test network."""

    name: str
    mines: bool
    process: ProcessId | None = None
    """The process that runs it; None before the first start and after a stop."""
    peer: str | None = None
    """HOST:PORT where peers connect, None before the first start; a restart takes the same."""
    api: str | None = None
    """HOST:PORT of the HTTP API."""
    dials: tuple[str, ...] = ()
    """Names of the nodes that it opens connections to."""

    @property
    def url(self) -> str | None:
        """URL of HTTP API and explorer."""
        return None if self.api is None else f"http://{self.api}"

    def to_json(self) -> dict[str, Any]:
        """Return the entry of testnet.json."""
        process = self.process
        return {
            "name": self.name,
            "mines": self.mines,
            "pid": None if process is None else process.pid,
            "started_ticks": None if process is None else process.started_ticks,
            "peer": self.peer,
            "api": self.api,
            "dials": list(self.dials),
        }

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Read an entry; KeyError or TypeError when it is none."""
        for name, kinds in _TYPES.items():
            if type(entry[name]) not in kinds:
                raise TypeError(f"{name}: expected {kinds[0].__name__}, got {type(entry[name]).__name__}")
        return cls(
            name=entry["name"],
            mines=entry["mines"],
            process=_process(entry["pid"], entry["started_ticks"]),
            peer=entry["peer"],
            api=entry["api"],
            dials=_names(entry["dials"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRecord:
    """A test network: its folder, its id and its nodes by name, in the order of their first start."""

    root: Path
    network_id: bytes
    nodes: Mapping[str, NodeRecord]
    groups: tuple[tuple[str, ...], ...] = ()
    """Nodes that can talk to each other only, while the network is partitioned; empty: everybody can."""
    lan: int | None = None
    """Number of the network of namespaces that the nodes are in; None on loopback."""
    owner: ProcessId | None = None
    """The `testnet up` in the foreground that takes the network down when it ends; None: it is kept."""

    def beyond(self, name: str) -> tuple[str, ...]:
        """Return the names of the nodes that a partition keeps from a node."""
        return tuple(other for group in self.groups if name not in group for other in group)

    @property
    def wallet(self) -> DataDir:
        """Data directory of the person who uses the network: keys, genesis, API token."""
        return DataDir(root=self.root / WALLET_FOLDER)

    @property
    def genesis_file(self) -> Path:
        """The network's genesis."""
        return self.root / GENESIS_FILE

    def data_dir(self, name: str) -> DataDir:
        """Return the data directory of a node."""
        return DataDir(root=self.root / name)

    def output_file(self, name: str) -> Path:
        """Return the file with what a node's processes printed, first start to last."""
        return self.root / name / OUTPUT_FILE

    def made(self) -> Iterator[Path]:
        """Yield everything that belongs to the network, the record last."""
        yield from (self.root / name for name in self.nodes)
        yield self.root / WALLET_FOLDER
        yield self.root / GENESIS_FILE
        yield self.root / RECORD_FILE

    def changed(self, name: str, **fields: Any) -> Self:
        """Return the record with other fields of one node; KeyError when there is none of that name."""
        return replace(self, nodes={**self.nodes, name: replace(self.nodes[name], **fields)})

    def save(self, *, first: bool = False) -> None:
        """Write testnet.json whole or not at all; with `first`, FileExistsError when there is one."""
        content = {
            "format": FORMAT,
            "network_id": self.network_id.hex(),
            "nodes": [node.to_json() for node in self.nodes.values()],
            "groups": [list(group) for group in self.groups],
            "lan": self.lan,
            "owner": None if self.owner is None else asdict(self.owner),
        }
        scratch = self.root / f".{RECORD_FILE}.{os.getpid()}"
        scratch.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        if not first:
            scratch.replace(self.root / RECORD_FILE)
            return
        try:
            os.link(scratch, self.root / RECORD_FILE)
        finally:
            scratch.unlink()

    @classmethod
    def load(cls, root: Path) -> Self:
        """Read testnet.json; NotFoundError when there is none, UsageError when it is something else."""
        path = root / RECORD_FILE
        try:
            with path.open("rb") as file:
                content = json.loads(file.read(MAX_RECORD_BYTES))
        except (FileNotFoundError, NotADirectoryError):
            raise _absent(root) from None
        except (ValueError, RecursionError):
            raise _foreign(path, "other text") from None
        try:
            if content["format"] != FORMAT:
                raise _foreign(path, repr(content["format"]))
            nodes = [NodeRecord.of(entry) for entry in content["nodes"]]
            network_id = bytes.fromhex(content["network_id"])
            groups = tuple(_names(group) for group in content["groups"])
            lan, owner = _number(content["lan"]), content["owner"]
            if owner is not None:
                owner = _process(owner["pid"], owner["started_ticks"])
        except (KeyError, TypeError, ValueError):
            raise _foreign(path, "other fields") from None
        if any(not node.name.startswith(NODE_PREFIX) or "/" in node.name for node in nodes):
            raise _foreign(path, "other names of nodes")
        return cls(
            root=root,
            network_id=network_id,
            nodes={node.name: node for node in nodes},
            groups=groups,
            lan=lan,
            owner=owner,
        )


class FolderLock:
    """Lets one process at a time change a network; a process that holds it may take it again."""

    def __init__(self, root: Path) -> None:
        """Nothing is locked yet."""
        self._root = root
        self._depth = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait for the lock; it ends with its holder. NotFoundError when there is no such folder."""
        if self._depth:
            yield
            return
        try:
            descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            raise _absent(self._root) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._depth += 1
            yield
        finally:
            self._depth = 0
            os.close(descriptor)


def node_names(count: int) -> tuple[str, ...]:
    """Return the names of `count` nodes."""
    return tuple(f"{NODE_PREFIX}{number}" for number in range(1, count + 1))


def _names(found: object) -> tuple[str, ...]:
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise TypeError("names: expected a list of text")
    return tuple(found)


def _number(found: object) -> int | None:
    if found is not None and (type(found) is not int or found < 0):
        raise TypeError(f"expected a whole number from 0 on, got {found!r}")
    return found


def _process(pid: object, started_ticks: object) -> ProcessId | None:
    found = _number(pid), _number(started_ticks)
    if found[0] is None or found[1] is None:
        if found != (None, None):
            raise TypeError(f"process: expected pid and started_ticks, got {pid} and {started_ticks}")
        return None
    return ProcessId(pid=found[0], started_ticks=found[1])


def _absent(root: Path) -> NotFoundError:
    return NotFoundError(
        f"no test network in {root}", advice="start one with: facechain testnet up, or name its --dir"
    )


def _foreign(path: Path, got: str) -> UsageError:
    return UsageError(
        str(path),
        expected=f"a record of format {FORMAT}",
        got=got,
        advice="end its nodes by hand and remove the folder",
    )
