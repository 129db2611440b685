"""Scenario files: what is read, and that every mistake is named before anything starts."""

from pathlib import Path

import pytest

from facechain.cli.errors import UsageError
from facechain.cli.testnet_scenario import MAX_STEPS, Deed, Step, check_groups, read_scenario

NODES = ("node-1", "node-2", "node-3", "node-4")

ALL = """
[[step]]
do = "partition"
groups = [["node-1", "node-2"], ["node-3"]]
[[step]]
after = 1.5
do = "kill"
nodes = ["node-3"]
[[step]]
do = "restart"
nodes = ["node-3"]
[[step]]
do = "freeze"
nodes = ["node-1", "node-4"]
[[step]]
do = "thaw"
nodes = ["node-1", "node-4"]
[[step]]
do = "heal"
[[step]]
do = "one-tip"
within = 30
"""


def read(tmp_path: Path, text: str) -> tuple[Step, ...]:
    path = tmp_path / "scenario.toml"
    path.write_text(text)
    return read_scenario(path, NODES)


def test_every_kind_of_step(tmp_path: Path) -> None:
    steps = read(tmp_path, ALL)
    assert [step.deed for step in steps] == [
        Deed.PARTITION,
        Deed.KILL,
        Deed.RESTART,
        Deed.FREEZE,
        Deed.THAW,
        Deed.HEAL,
        Deed.ONE_TIP,
    ]
    assert {step.deed for step in steps} == set(Deed)
    assert steps[0].groups == (("node-1", "node-2"), ("node-3",), ("node-4",))
    assert str(steps[0]) == "partition node-1,node-2 | node-3 | node-4"
    assert (steps[1].after_seconds, steps[1].nodes) == (1.5, ("node-3",))
    assert steps[6].within_seconds == 30


@pytest.mark.parametrize(
    "text, problem",
    [
        ("", "expected 1 to 1000 .*step.* tables, got nothing"),
        ("[[step", "expected TOML"),
        ("seed = 1\n[[step]]\ndo = 'heal'", "got seed, step"),
        ("step = 3", "tables"),
        ("step = [3]", "step 1: expected a table"),
        ("[[step]]\ndo = 'explode'", "step 1: expected do = one of partition, .*, got 'explode'"),
        ("[[step]]\nnodes = ['node-1']", "got None"),
        ("[[step]]\ndo = ['heal']", "expected do"),
        ("[[step]]\ndo = 'heal'\nnodes = ['node-1']", "expected no fields, and after, got nodes"),
        ("[[step]]\ndo = 'kill'", "expected nodes, and after, got none"),
        (
            "[[step]]\ndo = 'heal'\n[[step]]\ndo = 'kill'\nnodes = ['node-9']",
            "step 2: expected a node of node-1",
        ),
        ("[[step]]\ndo = 'kill'\nnodes = []", "expected a list of names"),
        ("[[step]]\ndo = 'kill'\nnodes = [1]", "expected a node of"),
        ("[[step]]\ndo = 'kill'\nnodes = [['node-1']]", "expected a node of"),
        ("[[step]]\ndo = 'heal'\nafter = -1", "after: expected seconds from 0"),
        ("[[step]]\ndo = 'heal'\nafter = true", "expected seconds"),
        ("[[step]]\ndo = 'heal'\nafter = nan", "expected seconds"),
        ("[[step]]\ndo = 'one-tip'\nwithin = '9'", "within: expected seconds"),
        ("[[step]]\ndo = 'partition'\ngroups = 'node-1'", "groups: expected lists"),
        ("[[step]]\ndo = 'partition'\ngroups = ['node-1']", "expected a list of names"),
        ("[[step]]\ndo = 'partition'\ngroups = [['node-1'], ['node-1']]", "got node-1 twice"),
        (
            "[[step]]\ndo = 'partition'\ngroups = [['node-1', 'node-2', 'node-3', 'node-4']]",
            "got all nodes in one",
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        read(tmp_path, text)


def test_a_file_that_is_not_there_and_one_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_scenario(tmp_path / "nothing.toml", NODES)
    with pytest.raises(UsageError, match="expected at most"):
        read(tmp_path, "#" * (1 << 20) + "\n")
    with pytest.raises(UsageError, match="tables"):
        read(tmp_path, "[[step]]\ndo = 'heal'\n" * (MAX_STEPS + 1))


def test_groups_that_name_everybody_are_as_they_are() -> None:
    assert check_groups("groups", [["node-1"], ["node-2"]], ["node-1", "node-2"]) == (
        ("node-1",),
        ("node-2",),
    )
