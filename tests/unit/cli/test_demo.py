"""The demo's parts that need no network: what counts as shown, and the pictures."""

from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from facechain.cli import demo as demo_module
from facechain.cli.demo_faces import (
    Registered,
    change_one_pixel,
    files_by_pixel_hash,
    write_noise,
    write_sheet,
)
from facechain.cli.demo_story import EXIT_CODES, Outcome
from facechain.cli.main import run
from facechain.consensus.image import decode_image, pixel_hash
from facechain.consensus.perceptual import MATCH_DISTANCE, hamming, perceptual_hash
from facechain.consensus.records import Record
from support.faces import made_faces


def good_outcome() -> Outcome:
    return Outcome(
        nodes=4,
        same_tip=True,
        height=9,
        images=1_000,
        clusters=125,
        audit_registered="verified",
        audit_altered="altered",
        audit_unknown="not-found",
        restarted_node_caught_up=True,
        seconds=1.0,
    )


def test_only_the_whole_of_it_is_a_success() -> None:
    good = good_outcome()
    assert good.failures() == []
    untouched = asdict(Outcome())
    for name in untouched.keys() - {"height", "seconds"}:
        spoiled = good_outcome()
        setattr(spoiled, name, untouched[name])
        assert [line.split()[0] for line in spoiled.failures()] == [name]


def test_the_outcome_has_the_documented_fields_in_order() -> None:
    assert list(asdict(Outcome())) == [
        "nodes",
        "same_tip",
        "height",
        "images",
        "clusters",
        "audit_registered",
        "audit_altered",
        "audit_unknown",
        "restarted_node_caught_up",
        "seconds",
    ]
    assert {
        good_outcome().audit_registered,
        good_outcome().audit_altered,
        good_outcome().audit_unknown,
    } == set(EXIT_CODES)


def test_without_the_producer_nothing_is_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo_module, "find_spec", lambda name: None if name == "torch" else find_spec(name))
    assert run(["demo"]) == 5
    out, err = capsys.readouterr()
    assert out == ""
    assert "pip install 'facechain-node[producer]'" in err
    assert err.count("\n") == 1


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    """A folder of six made faces, as a batch folder holds them."""
    folder = tmp_path / "batch" / "images"
    folder.mkdir(parents=True)
    for number, image in enumerate(made_faces(people=6, per_person=1, side=32).images):
        Image.fromarray(image).save(folder / f"{number:08d}.png")
    return folder.parent


def test_files_are_found_by_their_pixels(batch: Path) -> None:
    files = files_by_pixel_hash(batch)
    assert [path.name for path in files.values()] == [f"{number:08d}.png" for number in range(6)]
    for digest, path in files.items():
        assert pixel_hash(decode_image(path.read_bytes())) == digest


def test_one_pixel_is_changed_and_the_look_stays(batch: Path, tmp_path: Path) -> None:
    (digest, source), *_ = files_by_pixel_hash(batch).items()
    target = tmp_path / "altered.png"
    assert change_one_pixel(source, target) == (32, 32)
    before, after = decode_image(source.read_bytes()), decode_image(target.read_bytes())
    changed = {
        index // 3 for index, (old, new) in enumerate(zip(before.rgb, after.rgb, strict=True)) if old != new
    }
    assert changed == {16 * 32 + 16}
    assert pixel_hash(after) != digest
    assert hamming(perceptual_hash(before), perceptual_hash(after)) <= MATCH_DISTANCE


def test_noise_is_new_each_time_and_looks_like_no_face(batch: Path, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.png", "b.png")]
    for path in paths:
        write_noise(path, width=32, height=32)
    first, second = (decode_image(path.read_bytes()) for path in paths)
    assert (first.width, first.height) == (32, 32)
    assert first.rgb != second.rgb
    looks = [perceptual_hash(decode_image(path.read_bytes())) for path in files_by_pixel_hash(batch).values()]
    assert min(hamming(perceptual_hash(first), look) for look in looks) > MATCH_DISTANCE


def test_the_sheet_shows_one_face_of_each_cluster(batch: Path, tmp_path: Path) -> None:
    files = files_by_pixel_hash(batch)
    clusters = (7, 3, 7, 3, 9, 7)
    registered = Registered(
        height=12,
        block_hash=bytes(32),
        records=tuple(
            Record(pixel_hash=digest, file_hash=bytes(32), generator_index=number, cluster=cluster)
            for number, (digest, cluster) in enumerate(zip(files, clusters, strict=True))
        ),
    )
    assert registered.clusters == 3
    assert [record.generator_index for record in registered.one_of_each_cluster()] == [1, 0, 4]
    sheet = tmp_path / "new" / "folder" / "sheet.png"
    assert write_sheet(sheet, registered, files) == 3
    with Image.open(sheet) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert picture.width > 3 * 32
