"""The picture of a test network: every state has its word, and it fits the terminal."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from facechain.cli.answers import NodeStatus
from facechain.cli.testnet_branches import Branch, Tip
from facechain.cli.testnet_network import NodeView
from facechain.cli.testnet_record import NetworkRecord, NodeRecord, node_names
from facechain.cli.testnet_view import HEADINGS, NARROW, as_json, branch_names, drawn, rows, summary

MAIN, SIDE = b"\xaa" * 32, b"\xbb" * 32


def view(
    name: str,
    height: int | None = 400,
    tip: bytes = MAIN,
    *,
    running: bool = True,
    equivocators: int = 0,
) -> NodeView:
    status = None
    if height is not None:
        content = {
            "peers": 3,
            "mempool": {"statements": 12_345},
            "chainwork": f"{height:x}",
            "equivocations": {"blocks": 7, "statements": 0, "keys": equivocators},
        }
        status = NodeStatus(
            network_id=bytes(32), name="testnet", height=height, tip=tip, syncing=False, content=content
        )
    node = NodeRecord(name=name, mines=name == "node-1", peer="127.0.0.1:65535", api="127.0.0.1:65535")
    return NodeView(node=node, is_running=running, status=status)


def branch(nodes: Mapping[str, int], height: int = 400, tip: bytes = MAIN, fork: int | None = None) -> Branch:
    return Branch(height=height, tip=tip, nodes=nodes, fork_height=fork, fork_hash=fork and MAIN)  # type: ignore[arg-type]


def record_of(views: Sequence[NodeView], *groups: Sequence[str]) -> NetworkRecord:
    return NetworkRecord(
        root=Path("/nowhere"),
        network_id=bytes(32),
        nodes={view.node.name: view.node for view in views},
        groups=tuple(map(tuple, groups)),
    )


def picture(
    views: Sequence[NodeView],
    branches: Sequence[Branch],
    *groups: Sequence[str],
    width: int = 80,
    height: int = 24,
) -> list[str]:
    console = Console(file=io.StringIO(), record=True, width=width, height=height)
    console.print(drawn(record_of(views, *groups), views, branches, width=width, height=height))
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_a_fork_is_told_with_its_fork_point_and_depth() -> None:
    views = [view("node-1"), view("node-2", 390), view("node-3", 398, SIDE), view("node-4", None)]
    branches = [branch({"node-1": 0, "node-2": 10}), branch({"node-3": 0}, 398, SIDE, fork=391)]
    lines = picture(views, branches, ["node-1", "node-2"], ["node-3", "node-4"])
    assert lines[0].split() == ["BRANCH", "NODES", "HEIGHT", "TIP", "FORK", "POINT", "DEPTH"]
    assert lines[1].split() == ["main", "2", "400", MAIN.hex()[:16], "-", "-"]
    assert lines[2].split() == ["fork", "1", "1", "398", SIDE.hex()[:16], "391", MAIN.hex()[:8], "7"]
    assert lines[5].split()[:6] == ["node-1*", "400", MAIN.hex()[:8], "main", "3", "12345"]
    assert lines[6].split()[:5] == ["node-2", "390", MAIN.hex()[:8], "main", "-10"]
    assert lines[7].split()[:5] == ["node-3", "398", SIDE.hex()[:8], "fork", "1"]
    assert lines[8].split()[:4] == ["node-4", "-", "no", "answer"]
    assert lines[9].startswith("1 fork, 1 node behind by at most 10")
    assert lines[10] == "divided: nodes 1-2 | 3-4"


def test_keys_that_equivocated_are_counted_by_the_node_that_saw_most() -> None:
    views = [view("node-1", equivocators=1), view("node-2", equivocators=3), view("node-3", None)]
    branches = [branch({"node-1": 0, "node-2": 0})]
    assert [row[HEADINGS.index("EQUIVOCATORS")] for row in rows(views, branches)] == ["1", "3", "-"]
    assert picture(views, branches)[-1] == "one tip; 3 keys equivocated; * seals blocks"
    assert picture(views[:1], branches)[-1] == "one tip; 1 key equivocated; * seals blocks"
    assert "equivocated" not in picture([view("node-1")], branches)[-1]
    found = as_json(record_of(views), views, branches)["nodes"]
    assert [node["equivocators"] for node in found] == [1, 3, 0]


@pytest.mark.parametrize("count", [1, 20, 64])
@pytest.mark.parametrize("forks", [0, 1, 9])
@pytest.mark.parametrize("size", [(80, 24), (80, 50), (200, 24)])
def test_it_fits_every_terminal(count: int, forks: int, size: tuple[int, int]) -> None:
    width, height = size
    names = node_names(count)
    views = [view(name, 4_000_000) for name in names]
    branches = [branch(dict.fromkeys(names, 0), 4_000_000)]
    branches += [branch({name: 0}, 4_000_000, SIDE, fork=3_000_000) for name in names[1 : forks + 1]]
    lines = picture(views, branches, names[: count // 2], names[count // 2 :], width=width, height=height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "…" not in text
    assert all(heading in text for heading in (HEADINGS if width == 200 else NARROW))
    shown = [name for name in names if f"{name} " in text.replace("*", " ")]
    assert shown == list(names) or f"and {count - len(shown)} more nodes" in text


def test_where_there_is_no_room_those_in_trouble_are_kept() -> None:
    names = node_names(30)
    views = [view(name) for name in names[:-3]]
    views += [view(names[-3], 390), view(names[-2], 398, SIDE), view(names[-1], None, running=False)]
    branches = [
        branch({**dict.fromkeys(names[:-3], 0), names[-3]: 10}),
        branch({names[-2]: 0}, 398, SIDE, 391),
    ]
    text = "\n".join(picture(views, branches, height=13))
    assert all(f"{name} " in text for name in names[-3:])
    assert "ended" in text
    assert "and 23 more nodes" in text


@pytest.mark.parametrize(
    "branches, words",
    [
        ([], "no node answers"),
        ([branch({"node-1": 0, "node-2": 0})], "one tip"),
        ([branch({"node-1": 0, "node-2": 3})], "no fork, 1 node behind by at most 3"),
        ([branch({"node-1": 0}), branch({"node-2": 0}, tip=SIDE)], "1 fork"),
        (
            [branch({"node-1": 0}), *[branch({"node-2": 2}, tip=SIDE)] * 2],
            "2 forks, 2 nodes behind by at most 2",
        ),
    ],
)
def test_the_summary(branches: Sequence[Branch], words: str) -> None:
    assert summary(branches) == words


def test_programs_read_every_column() -> None:
    views = [view("node-1"), view("node-2", None)]
    names = branch_names([Tip(height=400, hash=MAIN, nodes=("node-1",)).as_branch()])
    assert names == {"node-1": "main"}
    found = rows(views, [branch({"node-1": 0})])
    assert [len(row) for row in found] == [len(HEADINGS)] * 2
    assert found[0][HEADINGS.index("TIP")] == MAIN.hex()[:16]
    assert found[1][HEADINGS.index("BRANCH")] == "-"
