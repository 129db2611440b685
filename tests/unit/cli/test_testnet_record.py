"""testnet.json: it comes back as it was written, and nothing else is taken for one."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from facechain.cli.errors import NotFoundError, UsageError
from facechain.cli.testnet_process import ProcessId
from facechain.cli.testnet_record import RECORD_FILE, NetworkRecord, NodeRecord, node_names


@pytest.fixture
def record(tmp_path: Path) -> NetworkRecord:
    first, second = node_names(2)
    nodes = (
        NodeRecord(
            name=first,
            mines=True,
            process=ProcessId(pid=7, started_ticks=70),
            peer="127.0.0.1:1",
            api="127.0.0.1:2",
        ),
        NodeRecord(name=second, mines=False, dials=(first,)),
    )
    return NetworkRecord(
        root=tmp_path,
        network_id=bytes(32),
        nodes={node.name: node for node in nodes},
        groups=((first,), (second,)),
        lan=3,
        owner=ProcessId(pid=8, started_ticks=80),
    )


def test_round_trip(record: NetworkRecord) -> None:
    record.save()
    assert NetworkRecord.load(record.root) == record
    assert [path.name for path in record.root.iterdir()] == [RECORD_FILE]


def test_the_first_save_takes_the_folder(record: NetworkRecord) -> None:
    record.save(first=True)
    with pytest.raises(FileExistsError):
        replace(record, network_id=bytes([1]) * 32).save(first=True)
    assert NetworkRecord.load(record.root) == record
    assert [path.name for path in record.root.iterdir()] == [RECORD_FILE]


def test_no_network_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="facechain testnet up"):
        NetworkRecord.load(tmp_path)
    with pytest.raises(NotFoundError):
        NetworkRecord.load(tmp_path / "nowhere")


def altered(**changes: Any) -> str:
    content: dict[str, Any] = {
        "format": "facechain-testnet-3",
        "network_id": "00" * 32,
        "nodes": [],
        "groups": [],
    }
    content |= {"lan": None, "owner": None, **changes}
    return json.dumps(content)


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "name": "node-1",
        "mines": False,
        "pid": None,
        "started_ticks": None,
        "peer": None,
        "api": None,
        "dials": [],
        **changes,
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "{}",
        altered(format="facechain-testnet-2"),
        altered(network_id="zz"),
        altered(nodes={"node-1": {}}),
        altered(nodes=[entry(pid=1)]),
        altered(nodes=[entry(name="../../home")]),
        altered(nodes=[entry(name="node-/../../home")]),
        altered(nodes=[{"name": "node-1"}]),
        altered(nodes=[entry(dials="node-2")]),
        altered(nodes=[entry(dials=[2])]),
        altered(groups=[["node-1"], "node-2"]),
        altered(lan="7"),
        altered(lan=-1),
        altered(lan=True),
        altered(owner=7),
        altered(owner={"pid": 7}),
        altered(owner={"pid": 7, "started_ticks": None}),
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / RECORD_FILE).write_text(text)
    with pytest.raises(UsageError, match="expected a record of format facechain-testnet-3"):
        NetworkRecord.load(tmp_path)


def test_what_was_made_is_below_the_folder_and_the_record_goes_last(record: NetworkRecord) -> None:
    made = list(record.made())
    assert {path.parent for path in made} == {record.root}
    assert made[-1].name == RECORD_FILE
