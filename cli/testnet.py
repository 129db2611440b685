"""`facechain testnet`: a network of several nodes on this machine, for trying things out.

Owns the commands and what they print; `testnet_network` does the work.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from .errors import CheckFailedError
from .options import LongNameOption, examples, json_option
from .output import columns, emit, say
from .testnet_founding import WALLET_KEYS
from .testnet_process import terminating, uninterrupted
from .testnet_record import NODE_PREFIX, node_names
from .testnet_topology import DEFAULT_DEGREE, Topology

if TYPE_CHECKING:
    from rich.table import Table

    from .testnet_network import NodeView, TrialNetwork
    from .testnet_record import NetworkRecord
    from .testnet_scenario import Step

MAX_NODES: Final = 64
FOLDER: Final = "facechain-testnet"
REDRAW_SECONDS: Final = 1.0
HEADINGS: Final = ("NODE", "PID", "PEERS AT", "API AND EXPLORER", "HEIGHT", "TIP", "PEERS", "MEMPOOL")
TIP_DIGITS: Final = 16


def _root(_context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path:
    if value is not None:
        return value.expanduser().absolute()
    from ..node.data_dir import default_data_dir

    return default_data_dir().with_name(FOLDER)


dir_option = click.option(
    "--dir",
    "root",
    cls=LongNameOption,
    type=click.Path(path_type=Path, file_okay=False),
    envvar="FACECHAIN_TESTNET_DIR",
    show_envvar=True,
    callback=_root,
    help=f"Folder of the network.  [default: {FOLDER} beside the platform's folder for user data]",
)


@click.group()
def testnet() -> None:
    """Run a network of several nodes on loopback.

    Real processes with real keys, blocks about every second, and no value outside this machine.
    """


@testnet.command(
    epilog=examples(
        "facechain testnet up --nodes 4 --mine",
        "facechain testnet up --nodes 4 --mine --keep --json",
        "facechain testnet up --nodes 8 --mine --topology ring --scenario partition.toml",
    )
)
@click.option(
    "--nodes", type=click.IntRange(1, MAX_NODES), default=4, show_default=True, help="Number of nodes."
)
@click.option("--mine", is_flag=True, help="Let the first node seal blocks.")
@click.option(
    "--topology",
    type=click.Choice([str(item) for item in Topology]),
    default=str(Topology.GOSSIP),
    show_default=True,
    help="Who connects to whom. With gossip the nodes find each other; the others are fixed.",
)
@click.option(
    "--degree",
    type=click.IntRange(1, MAX_NODES),
    default=DEFAULT_DEGREE,
    show_default=True,
    help="Links of a node on average, for --topology random.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Decides --topology random.")
@click.option(
    "--scenario",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file of what happens to the nodes, step by step, once all are up (docs/testnet.md).",
)
@click.option("--keep", is_flag=True, help="Leave the nodes running and return; end them with down.")
@dir_option
@json_option
def up(
    *,
    nodes: int,
    mine: bool,
    topology: str,
    degree: int,
    seed: int,
    scenario: Path | None,
    keep: bool,
    root: Path,
    as_json: bool,
) -> None:
    """Found a network, start its nodes and run them until Ctrl-C.

    Ctrl-C ends the nodes and removes everything.
    """
    from .testnet_network import TrialNetwork
    from .testnet_scenario import read_scenario

    steps = () if scenario is None else read_scenario(scenario, node_names(nodes))
    with terminating():
        network = TrialNetwork.found(
            root, count=nodes, mines=mine, topology=Topology(topology), degree=degree, seed=seed
        )
        try:
            say(f"starting {nodes} nodes in {root}")
            network.start_all()
            views = network.wait_connected()
            emit(_as_json(network.record, views), as_json=as_json, lines=[])
            if not as_json:
                _print(views)
            for step in steps:
                time.sleep(step.after_seconds)
                say(str(step))
                _take(network, step)
            if keep:
                _explain(network, keep=True)
                return
            with suppress(KeyboardInterrupt):
                _explain(network, keep=False)
                _watch(network, live=not as_json)
        except BaseException:
            _take_down(network)
            raise
        _take_down(network)


def _take(network: TrialNetwork, step: Step) -> None:
    """Do one step of a scenario; CheckFailedError when what it waits for does not come."""
    from .testnet_network import have_one_tip
    from .testnet_scenario import Deed

    if step.deed is Deed.PARTITION:
        network.partition(step.groups)
    elif step.deed is Deed.HEAL:
        network.heal()
    elif step.deed is Deed.RESTART:
        network.restart(step.nodes)
    elif step.deed is Deed.ONE_TIP:
        network.wait(
            lambda views: have_one_tip([view for view in views if view.is_running]),
            seconds=step.within_seconds,
            what="one tip",
        )
    else:
        change = {Deed.KILL: network.kill, Deed.FREEZE: network.freeze, Deed.THAW: network.thaw}[step.deed]
        for name in step.nodes:
            change(name)


@testnet.command(
    epilog=examples(
        "facechain testnet partition node-1,node-2", "facechain testnet partition node-1 node-2,node-3 node-4"
    )
)
@click.argument("groups", nargs=-1, required=True, metavar="NAME,NAME… …")
@dir_option
def partition(*, groups: Sequence[str], root: Path) -> None:
    """Divide the network: nodes of different groups keep each other out.

    Each argument is one group; nodes that none names are one more. It replaces an earlier partition.
    """
    from .testnet_network import TrialNetwork
    from .testnet_scenario import check_groups, check_names

    network = TrialNetwork.open(root)
    known = list(network.record.nodes)
    named = [check_names("partition", group.split(","), known) for group in groups]
    divided = check_groups("partition", named, known)
    network.partition(divided)
    say("divided: " + " | ".join(map(", ".join, divided)))


@testnet.command(epilog=examples("facechain testnet heal"))
@dir_option
def heal(*, root: Path) -> None:
    """End a partition: all nodes talk to each other again."""
    from .testnet_network import TrialNetwork

    TrialNetwork.open(root).heal()
    say("healed; nodes connect again within seconds")


@testnet.command(epilog=examples("facechain testnet kill node-2"))
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@dir_option
def kill(*, names: Sequence[str], root: Path) -> None:
    """SIGKILL nodes, as a power cut would; 'testnet restart' starts them again."""
    network = _naming(root, names)
    for name in names:
        network.kill(name)
        say(f"{name} is killed")


@testnet.command(epilog=examples("facechain testnet restart node-2"))
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@dir_option
def restart(*, names: Sequence[str], root: Path) -> None:
    """Start nodes again, at the same addresses; those that run are ended in order first."""
    network = _naming(root, names)
    with uninterrupted():
        network.restart(names)
    say(f"started: {', '.join(names)}")


def _naming(root: Path, names: Sequence[str]) -> TrialNetwork:
    from .testnet_network import TrialNetwork
    from .testnet_scenario import check_names

    network = TrialNetwork.open(root)
    check_names("node", names, list(network.record.nodes))
    return network


@testnet.command(epilog=examples("facechain testnet status", "facechain testnet status --json"))
@dir_option
@json_option
def status(*, root: Path, as_json: bool) -> None:
    """Print the nodes and their tips; exit code 2 when one does not run."""
    from .testnet_network import TrialNetwork

    network = TrialNetwork.open(root)
    views = network.look()
    emit(_as_json(network.record, views), as_json=as_json, lines=[])
    if not as_json:
        _print(views)
    silent = [view.node.name for view in views if view.status is None]
    if silent:
        raise CheckFailedError(
            "test network",
            expected=f"{len(views)} nodes that answer",
            got=f"no answer from {', '.join(silent)}",
            advice=f"see {network.record.output_file(silent[0])}",
        )


@testnet.command(epilog=examples("facechain testnet down"))
@dir_option
def down(*, root: Path) -> None:
    """End all nodes and remove everything that belongs to the network."""
    from .testnet_network import TrialNetwork

    _take_down(TrialNetwork.open(root))


def _take_down(network: TrialNetwork) -> None:
    with uninterrupted():
        killed = network.stop()
        if killed:
            say(f"killed, as SIGTERM did not end them: {', '.join(killed)}")
        if network.remove():
            say(f"ended {len(network.nodes)} nodes and removed {network.record.root}")
        else:
            say(f"ended {len(network.nodes)} nodes; {network.record.root} holds other files and stays")


def _watch(network: TrialNetwork, *, live: bool) -> None:
    """Show tips on a terminal, and tell of nodes that end, until Ctrl-C or until none is left."""
    running = [node.name for node in network.nodes]
    with _screen(live=live and sys.stdout.isatty()) as show:
        while running:
            for name in tuple(running):
                if not network.runs(name):
                    running.remove(name)
                    say(f"{name} ended: {network.last_words(name)}")
            if show is not None:
                show(network.look())
            time.sleep(REDRAW_SECONDS)
        raise CheckFailedError("test network", expected="nodes that run", got="none; all have ended")


@contextmanager
def _screen(*, live: bool) -> Iterator[Callable[[Sequence[NodeView]], None] | None]:
    """Yield what redraws the table in place, None when the output is no terminal."""
    if not live:
        yield None
        return
    from rich.live import Live

    with Live(auto_refresh=False) as screen:
        yield lambda views: screen.update(_table(views), refresh=True)


def _print(views: Sequence[NodeView]) -> None:
    """Print the table: drawn on a terminal, plain columns for programs."""
    if not sys.stdout.isatty():
        for line in columns(HEADINGS, map(_row, views)):
            click.echo(line)
        say(_summary(views))
        return
    from rich.console import Console

    Console().print(_table(views))


def _table(views: Sequence[NodeView]) -> Table:
    from rich.table import Table

    table = Table(*HEADINGS, caption=_summary(views))
    for view in views:
        table.add_row(*_row(view), style=None if view.status is not None else "red")
    return table


def _summary(views: Sequence[NodeView]) -> str:
    """Say whether the nodes agree."""
    tips = {view.tip for view in views if view.tip is not None}
    if len(tips) < 2:
        return "one tip" if tips else "no node answers"
    heights = sorted({height for height, _ in tips})
    return f"{len(tips)} different tips, heights {heights[0]} to {heights[-1]}"


def _row(view: NodeView) -> tuple[str, ...]:
    node, status = view.node, view.status
    pid = str(node.process.pid) if node.process is not None and view.is_running else "-"
    where = (node.peer or "-", node.url or "-")
    name = f"{node.name} (miner)" if node.mines else node.name
    if status is None:
        return (name, pid, *where, "-", "no answer" if view.is_running else "ended", "-", "-")
    tip = status.tip.hex()[:TIP_DIGITS]
    return (name, pid, *where, str(status.height), tip, str(view.peers), str(view.mempool))


def _as_json(record: NetworkRecord, views: Sequence[NodeView]) -> dict[str, Any]:
    return {
        "dir": str(record.root),
        "network_id": record.network_id.hex(),
        "genesis": str(record.genesis_file),
        "wallet": str(record.wallet.root),
        "groups": [list(group) for group in record.groups],
        "tips": len({view.tip for view in views if view.tip is not None}),
        "nodes": [_node_json(record, view) for view in views],
    }


def _node_json(record: NetworkRecord, view: NodeView) -> dict[str, Any]:
    node, status = view.node, view.status
    return {
        "name": node.name,
        "mines": node.mines,
        "running": view.is_running,
        "pid": node.process.pid if node.process is not None and view.is_running else None,
        "peer": node.peer,
        "api": node.url,
        "dials": list(node.dials),
        "data_dir": str(record.data_dir(node.name).root),
        "log": str(record.data_dir(node.name).log_file),
        "height": None if status is None else status.height,
        "tip": None if status is None else status.tip.hex(),
        "peers": view.peers,
        "mempool": view.mempool,
    }


def _explain(network: TrialNetwork, *, keep: bool) -> None:
    """Say how to use the network and how to end it."""
    record, folder = network.record, f" --dir {shlex.quote(str(network.record.root))}"
    say("use it from another terminal with:")
    say(
        f"  export FACECHAIN_API={network.nodes[0].url} FACECHAIN_DATA_DIR={shlex.quote(str(record.wallet.root))}"
    )
    say(f"keys: {', '.join(WALLET_KEYS)}; logs: {record.root}/{NODE_PREFIX}*/{record.wallet.log_file.name}")
    say(f"end it with: facechain testnet down{folder}" if keep else "end it with Ctrl-C")
