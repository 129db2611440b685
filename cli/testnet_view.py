"""How a test network is shown: branches first, then nodes, in as many lines and columns as there are.

Owns what is drawn on a terminal (rich), what programs read instead, and the words for both. Asks nobody anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

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
    "EQUIVOCATORS",
)
NARROW: Final = ("NODE", "HEIGHT", "TIP", "BRANCH", "PEERS", "MEMPOOL", "API AND EXPLORER")
"""Columns where there is no room for all of them."""
WIDE_FROM: Final = 132
"""Columns of a terminal from which on all is shown."""
BRANCH_HEADINGS: Final = ("BRANCH", "NODES", "HEIGHT", "TIP", "FORK POINT", "DEPTH")
NUMBERS: Final = frozenset({"NODES", "HEIGHT", "PEERS", "MEMPOOL", "EQUIVOCATORS", "PID", "DEPTH"})
TIP_DIGITS: Final = 16
SHORT_DIGITS: Final = 8
BRANCHES_SHOWN: Final = 5
ROWS_MIN: Final = 3
"""Nodes are shown at least, however small the terminal is."""
MINER_MARK: Final = "*"
OTHER_LINES: Final = 4
"""Headings, the line between the tables, and a line of words at the end."""


def branch_names(branches: Sequence[Branch]) -> dict[str, str]:
    """Return where each node is: on `main` or on `fork N`, and `-K` behind that where it is K blocks behind."""
    return {
        node: f"{_name(place)} -{behind}" if behind else _name(place)
        for place, branch in enumerate(branches)
        for node, behind in branch.nodes.items()
    }


def _name(place: int) -> str:
    return f"fork {place}" if place else "main"


def summary(branches: Sequence[Branch]) -> str:
    """Say in one line whether the nodes agree."""
    if not branches:
        return "no node answers"
    behind = [count for branch in branches for count in branch.nodes.values() if count]
    parts = ["one tip" if len(branches) == 1 and not behind else f"{len(branches) - 1} forks"]
    parts[0] = {"0 forks": "no fork", "1 forks": "1 fork"}.get(parts[0], parts[0])
    if behind:
        nodes = "1 node" if len(behind) == 1 else f"{len(behind)} nodes"
        parts.append(f"{nodes} behind by at most {max(behind)}")
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
        "EQUIVOCATORS": "-" if status is None else str(view.equivocators),
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

    forks = branches[:BRANCHES_SHOWN]
    room = max(height - OTHER_LINES - len(forks) - bool(record.groups), ROWS_MIN)
    shown = _fitting(views, branch_names(branches), room)
    parts = [summary(branches), f"{MINER_MARK} seals blocks"]
    if equivocators := max((view.equivocators for view in views), default=0):
        parts.insert(1, "1 key equivocated" if equivocators == 1 else f"{equivocators} keys equivocated")
    if hidden := len(views) - len(shown):
        parts.insert(0, f"and {hidden} more nodes")
    words = [_line("; ".join(parts), "dim")]
    if record.groups:
        known = list(record.nodes)
        words.append(
            _line(f"divided: nodes {' | '.join(_spans(group, known) for group in record.groups)}", "yellow")
        )
    return Group(_branch_table(forks), Text(), _node_table(shown, branches, wide=width >= WIDE_FROM), *words)


def _line(words: str, style: str) -> Text:
    from rich.text import Text

    return Text(words, style=style, overflow="ellipsis", no_wrap=True)


def _spans(group: Sequence[str], known: Sequence[str]) -> str:
    """Return the numbers of nodes, those that follow each other as FIRST-LAST."""
    numbers = sorted(known.index(name) + 1 for name in group)
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def _fitting(views: Sequence[NodeView], names: Mapping[str, str], room: int) -> list[NodeView]:
    """Return as many nodes as there is room for: those that nothing is wrong with are left out first."""

    def trouble(view: NodeView) -> int:
        name = names.get(view.node.name, "")
        return 0 if not name else 1 if name.startswith("fork") else 3 if name == "main" else 2

    kept = sorted(views, key=trouble)[:room]
    return [view for view in views if view in kept]


def _branch_table(branches: Sequence[Branch]) -> Table:
    table = _table(BRANCH_HEADINGS)
    for place, branch in enumerate(branches):
        at = "-"
        if branch.fork_height is not None and branch.fork_hash is not None:
            at = f"{branch.fork_height} {branch.fork_hash.hex()[:SHORT_DIGITS]}"
        depth = "-" if branch.depth is None else str(branch.depth)
        tip = branch.tip.hex()[:TIP_DIGITS]
        row = (_name(place), str(len(branch.nodes)), str(branch.height), tip, at, depth)
        table.add_row(*row, style="red" if place else "green")
    return table


def _node_table(views: Sequence[NodeView], branches: Sequence[Branch], *, wide: bool) -> Table:
    names, headings = branch_names(branches), HEADINGS if wide else NARROW
    table = _table(headings)
    for view in views:
        row = cells(view, names.get(view.node.name, ""))
        if not wide and view.status is not None:
            row["TIP"] = view.status.tip.hex()[:SHORT_DIGITS]
        where = row["BRANCH"]
        style = None if where == "main" else "yellow" if where.startswith("main") else "red"
        table.add_row(*(row[heading] for heading in headings), style=style)
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
        "tips": len({view.tip for view in views if view.tip is not None}),
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
        "equivocators": view.equivocators,
    }
