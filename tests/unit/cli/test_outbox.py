"""The outbox: what is written stays, whole, and is found again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from facechain.cli.errors import CheckFailedError, RefusedError
from facechain.cli.outbox import Draft, Outbox, write_durably
from facechain.cli.submission import make_draft
from facechain.node.batch_folder import read_batch
from support.chain import SUBMITTER, ChainBuilder
from support.registry import make_png

NETWORK = bytes(range(32))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(make_png(number))
    return folder


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "outbox")


def draft_of(images: Path, *, private: bool = False, network: bytes | None = NETWORK) -> Draft:
    return make_draft(
        read_batch(images),
        author=SUBMITTER.public,
        network=network,
        key="alice",
        private=private,
        wait=2,
        with_objects=True,
    )


def test_a_batch_is_read_back_as_it_was_kept(outbox: Outbox, images: Path) -> None:
    batch, draft = read_batch(images), draft_of(images)
    group = outbox.keep(draft, batch.records, batch.looks)
    assert (group.draft(), group.records(), group.looks()) == (draft, batch.records, batch.looks)
    assert outbox.keep(draft, batch.records, batch.looks).path == group.path
    assert [found.path for found in outbox.groups()] == [group.path]
    assert {path.stat().st_mode & 0o077 for path in group.path.iterdir()} == {0}


def test_private_and_public_and_other_networks_are_batches_of_their_own(outbox: Outbox, images: Path) -> None:
    batch = read_batch(images)
    public = outbox.keep(draft_of(images), batch.records, batch.looks)
    private = outbox.keep(draft_of(images, private=True), batch.records, batch.looks)
    elsewhere = outbox.keep(draft_of(images, network=bytes(32)), batch.records, batch.looks)
    assert len({public.path, private.path, elsewhere.path}) == 3
    assert private.looks() == ()
    assert len(outbox.groups()) == 3


def test_the_network_is_noted_once_it_is_known(outbox: Outbox, images: Path) -> None:
    batch = read_batch(images)
    group = outbox.keep(draft_of(images, network=None), batch.records, batch.looks)
    group.set_network(NETWORK)
    assert group.draft() == replace(draft_of(images), network=NETWORK)


def test_statements_receipts_and_stages_are_kept(outbox: Outbox, images: Path) -> None:
    batch = read_batch(images)
    group = outbox.keep(draft_of(images), batch.records, batch.looks)
    assert group.statement("part-0000") is None
    assert group.receipt() is None
    statement = ChainBuilder().batch()
    group.keep_statement("part-0000", statement)
    group.keep_receipt({"complete": True})
    assert group.statement("part-0000") == statement
    assert group.receipt() == {"complete": True}
    assert outbox.stage_id(NETWORK, SUBMITTER.public, b"stage") is None
    outbox.keep_stage(NETWORK, SUBMITTER.public, b"stage", statement.id)
    assert outbox.stage_id(NETWORK, SUBMITTER.public, b"stage") == statement.id
    assert outbox.stage_id(bytes(32), SUBMITTER.public, b"stage") is None


def test_a_batch_that_was_cut_off_while_it_was_written_is_not_there(outbox: Outbox, images: Path) -> None:
    batch = read_batch(images)
    group = outbox.keep(draft_of(images), batch.records, batch.looks)
    group.path.rename(group.path.with_name(f".{group.path.name}.cut"))
    assert outbox.groups() == ()
    assert outbox.keep(draft_of(images), batch.records, batch.looks).draft() == draft_of(images)


@pytest.mark.parametrize("damage", ["{", "[]", '{"format": "facechain-outbox-1"}', '{"format": "x"}'])
def test_damage_is_named(outbox: Outbox, images: Path, damage: str) -> None:
    batch = read_batch(images)
    group = outbox.keep(draft_of(images), batch.records, batch.looks)
    (group.path / "batch.json").write_text(damage)
    with pytest.raises(CheckFailedError, match=r"batch\.json"):
        group.draft()


def test_only_one_command_works_on_a_batch(outbox: Outbox, images: Path) -> None:
    batch = read_batch(images)
    group = outbox.keep(draft_of(images), batch.records, batch.looks)
    with group.locked(), pytest.raises(RefusedError, match="one command at a time"), group.locked():
        pass
    with group.locked():
        pass


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_durably(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("facechain.cli.outbox.os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


def test_the_file_is_json_that_people_can_read(outbox: Outbox, images: Path) -> None:
    batch = read_batch(images)
    group = outbox.keep(draft_of(images), batch.records, batch.looks)
    content = json.loads((group.path / "batch.json").read_text())
    assert content["network"] == NETWORK.hex()
    assert content["path"] == str(images)
