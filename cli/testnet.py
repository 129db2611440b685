"""`facechain testnet`: a network of several nodes on this machine, for trying things out.

Owns the commands and what they print; `testnet_network` does the work.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from .errors import CheckFailedError, CommandError, NotFoundError, UsageError
from .options import LongNameOption, examples, json_option
from .output import columns, emit, say
from .testnet_founding import WALLET_KEYS
from .testnet_process import ProcessId, otherwise, own_command, terminating, uninterrupted
from .testnet_record import NODE_PREFIX, node_names
from .testnet_topology import DEFAULT_DEGREE, Topology

if TYPE_CHECKING:
    from .testnet_network import NodeView, TrialNetwork
    from .testnet_scenario import Step

MAX_NODES: Final = 64
FOLDER: Final = "facechain-testnet"
REDRAW_SECONDS: Final = 1.0


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
    """Run a network of several nodes on this machine.

    Real processes with real keys, blocks about every second, and no value outside this machine. Nodes are on
    loopback, for any user; with `up --namespaces`, for root, each is on a host of its own.
    """


@testnet.command(
    epilog=examples(
        "facechain testnet up --nodes 4 --mine",
        "facechain testnet up --nodes 4 --mine --keep --json",
        "facechain testnet up --nodes 8 --miners 2 --topology ring --scenario partition.toml",
        "sudo facechain testnet up --nodes 8 --miners 2 --namespaces",
    )
)
@click.option(
    "--nodes", type=click.IntRange(1, MAX_NODES), default=4, show_default=True, help="Number of nodes."
)
@click.option("--mine", is_flag=True, help="Let the first node seal blocks: --miners 1.")
@click.option(
    "--miners",
    type=click.IntRange(0, MAX_NODES),
    default=0,
    show_default=True,
    help="Let the first nodes seal blocks, each with a key of its own.",
)
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
    "--namespaces",
    is_flag=True,
    help="Give each node a host of its own: a network namespace on a bridge. Needs root, iproute2 and iptables.",
)
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
    miners: int,
    topology: str,
    degree: int,
    seed: int,
    namespaces: bool,
    scenario: Path | None,
    keep: bool,
    root: Path,
    as_json: bool,
) -> None:
    """Found a network, start its nodes and run them until Ctrl-C.

    Ctrl-C ends the nodes and removes everything, and so does the end of this command by anything else.
    """
    from .testnet_network import TrialNetwork
    from .testnet_scenario import read_scenario

    if miners > nodes:
        raise UsageError("--miners", expected=f"at most as many as --nodes {nodes}", got=miners)
    steps = () if scenario is None else read_scenario(scenario, node_names(nodes))
    own = ProcessId.of(os.getpid())
    with terminating():
        _clear(root, lambda owner: not owner.is_running())
        try:
            network = TrialNetwork.found(
                root,
                count=nodes,
                mines=mine or miners > 0,
                miners=max(miners, 1),
                topology=Topology(topology),
                degree=degree,
                seed=seed,
                namespaces=namespaces,
                owner=own,
            )
            with otherwise(own_command("testnet", "down", "--dir", str(root))):
                _run(network, steps, keep=keep, as_json=as_json)
        except BaseException:
            _clear(root, lambda owner: owner == own)
            raise


def _run(network: TrialNetwork, steps: Sequence[Step], *, keep: bool, as_json: bool) -> None:
    """Start the nodes, do what the scenario says, and wait for the end, unless the network is to be kept."""
    live = sys.stdout.isatty() and not as_json and not keep
    say(f"starting {_nodes(network)} in {network.record.root}")
    network.start_all()
    network.wait_connected()
    if live:
        _explain(network, keep=False)
    else:
        _show(network, as_json=as_json)
    with _screen(network) if live else nullcontext((network.reload, say)) as (look, tell):
        _play(network, steps, look, tell)
        if keep:
            _explain(network, keep=True)
            network.keep()
            return
        with suppress(KeyboardInterrupt, NotFoundError):  # the second one: another command took it down
            if not live:
                _explain(network, keep=False)
            _watch(network, look, tell)
    _take_down(network)


def _play(
    network: TrialNetwork, steps: Sequence[Step], look: Callable[[], None], tell: Callable[[str], None]
) -> None:
    """Do the steps of a scenario when their time comes, looking at the network in between."""
    for step in steps:
        due = time.monotonic() + step.after_seconds
        while (left := due - time.monotonic()) > 0:
            look()
            time.sleep(min(left, REDRAW_SECONDS))
        tell(str(step))
        _take(network, step)


def _take(network: TrialNetwork, step: Step) -> None:
    """Do one step of a scenario; CheckFailedError when what it waits for does not come."""
    from .testnet_scenario import Deed

    if step.deed is Deed.PARTITION:
        network.partition(step.groups)
    elif step.deed is Deed.HEAL:
        network.heal()
    elif step.deed is Deed.RESTART:
        network.restart(step.nodes)
    elif step.deed is Deed.ONE_TIP:
        network.wait_agreed(seconds=step.within_seconds)
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
    """Divide the network: nodes of different groups do not reach each other.

    Each argument is one group; nodes that none names are one more. It replaces an earlier partition. On loopback
    nodes ban each other; with --namespaces their packets are dropped, and connections only time out.
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
    views = _show(network, as_json=as_json)
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
        done = network.take_down()
    if done is None:
        say("the network was taken down by another command")
        return
    killed, is_gone = done
    if killed:
        say(f"killed, as SIGTERM did not end them: {', '.join(killed)}")
    if is_gone:
        say(f"ended {_nodes(network)} and removed {network.record.root}")
    else:
        say(f"ended {_nodes(network)}; {network.record.root} holds other files and stays")


def _nodes(network: TrialNetwork) -> str:
    count = len(network.nodes)
    return f"{count} node{'s' * (count > 1)}"


def _clear(root: Path, is_ours: Callable[[ProcessId], bool]) -> None:
    """Take down a network in `root` whose owner, the process that runs it in the foreground, is ours to clear after."""
    from .testnet_network import TrialNetwork

    try:
        network = TrialNetwork.open(root)
    except CommandError:  # there is none, or another's file
        return
    owner = network.record.owner
    if owner is not None and is_ours(owner):
        if owner.pid != os.getpid():
            say(f"clearing what a 'testnet up' that was killed (process {owner.pid}) left in {root}")
        _take_down(network)


def _watch(network: TrialNetwork, look: Callable[[], None], tell: Callable[[str], None]) -> None:
    """Look at the network and tell of nodes that end, for ever."""
    running = {node.name for node in network.nodes if network.runs(node.name)}
    while True:
        look()
        now = {node.name for node in network.nodes if network.runs(node.name)}
        for name in sorted(running - now):
            tell(f"{name} ended: {network.last_words(name)}")
        for name in sorted(now - running):
            tell(f"{name} runs again")
        if running and not now:
            tell("no node runs any more; 'facechain testnet restart' starts them again, Ctrl-C ends")
        running = now
        time.sleep(REDRAW_SECONDS)


def _show(network: TrialNetwork, *, as_json: bool) -> tuple[NodeView, ...]:
    """Print the network: as JSON, drawn on a terminal, or in plain columns for programs; return what was seen."""
    from . import testnet_view
    from .testnet_branches import branches_of

    views = network.look()
    branches = branches_of(views)
    if as_json:
        emit(testnet_view.as_json(network.record, views, branches), as_json=True, lines=())
    elif sys.stdout.isatty():
        from rich.console import Console

        console = Console()
        everything = len(views) + len(branches) + testnet_view.OTHER_LINES + 1
        console.print(
            testnet_view.drawn(network.record, views, branches, width=console.width, height=everything)
        )
    else:
        for line in columns(testnet_view.HEADINGS, testnet_view.rows(views, branches)):
            click.echo(line)
        say(testnet_view.summary(branches))
    return views


@contextmanager
def _screen(network: TrialNetwork) -> Iterator[tuple[Callable[[], None], Callable[[str], None]]]:
    """Yield what draws the network anew in the same place, and what prints a line above it."""
    from rich.live import Live
    from rich.text import Text

    from .testnet_branches import branches_of
    from .testnet_view import drawn

    with Live(auto_refresh=False) as screen:

        def redraw() -> None:
            views = network.look()
            size = screen.console.size
            picture = drawn(
                network.record, views, branches_of(views), width=size.width, height=size.height - 1
            )
            screen.update(picture, refresh=True)

        yield redraw, lambda line: screen.console.print(Text(line))


def _explain(network: TrialNetwork, *, keep: bool) -> None:
    """Say how to use the network and how to end it."""
    record, folder = network.record, f" --dir {shlex.quote(str(network.record.root))}"
    if not any(node.mines for node in network.nodes):
        say("no node seals blocks, so the height stays 0; with --mine the first one does")
    say("use it from another terminal with:")
    say(
        f"  export FACECHAIN_API={network.nodes[0].url} FACECHAIN_DATA_DIR={shlex.quote(str(record.wallet.root))}"
    )
    say(f"keys: {', '.join(WALLET_KEYS)}; logs: {record.root}/{NODE_PREFIX}*/{record.wallet.log_file.name}")
    say(f"end it with: facechain testnet down{folder}" if keep else "end it with Ctrl-C")
