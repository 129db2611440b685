"""Submit against a node's real API: parts, outbox, crashes, re-submission; then the audits of what was registered."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facechain.cli import delivery, outbox
from facechain.cli.client import NodeClient
from facechain.cli.main import run
from facechain.consensus.kinds import StageType
from facechain.gan.batchfolder import BatchFacts, encode_images, write_batch
from facechain.gan.stages import StageRecord
from facechain.node.batch_folder import read_batch
from facechain.node.genesis_file import GenesisDocument, write_document
from facechain.node.keystore import Keystore
from facechain.node.mempool import MempoolLimits
from support.api_thread import ApiThread
from support.chain import PRODUCER, STRANGER, SUBMITTER, make_genesis
from support.pictures import altered, make_picture
from support.ports import free_ports

SEED = bytes(range(32))
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    monkeypatch.setenv("FACECHAIN_DATA_DIR", str(folder))
    keystore = Keystore(folder / "keys")
    keystore.add("sam", SUBMITTER, None)
    keystore.add("stranger", STRANGER, None)
    return folder


def serve(monkeypatch: pytest.MonkeyPatch, objects: Path | None = None, **params: Any) -> ApiThread:
    thread = ApiThread(make_genesis(heartbeat_ms=0, **params), objects=objects)
    thread.__enter__()
    monkeypatch.setenv("FACECHAIN_API", thread.url)
    monkeypatch.setenv("FACECHAIN_API_TOKEN", thread.token)
    return thread


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> Iterator[ApiThread]:
    thread = serve(monkeypatch)
    yield thread
    thread.__exit__(None, None, None)


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch, data_dir: Path, tmp_path: Path) -> Iterator[ApiThread]:
    """A node that holds the images of public batches and seals a block after each submission."""
    thread = serve(monkeypatch, tmp_path / "objects")
    thread.node.blocks_after_submit = 1
    yield thread
    thread.__exit__(None, None, None)


@pytest.fixture
def small_node(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> Iterator[ApiThread]:
    """A network whose statements hold 33 public images."""
    thread = serve(monkeypatch, max_statement_bytes=4_096)
    yield thread
    thread.__exit__(None, None, None)


def images(folder: Path, count: int = 3, *, start: int = 0) -> Path:
    folder.mkdir()
    for number in range(start, start + count):
        (folder / f"{number:08d}.png").write_bytes(make_picture(number).data)
    return folder


def produced(path: Path, count: int = 4, *, seed: int = 3) -> Path:
    random = np.random.Generator(np.random.PCG64(seed))
    stages = (
        StageRecord(label="dataset", stage_type=StageType.DATASET, name="faces"),
        StageRecord(label="training", stage_type=StageType.TRAINING, name="a model", inputs=("dataset",)),
        StageRecord(label="generation", stage_type=StageType.GENERATION, name="x", inputs=("training",)),
        StageRecord(label="clustering", stage_type=StageType.CLUSTERING, name="k", inputs=("generation",)),
    )
    return write_batch(
        path,
        encode_images(range(count), random.integers(0, 256, size=(count, 32, 32, 3), dtype=np.uint8)),
        labels=[0] * count,
        facts=BatchFacts(
            public=True,
            seed=SEED,
            micro_batch=64,
            stages=stages,
            model="training",
            clustering="clustering",
            filter=None,
            store=None,
        ),
    )


def output(capsys: Capture, *arguments: str, code: int = 0) -> Any:
    found = run([*arguments, "--json"])
    out, err = capsys.readouterr()
    assert found == code, err
    return json.loads(out)


def failure(capsys: Capture, *arguments: str) -> tuple[int, str]:
    code = run(list(arguments))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return code, err


def submit(path: Path, *more: str) -> list[str]:
    return ["submit", "--batch", str(path), "--key", "sam", *more]


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


def audit(capsys: Capture, subject: object, *more: str, code: int = 0) -> Any:
    return output(capsys, "audit", str(subject), *more, code=code)


def test_a_registered_image_is_verified_by_file_and_by_both_hashes(
    keeper: ApiThread, tmp_path: Path, capsys: Capture
) -> None:
    path = produced(tmp_path / "batch")
    receipt = output(capsys, *submit(path))
    assert receipt["objects"] == {"sent": 4}
    file = path / "images" / "00000002.png"
    found = audit(capsys, file)
    assert (found["result"], found["headline"]) == ("verified", "claimed synthetic: registered, verified")
    (claim,) = found["claims"]
    assert {layer["status"] for layer in claim["layers"]} == {"passed"}
    story = claim["story"]
    assert (story["record_index"], story["batch"]) == (2, receipt["batches"][0])
    assert story["filter"] == "none"
    assert [stage["stage_type"] for stage in story["stages"]] == [
        "training",
        "clustering",
        "dataset",
        "generation",
    ]
    for name in ("pixel_hash", "file_hash"):
        by_hash = audit(capsys, story[name])
        assert by_hash["result"] == "verified"
        assert by_hash["claims"][0]["story"] == story


def test_an_audit_reads_well(keeper: ApiThread, tmp_path: Path, capsys: Capture) -> None:
    path = produced(tmp_path / "batch")
    output(capsys, *submit(path))
    network = keeper.genesis.network_id.hex()
    assert run(["audit", str(path / "images" / "00000002.png"), "--trust-network", network]) == 0
    page = capsys.readouterr().out
    assert page.startswith("VERIFIED: claimed synthetic: registered, verified\n")
    for text in ("filter: none", "no record", f"{network} (trusted)", "provenance"):
        assert text in page
    assert run(["audit", str(path / "images" / "00000002.png")]) == 0
    assert "by its own word: name it with --trust-network" in capsys.readouterr().out


def test_the_same_pixels_in_another_file_are_said_to_be_re_coded(
    keeper: ApiThread, tmp_path: Path, capsys: Capture
) -> None:
    path = images(tmp_path / "images")
    output(capsys, *submit(path))
    with Image.open(path / "00000001.png") as picture:
        picture.save(tmp_path / "copy.webp", lossless=True)
    found = audit(capsys, tmp_path / "copy.webp")
    assert found["result"] == "verified"
    assert "same pixels, file re-coded" in found["headline"]
    assert found["claims"][0]["layers"][0]["status"] == "differs"


def test_altered_copies_are_recognised_and_strangers_are_not(
    keeper: ApiThread, tmp_path: Path, capsys: Capture
) -> None:
    path = images(tmp_path / "images", 20)
    output(capsys, *submit(path))
    original = make_picture(7)
    (tmp_path / "one.png").write_bytes(altered(original).data)
    with Image.open(path / "00000007.png") as picture:
        picture.save(tmp_path / "copy.jpg", quality=75)
        picture.resize((64, 64)).save(tmp_path / "large.png")
    for name in ("one.png", "copy.jpg", "large.png"):
        found = audit(capsys, tmp_path / name, code=2)
        assert found["result"] == "altered", name
        match = found["match"]
        assert match["pixel_hash"] == original.pixel_hash.hex()
        assert match["recomputed_from_pixels"]
        assert 0 < match["distance"] <= match["threshold"] or name == "large.png"
        assert found["claims"][0]["verified"]
    assert run(["audit", str(tmp_path / "one.png")]) == 2
    page = capsys.readouterr().out
    assert page.startswith(
        f"ALTERED: altered copy of registered image {original.pixel_hash.hex()}, distance "
    )
    assert "the measured false-match rate is 0 of" in page
    (tmp_path / "stranger.png").write_bytes(make_picture(99).data)
    assert audit(capsys, tmp_path / "stranger.png", code=1)["result"] == "not-found"
    assert audit(capsys, "ab" * 32, code=1)["result"] == "not-found"


def test_without_the_image_the_distance_is_the_node_s_word(
    node: ApiThread, tmp_path: Path, capsys: Capture
) -> None:
    node.node.blocks_after_submit = 1
    receipt = output(capsys, *submit(images(tmp_path / "images")))
    assert receipt["objects"]["sent"] == 0
    assert "objects-disabled" in receipt["objects"]["skipped"]
    (tmp_path / "one.png").write_bytes(altered(make_picture(1)).data)
    found = audit(capsys, tmp_path / "one.png", code=2)
    assert (found["result"], found["match"]["recomputed_from_pixels"]) == ("altered", False)


def test_a_private_batch_is_found_by_hash_and_never_by_look(
    keeper: ApiThread, tmp_path: Path, capsys: Capture
) -> None:
    path = images(tmp_path / "images")
    receipt = output(capsys, *submit(path, "--private"))
    assert receipt["objects"] == {"sent": 0, "skipped": "a private batch"}
    assert audit(capsys, path / "00000001.png")["claims"][0]["story"]["public"] is False
    (tmp_path / "one.png").write_bytes(altered(make_picture(1)).data)
    assert audit(capsys, tmp_path / "one.png", code=1)["result"] == "not-found"


def test_all_claims_of_the_same_pixels_are_told(
    keeper: ApiThread, data_dir: Path, tmp_path: Path, capsys: Capture
) -> None:
    Keystore(data_dir / "keys").add("paul", PRODUCER, None)
    path = images(tmp_path / "images")
    output(capsys, *submit(path))
    output(capsys, "submit", "--batch", str(path), "--key", "paul")
    found = audit(capsys, path / "00000001.png")
    assert [claim["story"]["author"] for claim in found["claims"]] == [
        SUBMITTER.public.hex(),
        PRODUCER.public.hex(),
    ]
    assert run(["audit", str(path / "00000001.png")]) == 0
    assert "1 more claims of the same pixels" in capsys.readouterr().out


def test_a_proof_file_is_verified_without_a_node(
    keeper: ApiThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    path = images(tmp_path / "images")
    output(capsys, *submit(path))
    proof, genesis = tmp_path / "x.fcproof", tmp_path / "genesis.json"
    write_document(genesis, GenesisDocument.of(keeper.genesis))
    audit(capsys, path / "00000001.png", "--proof", str(proof), "--trust-network", str(genesis))
    monkeypatch.setenv("FACECHAIN_API", f"http://127.0.0.1:{free_ports(1)[0]}")
    network = ("--network", str(genesis))
    good = output(capsys, "verify", str(path / "00000001.png"), str(proof), *network)
    assert (good["result"], good["network_trusted"]) == ("verified", True)
    other = output(capsys, "verify", str(path / "00000002.png"), str(proof), *network, code=2)
    assert (other["result"], other["failed_layer"]) == ("failed", "pixels")
    foreign = output(capsys, "verify", str(path / "00000001.png"), str(proof), "--network", "ab" * 32, code=2)
    assert foreign["failed_layer"] == "chain"
    assert run(["verify", str(path / "00000002.png"), str(proof), *network]) == 2
    assert capsys.readouterr().out.startswith("FAILED: layer pixels: pixel hash: expected ")
    code, err = failure(capsys, "verify", str(path / "00000001.png"), str(path / "00000001.png"))
    assert (code, "expected a facechain proof file" in err) == (3, True)


def test_a_network_that_is_not_trusted_fails(keeper: ApiThread, tmp_path: Path, capsys: Capture) -> None:
    path = images(tmp_path / "images")
    output(capsys, *submit(path))
    proof = tmp_path / "x.fcproof"
    found = audit(capsys, path / "00000001.png", "--trust-network", "ab" * 32, "--proof", str(proof), code=2)
    assert (found["result"], found["claims"][0]["failed_layer"]) == ("failed", "chain")
    assert not proof.exists()


def test_bad_subjects_and_a_dead_node_are_one_clear_line(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("FACECHAIN_API", f"http://127.0.0.1:{free_ports(1)[0]}")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "cut.png").write_bytes(make_picture(1).data[:60])
    for subject, expected in (
        ("ab" * 32, 4),
        ("ab" * 31, 3),
        (tmp_path / "text.png", 3),
        (tmp_path / "cut.png", 3),
    ):
        code, err = failure(capsys, "audit", str(subject))
        assert code == expected, err
