"""Checkpoints through the API."""

import json

import pytest

from facechain.cli.checkpoint import MARGIN_BLOCKS
from facechain.cli.main import run
from support.api_thread import ApiThread

pytestmark = pytest.mark.usefixtures("data_dir")


def test_two_administrators_vouch_for_the_block_below_the_margin(
    node: ApiThread, capsys: pytest.CaptureFixture[str]
) -> None:
    node.seal(MARGIN_BLOCKS + 2)
    node.node.blocks_after_submit = 1
    assert run(["checkpoint", "show"]) == 1
    assert "expected one with enough approvals, got none yet" in capsys.readouterr().err
    assert run(["checkpoint", "create", "--key", "alice", "--wait", "1"]) == 0
    assert "checkpoint of block 2" in capsys.readouterr().out
    assert run(["checkpoint", "create", "2", "--key", "bob", "--wait", "1"]) == 0
    capsys.readouterr()
    assert run(["checkpoint", "show", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"height": 2, "hash": node.block_hash(2).hex()}


def test_same_administrator_twice_is_refused(node: ApiThread, capsys: pytest.CaptureFixture[str]) -> None:
    node.seal()
    assert run(["checkpoint", "create", "0", "--key", "alice"]) == 0
    assert run(["checkpoint", "create", "0", "--key", "alice"]) == 5
    assert "duplicate-approval" in capsys.readouterr().err


@pytest.mark.parametrize("height", [[], ["5"]])
def test_chain_that_is_too_short_is_a_usage_error(
    height: list[str], node: ApiThread, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["checkpoint", "create", *height, "--key", "alice"]) == 3
    assert "height: expected" in capsys.readouterr().err
