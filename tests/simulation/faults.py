"""What goes wrong in the storm: a table of faults, each drawn with its weight.

Every fault ends by itself; `Faults.end` takes back what still lasts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from .events import Violation
from .links import Host
from .nodes import DISK_SECONDS, SimNode

if TYPE_CHECKING:
    from .world import World

SKEW_MS_MAX: Final = 150_000
"""More than the network's future limit: such a clock's blocks have to wait elsewhere."""
RECOVERY_SECONDS: Final = 10.0
"""A store that failed is tried every other second: by then a node works again."""
FUSE_MAX: Final = 400
"""Store operations after which a process may die: in the middle of a transaction or between two."""


@dataclass(slots=True)
class Cut:
    """A partition: pairs that cannot reach each other until it is mended."""

    pairs: tuple[tuple[Host, Host], ...]
    mended: bool = False


class Faults:
    """See the module's text."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._cuts: list[Cut] = []
        self._table: tuple[tuple[int, Callable[[], None]], ...] = (
            (4, self.partition),
            (3, self.isolate),
            (3, self.kill),
            (4, self.burn_fuse),
            (2, self.lose_power),
            (3, self.freeze),
            (2, self.reset),
            (2, self.shift_clock),
            (1, self.slow_disk),
            (1, self.slow_path),
            (1, self.kill_all),
            (2, self.stop),
            (3, self.fill_disk),
            (2, self.lose_disk),
        )

    def strike(self) -> None:
        """Let one fault happen."""
        if not self._world.storm:
            return
        self._world.faults += 1
        weights = [weight for weight, _ in self._table]
        self._world.events.random.choices(self._table, weights)[0][1]()

    def end(self) -> None:
        """Take back every fault that still lasts."""
        for cut in self._cuts:
            self._mend(cut)
        for node in self._world.nodes:
            node.disk_seconds = DISK_SECONDS
            self._make_room(node)
            if node.frozen:
                node.thaw()

    def _some_node(self) -> SimNode | None:
        running = self._world.running
        return self._world.events.random.choice(running) if running else None

    # The network.

    def partition(self) -> None:
        """Split all hosts in two."""
        hosts: list[Host] = [*self._world.nodes, *self._world.hostile]
        self._world.events.random.shuffle(hosts)
        middle = self._world.events.random.randint(1, len(hosts) - 1)
        self._cut([(left, right) for left in hosts[:middle] for right in hosts[middle:]], "partition")

    def isolate(self) -> None:
        """Cut one node off from everybody."""
        node = self._world.events.random.choice(self._world.nodes)
        self._cut([(node, other) for other in self._world.nodes if other is not node], f"isolate {node.name}")

    def _cut(self, pairs: list[tuple[Host, Host]], what: str) -> None:
        events, reset = self._world.events, self._world.events.random.random() < 0.3
        seconds = events.random.choice((5, 30, 120, 300)) * events.random.uniform(0.5, 1.5)
        events.note("cut", what, f"{seconds:.1f}", reset)
        cut = Cut(tuple(pairs))
        self._cuts.append(cut)
        for left, right in cut.pairs:
            self._world.network.cut(left, right, reset=reset)
            for host in (left, right):
                host.disturbed = events.now
        events.after(seconds, partial(self._mend, cut))

    def _mend(self, cut: Cut) -> None:
        if cut.mended:
            return
        cut.mended = True
        self._world.events.note("mend")
        for left, right in cut.pairs:
            self._world.network.mend(left, right)
            for host in (left, right):
                host.disturbed = self._world.events.now

    def reset(self) -> None:
        """Break some connection."""
        sides = [side for side in self._world.network.sides if side.open]
        if sides:
            self._world.network.reset(self._world.events.random.choice(sides))

    def slow_path(self) -> None:
        """Make one path slow and lossy for good."""
        left, right = self._world.events.random.sample(self._world.nodes, 2)
        path = self._world.network.path(left, right)
        path.latency, path.loss, path.bytes_per_second = 0.8, 0.2, 8e3
        self._world.events.note("slow", left.name, right.name)

    # Processes.

    def kill(self) -> None:
        """End a process between two of its actions."""
        node = self._some_node()
        if node is not None:
            self._kill(node, silent=False)

    def stop(self) -> None:
        """End a process in order, as an operator does."""
        node = self._some_node()
        if node is not None:
            self._world.events.note("stop", node.name)
            node.stop()
            self._world.events.after(
                self._world.events.random.uniform(5, 60), partial(self._world.start, node)
            )

    def lose_power(self) -> None:
        """End a process without a word to its peers."""
        node = self._some_node()
        if node is not None:
            self._kill(node, silent=True)

    def kill_all(self) -> None:
        """End all honest processes at once."""
        for node in self._world.running:
            self._kill(node, silent=True)

    def _kill(self, node: SimNode, *, silent: bool) -> None:
        node.kill(silent=silent)
        down = self._world.events.random.choice((1, 20, 120)) * self._world.events.random.uniform(0.5, 1.5)
        self._world.events.after(down, partial(self._world.start, node))

    def burn_fuse(self) -> None:
        """Let a process die at some operation of its store that is still to come."""
        node = self._some_node()
        if node is not None:
            node.fuse = self._world.events.random.randint(1, FUSE_MAX)
            self._world.events.note("fuse", node.name, node.fuse)

    def freeze(self) -> None:
        """Stop a process for a while."""
        node = self._some_node()
        if node is None:
            return
        seconds = self._world.events.random.choice((2, 15, 60, 150))
        self._world.events.note("freeze", node.name, seconds)
        node.freeze()
        life = node.life

        def thaw() -> None:
            if node.life == life and node.frozen:
                self._world.events.note("thaw", node.name)
                node.thaw()

        self._world.events.after(seconds, thaw)

    def shift_clock(self) -> None:
        """Let a clock be wrong."""
        node = self._world.events.random.choice(self._world.nodes)
        node.skew_ms = self._world.events.random.randint(-SKEW_MS_MAX, SKEW_MS_MAX)
        self._world.events.note("clock", node.name, node.skew_ms)

    def slow_disk(self) -> None:
        """Let every commit of a node take long from now on."""
        node = self._world.events.random.choice(self._world.nodes)
        node.disk_seconds = self._world.events.random.choice((DISK_SECONDS, 0.1, 0.5))
        self._world.events.note("disk", node.name, node.disk_seconds)

    def fill_disk(self) -> None:
        """Let every write of a node fail for a while: it says so, answers reads, and goes on when there is room."""
        node = self._some_node()
        if node is None or node.disk_is_full:
            return
        seconds = self._world.events.random.choice((5, 30, 120)) * self._world.events.random.uniform(0.5, 1.5)
        self._world.events.note("full", node.name, f"{seconds:.1f}")
        node.disk_is_full, node.refused_since = True, None
        self._world.events.after(seconds, partial(self._make_room, node))

    def _make_room(self, node: SimNode) -> None:
        if not node.disk_is_full:
            return
        self._world.events.note("room", node.name, node.refused_since)
        if node.up and not node.frozen:
            node.check_trouble()
        node.disk_is_full = False
        self._world.events.after(
            RECOVERY_SECONDS, partial(self._judge_recovery, node, node.life, self._world.events.now)
        )

    @staticmethod
    def _judge_recovery(node: SimNode, life: int, since: float) -> None:
        undisturbed = node.life == life and node.up and not node.frozen and node.disturbed < since
        if undisturbed and not node.disk_is_full and node.node.store_trouble() is not None:
            raise Violation(
                f"{node.name} still takes nothing {RECOVERY_SECONDS:g} s after its disk had room again"
            )

    def lose_disk(self) -> None:
        """End a process and start it again on an empty store; its identity and settings are kept."""
        node = self._some_node()
        if node is None:
            return
        self._world.events.note("lost disk", node.name)
        node.kill(silent=False)
        node.wipe()
        self._world.on_disk_lost(node)
        down = self._world.events.random.choice((1, 20)) * self._world.events.random.uniform(0.5, 1.5)
        self._world.events.after(down, partial(self._world.start, node))
