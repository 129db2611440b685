"""Scheduling a protocol version through the API."""

import json
from typing import Any

import pytest

from facechain.cli.main import run
from support.api_thread import ApiThread

pytestmark = pytest.mark.usefixtures("data_dir")


@pytest.fixture
def sealing(node: ApiThread) -> ApiThread:
    """A node that seals a block after each submission."""
    node.seal()
    node.node.blocks_after_submit = 1
    return node


def ask(verb: str, key: str, *numbers: str) -> int:
    return run(["network", "upgrade", verb, *numbers, "--key", key, "--wait", "1"])


def shown(capsys: pytest.CaptureFixture[str]) -> Any:
    capsys.readouterr()
    assert run(["network", "upgrade", "show", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


NUMBERS = ("--version", "2", "--height", "50")


@pytest.mark.usefixtures("sealing")
def test_two_administrators_schedule_a_version_and_take_it_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("propose", "alice", *NUMBERS) == 0
    assert "request for an upgrade" in capsys.readouterr().out
    (request,) = shown(capsys)["requests"]
    assert (request["version"], request["activation_height"], len(request["approvals"])) == (2, 50, 1)
    assert run(["network", "upgrade", "show"]) == 0
    assert "1 of 2" in capsys.readouterr().out
    assert ask("propose", "bob", *NUMBERS) == 0
    view = shown(capsys)
    assert view["scheduled"] == {"version": 2, "activation_height": 50, "known": False}
    assert (view["block_version"], view["supported"], view["requests"]) == (1, [1], [])
    assert run(["network", "upgrade", "show"]) == 0
    assert (
        "version 2 from block 50 on (not known to this node: it will stop before)" in capsys.readouterr().out
    )
    assert ask("cancel", "alice") == 0
    assert shown(capsys)["scheduled"] is not None
    assert ask("cancel", "bob") == 0
    assert shown(capsys)["scheduled"] is None


@pytest.mark.usefixtures("sealing")
def test_what_cannot_be_asked_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("cancel", "alice") == 5
    assert "expected a scheduled version to take back, got none" in capsys.readouterr().err
    assert ask("propose", "alice", "--version", "2", "--height", "1") == 5
    assert "state-conflict" in capsys.readouterr().err
    assert ask("propose", "carol", *NUMBERS) == 5
    assert "unauthorized-author" in capsys.readouterr().err
    assert ask("propose", "alice", "--version", "0", "--height", "9") == 3
    assert ask("propose", "alice", "--version", "2") == 3
    assert ask("propose", "alice", *NUMBERS) == 0
    assert ask("propose", "alice", *NUMBERS) == 5
    assert "duplicate-approval" in capsys.readouterr().err
