"""A test network at work: its nodes are started, looked at, killed, started again and ended.

Owns the record while it changes and the deadlines. The demo and the tests drive a network through it, just as
the commands do.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .errors import CheckFailedError, CommandError, NotFoundError, RefusedError
from .testnet_branches import Agreement
from .testnet_founding import PRODUCER, found_testnet
from .testnet_process import ProcessId, own_command, send, spawn, uninterrupted, wait_for_end
from .testnet_record import FolderLock, NetworkRecord, NodeRecord
from .testnet_site import LOOPBACK, site_of

if TYPE_CHECKING:
    from .answers import NodeStatus

START_SECONDS: Final = 60.0
"""A node has its ports open within this time."""
CONNECT_SECONDS: Final = 60.0
"""All nodes have peers and one tip within this time."""
STOP_SECONDS: Final = 15.0
"""What SIGTERM did not end after this time is killed."""
KILL_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.05
STATUS_SECONDS: Final = 5.0
"""A node that does not answer within this time is shown without a tip."""
LOG_LINES: Final = 4
LOG_TAIL_BYTES: Final = 8_192
ANY_PORT: Final = f"{LOOPBACK}:0"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """A node as it was found."""

    node: NodeRecord
    is_running: bool
    status: NodeStatus | None
    """None when it does not answer."""

    @property
    def tip(self) -> tuple[int, bytes] | None:
        """Height and hash."""
        return None if self.status is None else (self.status.height, self.status.tip)

    @property
    def peers(self) -> int:
        """Connected peers."""
        return 0 if self.status is None else int(self.status.content.get("peers", 0))

    @property
    def mempool(self) -> int:
        """Statements that wait."""
        return 0 if self.status is None else int(self.status.content.get("mempool", {}).get("statements", 0))

    @property
    def equivocators(self) -> int:
        """Keys that it saw say two things in one place since it started."""
        return 0 if self.status is None else int(self.status.content.get("equivocations", {}).get("keys", 0))


Until = Callable[[tuple[NodeView, ...]], bool | Awaitable[bool]]


class TrialNetwork:
    """One network. Made by `found` or `open`; nothing runs before `start`."""

    def __init__(self, record: NetworkRecord) -> None:
        """Take over a network that is recorded on disk."""
        self.record = record
        self._site = site_of(record)
        self._lock = FolderLock(record.root)
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    @classmethod
    def found(
        cls, root: Path, *, count: int, mines: bool, namespaces: bool = False, **shape: Any
    ) -> TrialNetwork:
        """Make a new network in a new or empty folder; see `found_testnet`, also for `shape`.

        With `namespaces` every node gets a host of its own, see `testnet_namespaces`; RefusedError when that cannot be.
        """
        if not namespaces:
            return cls(found_testnet(root.absolute(), count=count, mines=mines, **shape))
        from .testnet_hosts import require
        from .testnet_namespaces import made_hosts

        require()
        network = cls(found_testnet(root.absolute(), count=count, mines=mines, **shape))
        try:
            with made_hosts(network.record) as record:
                record.save()
        except BaseException:
            with uninterrupted():
                network.remove()
            raise
        return cls(record)

    @classmethod
    def open(cls, root: Path) -> TrialNetwork:
        """Return the network in `root`; NotFoundError when there is none."""
        return cls(NetworkRecord.load(root.absolute()))

    @property
    def nodes(self) -> tuple[NodeRecord, ...]:
        """All nodes, the first one first."""
        return tuple(self.record.nodes.values())

    def node(self, name: str) -> NodeRecord:
        """Return a node by name; KeyError when there is none."""
        return self.record.nodes[name]

    # Starting.

    def start_all(self) -> None:
        """Start the nodes that dial nobody, then the others, and wait until all take connections.

        Raises:
            RefusedError: a node ended at its start; the text has the end of its log.
            CheckFailedError: a node took too long.
        """
        self.start([node.name for node in self.nodes if not node.dials])
        self.start([node.name for node in self.nodes if node.dials])

    def start(self, names: Sequence[str]) -> None:
        """Start nodes at the same time; see `start_all`. A partition holds for a node that is started again."""
        for name in names:
            if self.node(name).peer is None:
                peer, api = self._site.places(name)
                self._change(name, peer=peer, api=api)
        for name in names:
            self._spawn(name)
        deadline = time.monotonic() + START_SECONDS
        for name in names:
            self._await_ports(name, deadline)
        self._site.divide(self.record, names)

    def _spawn(self, name: str) -> None:
        node, layout = self.node(name), self.record.data_dir(name)
        peers = [peer for dialed in node.dials if (peer := self.node(dialed).peer) is not None]
        arguments = ["--data-dir", str(layout.root), "--genesis", str(self.record.genesis_file)]
        arguments += ["--listen", node.peer or ANY_PORT, "--api", node.api or ANY_PORT]
        if peers:
            arguments += ["--peers", ",".join(peers)]
        if node.mines:
            arguments += ["--mine", "--mining-key", PRODUCER]
        with uninterrupted():
            command = self._site.command(name, own_command("node", "start", *arguments))
            child = spawn(command, output=self.record.output_file(name))
            self._children[name] = child
            self._change(name, process=ProcessId.of(child.pid))

    def _await_ports(self, name: str, deadline: float) -> None:
        """Wait for the node's own word that its ports are open, and record them."""
        child, run_file = self._children[name], self.record.data_dir(name).root / "node.json"
        while True:
            found = _run_file(run_file)
            if found.get("pid") == child.pid:
                break
            if child.poll() is not None:
                raise RefusedError(
                    f"{name}: expected a node that starts, got exit code {child.returncode}: "
                    + self.last_words(name)
                )
            if time.monotonic() > deadline:
                raise CheckFailedError(
                    name,
                    expected=f"open ports within {START_SECONDS:g} s",
                    got=f"none: {self.last_words(name)}",
                )
            time.sleep(POLL_SECONDS)
        self._change(name, peer=str(found["peer"]), api=str(found["api"]))

    def last_words(self, name: str) -> str:
        """Return the last lines that a node printed, on one line."""
        try:
            content = self.record.output_file(name).read_bytes()[-LOG_TAIL_BYTES:]
        except OSError:
            content = b""
        lines = [line.strip() for line in content.decode("utf-8", "replace").splitlines() if line.strip()]
        if lines and lines[-1].startswith("error: "):
            return lines[-1].removeprefix("error: ")
        return " | ".join(lines[-LOG_LINES:]) or "it said nothing"

    def _change(self, name: str, **fields: Any) -> None:
        """Change one node's entry; what other commands changed in the meantime stays."""
        with self._lock.held():
            self.reload()
            self.record = self.record.changed(name, **fields)
            self.record.save()

    def reload(self) -> None:
        """Take in what other commands changed, once none is at it; NotFoundError when the network was taken down."""
        with self._lock.held():
            found = NetworkRecord.load(self.record.root)
        if found.network_id != self.record.network_id:
            raise NotFoundError(f"the test network is gone; another one is in {self.record.root}")
        self.record = found

    def keep(self) -> None:
        """Let the network outlive the process that founded it."""
        with self._lock.held():
            self.reload()
            self.record = replace(self.record, owner=None)
            self.record.save()

    # Dividing.

    def partition(self, groups: Sequence[Sequence[str]]) -> None:
        """Let nodes of different groups keep each other out, and end their connections; `groups` name every node."""
        self._set_groups(tuple(map(tuple, groups)))

    def heal(self) -> None:
        """Let all nodes talk to each other again."""
        self._set_groups(())

    def _set_groups(self, groups: tuple[tuple[str, ...], ...]) -> None:
        with self._lock.held():
            self.reload()
            self.record = replace(self.record, groups=groups)
            self.record.save()
        self._site.divide(self.record, [node.name for node in self.nodes if self.runs(node.name)])

    # Looking.

    def runs(self, name: str) -> bool:
        """Tell whether the node's process runs."""
        child, process = self._children.get(name), self.node(name).process
        if child is not None:
            child.poll()  # one that has ended is not left a zombie
        return process is not None and process.runs(str(self.record.data_dir(name).root))

    def look(self) -> tuple[NodeView, ...]:
        """Ask all nodes for their status at the same time; NotFoundError when the network was taken down."""
        self.reload()
        return asyncio.run(self._look())

    async def _look(self) -> tuple[NodeView, ...]:
        return tuple(await asyncio.gather(*(self._look_at(node) for node in self.nodes)))

    async def _look_at(self, node: NodeRecord) -> NodeView:
        from .client import NodeClient

        is_running, status = self.runs(node.name), None
        if is_running and node.url is not None:
            with suppress(CommandError):
                async with NodeClient(node.url, request_seconds=STATUS_SECONDS) as client:
                    status = await client.status()
        return NodeView(node=node, is_running=is_running, status=status)

    def wait(self, until: Until, *, seconds: float, what: str) -> tuple[NodeView, ...]:
        """Look again and again until `until` says so; CheckFailedError after `seconds`."""
        return asyncio.run(self._wait(until, seconds=seconds, what=what))

    async def _wait(self, until: Until, *, seconds: float, what: str) -> tuple[NodeView, ...]:
        deadline = time.monotonic() + seconds
        while True:
            views = await self._look()
            answer = until(views)
            if answer if isinstance(answer, bool) else await answer:
                return views
            if time.monotonic() > deadline:
                got = ", ".join(f"{view.node.name} {_seen(view)}" for view in views)
                raise CheckFailedError("test network", expected=f"{what} within {seconds:g} s", got=got)
            await asyncio.sleep(POLL_SECONDS)

    def wait_connected(self) -> tuple[NodeView, ...]:
        """Wait until every node has a peer and all agree, see `Agreement`."""
        agreement, lonely = Agreement(), len(self.nodes) == 1

        async def are_connected(views: Sequence[NodeView]) -> bool:
            return (lonely or all(view.peers for view in views)) and await agreement.reached(views)

        return self.wait(
            are_connected, seconds=CONNECT_SECONDS, what="nodes with peers that agree on a block"
        )

    def wait_agreed(self, *, seconds: float) -> tuple[NodeView, ...]:
        """Wait until all nodes that run agree, see `Agreement`."""
        agreement = Agreement()

        async def agree(views: Sequence[NodeView]) -> bool:
            return await agreement.reached([view for view in views if view.is_running])

        return self.wait(agree, seconds=seconds, what="running nodes that agree on a block")

    # Ending.

    def kill(self, name: str) -> None:
        """SIGKILL a node, as a power cut would; its record keeps the addresses."""
        self._end([name], signal.SIGKILL, KILL_SECONDS)

    def restart(self, names: Sequence[str]) -> None:
        """End nodes in order where they run, and start them at the same addresses; see `start_all`."""
        for name in names:
            self.thaw(name)
        left = self._end(names, signal.SIGTERM, STOP_SECONDS)
        self._end(left, signal.SIGKILL, KILL_SECONDS)
        self.start(names)

    def freeze(self, name: str) -> None:
        """SIGSTOP a node: it keeps its connections and does nothing."""
        self._signal(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """SIGCONT a node that was frozen, and tell it of a partition that it slept through."""
        self._signal(name, signal.SIGCONT)
        if self.runs(name):
            self._site.divide(self.record, [name])

    def _signal(self, name: str, number: signal.Signals) -> None:
        self.reload()
        process = self.node(name).process
        if process is not None:
            send(process, number, argument=str(self.record.data_dir(name).root))

    def stop(self) -> tuple[str, ...]:
        """End all nodes, the hard way after `STOP_SECONDS`; return the names of those killed."""
        names = [node.name for node in self.nodes]
        killed = self._end(names, signal.SIGTERM, STOP_SECONDS)
        left = self._end(killed, signal.SIGKILL, KILL_SECONDS)
        if left:
            raise CheckFailedError(
                "test network", expected="all nodes ended", got=f"{', '.join(left)} still running"
            )
        return killed

    def _end(self, names: Sequence[str], number: signal.Signals, seconds: float) -> tuple[str, ...]:
        """Signal nodes and wait; return the names of those that still run."""
        self.reload()
        processes = {name: process for name in names if (process := self.node(name).process) is not None}
        for name, process in processes.items():
            send(process, number, argument=str(self.record.data_dir(name).root))
        left = wait_for_end(processes.values(), seconds=seconds)
        for name, process in processes.items():
            if process not in left:
                self._reap(name)
        return tuple(name for name, process in processes.items() if process in left)

    def _reap(self, name: str) -> None:
        child = self._children.pop(name, None)
        if child is not None:
            child.wait()
        self._change(name, process=None)

    def take_down(self) -> tuple[tuple[str, ...], bool] | None:
        """End all nodes and remove everything; return those killed and whether the folder is gone.

        None when somebody else has done it. Of two processes that do it at once, one waits for the other.
        """
        try:
            with self._lock.held():
                self.reload()
                return self.stop(), self.remove()
        except NotFoundError:
            for child in self._children.values():  # started after the network was taken down
                child.kill()
                child.wait()
            return None

    def remove(self) -> bool:
        """Remove what the network made, and its folder when nothing else is in it; tell whether that was so."""
        self._site.remove()
        for path in self.record.made():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        try:
            self.record.root.rmdir()
        except OSError:
            return False
        return True


def have_one_tip(views: Sequence[NodeView]) -> bool:
    """Tell whether all nodes answer, with the same height and the same hash."""
    return None not in (tips := {view.tip for view in views}) and len(tips) == 1


def _seen(view: NodeView) -> str:
    if view.status is None:
        return "silent" if view.is_running else "ended"
    return f"at {view.status.height} {view.status.tip.hex()[:12]} with {view.peers} peers"


def _run_file(path: Path) -> dict[str, Any]:
    """Return what node.json says; nothing when it is not there."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
