"""How a test network is shown: branches first, then nodes, in as many lines and columns as there are.

Owns what is drawn on a terminal (rich), what programs read instead, and the words for both. Asks nobody anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from .testnet_branches import Branch
    from .testnet_network import NodeView
    from .testnet_record import NetworkRecord

HEADINGS: Final = (
    "NODE",
    "PID",
    "PEERS AT",
    "API AND EXPLORER",
    "HEIGHT",
    "TIP",
    "BRANCH",
    "PEERS",
    "MEMPOOL",
)
NARROW: Final = ("NODE", "HEIGHT", "TIP", "BRANCH", "PEERS", "MEMPOOL", "API AND EXPLORER")
"""Columns where there is no room for all of them."""
WIDE_FROM: Final = 120
"""Columns of a terminal from which on all is shown."""
BRANCH_HEADINGS: Final = ("BRANCH", "NODES", "HEIGHT", "TIP", "FORK POINT", "DEPTH")
NUMBERS: Final = frozenset({"NODES", "HEIGHT", "PEERS", "MEMPOOL", "PID", "DEPTH"})
TIP_DIGITS: Final = 16
SHORT_DIGITS: Final = 8
BRANCHES_SHOWN: Final = 5
ROWS_MIN: Final = 3
"""Nodes are shown at least, however small the terminal is."""
MINER_MARK: Final = "*"
OTHER_LINES: Final = 5
"""Headings, the line between the tables, and two lines of words at the end."""
STYLES: Final = {"main": "green", "behind": "yellow", "fork": "red"}


def branch_names(branches: Sequence[Branch]) -> dict[str, str]:
    """Return what each node's branch is called: main, behind N (blocks), or fork N (by its place)."""
    return {node: name for name, branch in _named(branches) for node in branch.nodes}


def _named(branches: Sequence[Branch]) -> Iterator[tuple[str, Branch]]:
    forks = 0
    for place, branch in enumerate(branches):
        if place == 0:
            yield "main", branch
        elif branch.is_behind:
            yield f"behind {branches[0].height - branch.height}", branch
        else:
            forks += 1
            yield f"fork {forks}", branch


def summary(branches: Sequence[Branch]) -> str:
    """Say in one line whether the nodes agree."""
    if not branches:
        return "no node answers"
    if len(branches) == 1:
        return "one tip"
    names = [name for name, _ in _named(branches)]
    forks = sum(name.startswith("fork") for name in names)
    lagging = sum(len(branch.nodes) for name, branch in _named(branches) if name.startswith("behind"))
    parts = [f"{len(branches)} different tips"]
    parts += [f"{forks} fork{'s' * (forks > 1)}"] if forks else []
    parts += [f"{lagging} node{'s' * (lagging > 1)} behind"] if lagging else []
    return ", ".join(parts)


def cells(view: NodeView, branch: str) -> dict[str, str]:
    """Return the row of a node by heading."""
    node, status = view.node, view.status
    silent = "no answer" if view.is_running else "ended"
    return {
        "NODE": node.name + MINER_MARK * node.mines,
        "PID": str(node.process.pid) if node.process is not None and view.is_running else "-",
        "PEERS AT": node.peer or "-",
        "API AND EXPLORER": node.url or "-",
        "HEIGHT": "-" if status is None else str(status.height),
        "TIP": silent if status is None else status.tip.hex()[:TIP_DIGITS],
        "BRANCH": branch or "-",
        "PEERS": "-" if status is None else str(view.peers),
        "MEMPOOL": "-" if status is None else str(view.mempool),
    }


def rows(views: Sequence[NodeView], branches: Sequence[Branch]) -> list[tuple[str, ...]]:
    """Return the rows under `HEADINGS`."""
    names = branch_names(branches)
    return [
        tuple(cells(view, names.get(view.node.name, ""))[heading] for heading in HEADINGS) for view in views
    ]


def drawn(
    record: NetworkRecord,
    views: Sequence[NodeView],
    branches: Sequence[Branch],
    *,
    width: int,
    height: int,
) -> RenderableType:
    """Return the picture for a terminal of this size."""
    from rich.console import Group
    from rich.text import Text

    forks = list(_named(branches))[:BRANCHES_SHOWN]
    room = max(height - OTHER_LINES - len(forks) - bool(record.groups), ROWS_MIN)
    shown, hidden = _fitting(views, branches, room)
    lines = [summary(branches), f"{MINER_MARK} seals blocks"]
    if hidden:
        lines.insert(0, f"and {hidden} more on main")
    words: list[RenderableType] = [
        Text(" " + "; ".join(lines), style="dim", overflow="ellipsis", no_wrap=True)
    ]
    if record.groups:
        groups = " | ".join(", ".join(group) for group in record.groups)
        words.append(Text(f" divided: {groups}", style="yellow", overflow="ellipsis", no_wrap=True))
    return Group(_branch_table(forks), Text(), _node_table(shown, branches, wide=width >= WIDE_FROM), *words)


def _fitting(
    views: Sequence[NodeView], branches: Sequence[Branch], room: int
) -> tuple[Sequence[NodeView], int]:
    """Return the nodes to show and how many are left out: those on the main branch first, from the last one on."""
    main = set(branches[0].nodes) if branches else set()
    surplus = len(views) - room
    out = [view.node.name for view in views if view.node.name in main][::-1][: max(surplus, 0)]
    return [view for view in views if view.node.name not in out], len(out)


def _branch_table(named: Sequence[tuple[str, Branch]]) -> Table:
    table = _table(BRANCH_HEADINGS)
    for name, branch in named:
        at = "-"
        if branch.fork_height is not None and branch.fork_hash is not None:
            at = f"{branch.fork_height} {branch.fork_hash.hex()[:SHORT_DIGITS]}"
        depth = "-" if branch.depth is None else str(branch.depth)
        tip = branch.tip.hex()[:TIP_DIGITS]
        table.add_row(
            name, str(len(branch.nodes)), str(branch.height), tip, at, depth, style=STYLES[name.split()[0]]
        )
    return table


def _node_table(views: Sequence[NodeView], branches: Sequence[Branch], *, wide: bool) -> Table:
    names, headings = branch_names(branches), HEADINGS if wide else NARROW
    table = _table(headings)
    for view in views:
        row = cells(view, names.get(view.node.name, ""))
        if not wide and view.status is not None:
            row["TIP"] = view.status.tip.hex()[:SHORT_DIGITS]
        style = STYLES[row["BRANCH"].split()[0]] if row["BRANCH"] != "-" else "red"
        table.add_row(*(row[heading] for heading in headings), style=None if style == "green" else style)
    return table


def _table(headings: Sequence[str]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, no_wrap=True, justify="right" if heading in NUMBERS else "left")
    return table


def as_json(record: NetworkRecord, views: Sequence[NodeView], branches: Sequence[Branch]) -> dict[str, Any]:
    """Return all of it for programs."""
    return {
        "dir": str(record.root),
        "network_id": record.network_id.hex(),
        "genesis": str(record.genesis_file),
        "wallet": str(record.wallet.root),
        "namespaces": record.lan is not None,
        "groups": [list(group) for group in record.groups],
        "tips": len(branches),
        "branches": [branch.to_json() for branch in branches],
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
