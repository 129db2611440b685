"""Submit against a node's real API: parts, outbox, crashes, re-submission."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from facechain.cli import delivery, outbox
from facechain.cli.client import NodeClient
from facechain.cli.main import run
from facechain.node.batch_folder import read_batch
from facechain.node.genesis_file import GenesisDocument, write_document
from facechain.node.mempool import MempoolLimits
from support.api_thread import ApiThread
from support.chain import SUBMITTER, make_genesis
from support.commands import Capture, failure, output
from support.pictures import make_picture
from support.ports import free_ports
from support.submitting import images, produced, serve, submit


def test_a_produced_batch_is_registered_with_its_stages(
    node: ApiThread, tmp_path: Path, capsys: Capture
) -> None:
    node.node.blocks_after_submit = 1
    receipt = output(capsys, *submit(produced(tmp_path / "batch"), "--wait", "1"))
    assert (receipt["level"], receipt["complete"], receipt["images"]) == ("sealed", True, 4)
    assert [item["label"] for item in receipt["stages"]] == [
        "dataset",
        "training",
        "generation",
        "clustering",
    ]
    assert len(receipt["parts"]) == 1
    chain = node.node.chain
    with chain.snapshot() as snapshot:
        found = snapshot.statement(bytes.fromhex(receipt["parts"][0]["id"]))
    assert found is not None
    header = found[1].header.batch
    assert header is not None
    assert header.model.hex() == receipt["stages"][1]["id"]
    assert header.clustering.hex() == receipt["stages"][3]["id"]


def test_the_same_batch_again_is_the_same_receipt(node: ApiThread, tmp_path: Path, capsys: Capture) -> None:
    path = images(tmp_path / "images")
    node.node.blocks_after_submit = 1
    first = output(capsys, *submit(path))
    node.seal(2)
    again = output(capsys, *submit(path))
    assert again["resubmission"]
    assert again["batches"] == first["batches"]
    assert (again["level"], again["confirmations"]) == ("confirmed", 3)
    assert output(capsys, *submit(path, "--no-objects"))["objects"] == {"sent": 0, "skipped": "not asked for"}
    assert "objects-disabled" in output(capsys, *submit(path))["objects"]["skipped"]
    with node.node.chain.view() as state:
        assert state.next_sequence(SUBMITTER.public) == 1


def test_a_lost_outbox_finds_the_batch_on_the_node(
    node: ApiThread, data_dir: Path, tmp_path: Path, capsys: Capture
) -> None:
    path = images(tmp_path / "images")
    first = output(capsys, *submit(path))
    shutil.rmtree(data_dir / "outbox")
    again = output(capsys, *submit(path))
    assert (again["batches"], again["resubmission"]) == (first["batches"], True)
    assert len(node.waiting()) == 1


def test_a_stage_that_was_said_before_is_not_said_again(
    node: ApiThread, tmp_path: Path, capsys: Capture
) -> None:
    node.node.blocks_after_submit = 1
    first = output(capsys, *submit(produced(tmp_path / "one", 4)))
    other = output(capsys, *submit(produced(tmp_path / "two", 5)))
    assert [item["id"] for item in other["stages"]] == [item["id"] for item in first["stages"]]
    assert all(item["reused"] for item in other["stages"])
    assert other["batches"] != first["batches"]


def test_a_long_batch_is_split_and_has_one_receipt(
    small_node: ApiThread, tmp_path: Path, capsys: Capture
) -> None:
    path = images(tmp_path / "images", 100)
    plan = output(capsys, *submit(path, "--dry-run"))
    assert (plan["parts"], plan["images_per_part"]) == ([33, 33, 33, 1], 33)
    assert run(submit(path, "--dry-run")) == 0
    table = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert (table["parts"], table["stages"]) == ("33, 33, 33, 1", "none")
    assert small_node.waiting() == []
    small_node.node.blocks_after_submit = 1
    receipt = output(capsys, *submit(path, "--wait", "2", "--timeout", "2"), code=2)
    assert [item["images"] for item in receipt["parts"]] == [33, 33, 33, 1]
    assert (receipt["level"], receipt["confirmations"]) == ("sealed", 1)
    small_node.seal(1)
    assert output(capsys, "submit", "--resume", "--wait", "2")["receipts"][0]["level"] == "confirmed"


def test_a_node_that_is_down_loses_nothing(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    path = images(tmp_path / "images")
    monkeypatch.setenv("FACECHAIN_API", f"http://127.0.0.1:{free_ports(1)[0]}")
    code, err = failure(capsys, *submit(path))
    assert code == 4
    assert "kept in the outbox, run `facechain submit --resume`" in err
    assert failure(capsys, "submit", "--resume")[0] == 4
    thread = serve(monkeypatch)
    try:
        thread.node.blocks_after_submit = 1
        (receipt,) = output(capsys, "submit", "--resume", "--wait", "1")["receipts"]
        assert (receipt["level"], receipt["images"]) == ("sealed", 3)
        assert output(capsys, "submit", "--resume")["receipts"] == []
        assert output(capsys, *submit(path))["resubmission"]
    finally:
        thread.__exit__(None, None, None)


def test_a_sequence_number_that_was_taken_meanwhile_is_replaced(
    node: ApiThread, data_dir: Path, tmp_path: Path, capsys: Capture
) -> None:
    """The outbox holds statements signed for numbers that another command has used since."""
    first = output(capsys, *submit(produced(tmp_path / "one", 4)))
    (group,) = (data_dir / "outbox" / "groups").iterdir()
    kept = {path.name: path.read_bytes() for path in group.glob("*.statement")}
    assert len(kept) == 5
    other = ApiThread(node.genesis)
    with other:
        more = ("--api", other.url)
        used = output(capsys, *submit(images(tmp_path / "other", 2), *more))
        again = output(capsys, *submit(tmp_path / "one", *more))
        assert len(other.waiting()) == 6
    assert used["complete"]
    assert again["complete"]
    assert set(again["batches"]).isdisjoint(first["batches"])
    assert any((group / name).read_bytes() != data for name, data in kept.items())


def test_what_a_node_forgot_is_offered_again_as_it_was_signed(
    node: ApiThread, tmp_path: Path, capsys: Capture
) -> None:
    first = output(capsys, *submit(produced(tmp_path / "batch", 4)))
    with ApiThread(node.genesis) as other:
        other.node.blocks_after_submit = 1
        again = output(capsys, *submit(tmp_path / "batch", "--api", other.url, "--wait", "1"))
    assert again["batches"] == first["batches"]
    assert again["level"] == "sealed"


class Crash(BaseException):
    """What SIGKILL is to a process: nothing that follows is run."""


class Fuse:
    """Stops a command before or after its n-th durable write or request."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left, self.is_set = 0, False
        self._wrap(monkeypatch, outbox, "write_durably")
        self._wrap(monkeypatch, outbox, "_sync")
        request = NodeClient._request

        async def fused(client: NodeClient, *arguments: Any, **options: Any) -> Any:
            self._burn()
            answer = await request(client, *arguments, **options)
            self._burn()
            return answer

        monkeypatch.setattr(NodeClient, "_request", fused)

    def _wrap(self, monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
        inner = getattr(module, name)

        def fused(*arguments: Any) -> None:
            self._burn()
            inner(*arguments)
            self._burn()

        monkeypatch.setattr(module, name, fused)

    def _burn(self) -> None:
        if self.is_set:
            self.left -= 1
            if self.left <= 0:
                raise Crash


def test_a_crash_at_any_step_loses_nothing_and_says_nothing_twice(
    keeper: ApiThread, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Each round submits other images, so the rounds share one chain."""
    fuse = Fuse(monkeypatch)
    monkeypatch.setattr(delivery, "POLL_SECONDS", 0.01)
    steps, finished = 0, False
    while not finished:
        steps += 1
        path = produced(tmp_path / str(steps), 2, seed=steps)
        fuse.left, fuse.is_set = steps, True
        try:
            assert run([*submit(path), "--json"]) == 0
            finished = True
        except Crash:
            fuse.is_set = False
            assert run(["submit", "--resume", "--wait", "1", "--json"]) == 0, capsys.readouterr().err
            capsys.readouterr()
            again = output(capsys, *submit(path, "--wait", "1"))
            assert (again["complete"], again["images"]) == (True, 2)
        capsys.readouterr()
        registered = read_batch(path).records
        with keeper.node.chain.snapshot() as chain:
            for record in registered:
                assert len(chain.claims_of_pixels(record.pixel_hash, limit=9)) == 1, f"step {steps}"
    assert steps > 20
    with keeper.node.chain.view() as state:
        assert state.next_sequence(SUBMITTER.public) == 4 + steps


def test_a_busy_node_is_given_the_time_that_it_asks_for(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    thread = ApiThread(make_genesis(heartbeat_ms=0, spacing_ms=3_000, half_life_ms=600_000))
    thread.node.limits = MempoolLimits(statements=3)
    asked: list[float] = []

    async def sleep(seconds: float) -> None:
        """Let time pass on the node's side: a block empties its mempool."""
        asked.append(seconds)
        thread.seal()

    with thread:
        monkeypatch.setenv("FACECHAIN_API", thread.url)
        monkeypatch.setenv("FACECHAIN_API_TOKEN", thread.token)
        code, err = failure(capsys, *submit(produced(tmp_path / "batch"), "--timeout", "1"))
        assert (code, "mempool-full" in err, "kept in the outbox" in err) == (5, True, True)
        monkeypatch.setattr(delivery, "pause", sleep)
        receipt = output(capsys, *submit(tmp_path / "batch"))
    assert receipt["complete"]
    assert asked == [3.0]


def test_a_key_without_a_role_is_refused_and_the_batch_kept(
    node: ApiThread, data_dir: Path, tmp_path: Path, capsys: Capture
) -> None:
    path = images(tmp_path / "images")
    code, err = failure(capsys, "submit", "--batch", str(path), "--key", "stranger")
    assert code == 5
    assert "unauthorized-author" in err
    assert len(list((data_dir / "outbox" / "groups").iterdir())) == 1


def test_a_node_of_another_network_gets_nothing(
    node: ApiThread, data_dir: Path, tmp_path: Path, capsys: Capture
) -> None:
    write_document(data_dir / "genesis.json", GenesisDocument.of(make_genesis(name="home")))
    code, err = failure(capsys, *submit(images(tmp_path / "images")))
    assert code == 5
    assert "the network of this batch" in err
    assert node.waiting() == []


def test_bad_input_is_one_clear_line(data_dir: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "a.png").write_bytes(make_picture(1).data[:50])
    for arguments, message in (
        (submit(tmp_path / "empty"), "at least one image, got none"),
        (submit(tmp_path / "cut"), "a.png: expected a complete image"),
        (submit(tmp_path / "missing"), "a folder or a zip archive, got nothing there"),
        (["submit"], "--batch PATH or --resume"),
        (["submit", "--batch", str(tmp_path), "--resume"], "--batch PATH or --resume"),
        (["submit", "--batch", str(tmp_path)], "the name of a ledger key"),
    ):
        code, err = failure(capsys, *arguments)
        assert code == 3, err
        assert message in err
    assert not (data_dir / "outbox").exists()
