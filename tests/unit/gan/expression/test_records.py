import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facechain.gan.errors import DatasetError
from facechain.gan.expression.records import MAX_LINE_BYTES, make_table, read_table, write_table

HASHES = tuple(hashlib.sha256(bytes([number])).digest() for number in range(3))
Lines = list[dict[str, Any]]


def written(path: Path) -> Path:
    shares = np.random.default_rng(0).dirichlet([1] * 7, size=3).astype(np.float32)
    names = [f"{number:08d}.png" for number in range(3)]
    write_table(path, make_table(names, HASHES, shares, classifier=b"\x07" * 32))
    return path


def test_what_was_written_is_read_again_and_written_alike(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl")
    table = read_table(path, file_hashes=HASHES)
    assert table.classifier == b"\x07" * 32
    assert [image.name for image in table.images] == ["00000000.png", "00000001.png", "00000002.png"]
    assert np.allclose(table.probabilities().sum(1), 1.0, atol=1e-3)
    write_table(tmp_path / "b.jsonl", table)
    assert (tmp_path / "b.jsonl").read_bytes() == path.read_bytes()
    line = json.loads(path.read_text().splitlines()[1])
    assert line["confidence"] == max(line["probabilities"])
    assert line["file_sha256"] == HASHES[0].hex()


def change(number: int, **values: object) -> Callable[[Lines], Lines]:
    def apply(lines: Lines) -> Lines:
        lines[number] |= values
        return lines

    return apply


@pytest.mark.parametrize(
    "spoil, told",
    [
        (change(0, format="other"), "no table of expressions"),
        (change(0, classes=["glad"]), "with classes angry, disgust"),
        (change(0, count=4), "images: expected 4, got 3"),
        (change(0, classifier_sha256="00"), "line 1: expected 64 lower-case hex digits"),
        (change(1, file_sha256="AB" * 32), "line 2: expected 64 lower-case hex digits"),
        (change(1, file=""), "line 2: expected the name of a file"),
        (change(2, probabilities=[1.0]), "line 3: expected 7 probabilities"),
        (change(2, probabilities=[2.0, -1.0, 0, 0, 0, 0, 0]), "line 3: expected 7 probabilities"),
        (change(2, probabilities=[True, 0, 0, 0, 0, 0, 0]), "line 3: expected 7 probabilities"),
        (change(2, probabilities=[0.5, 0.1, 0, 0, 0, 0, 0]), "line 3: expected probabilities with sum 1"),
        (change(2, probabilities=[float("nan"), 1.0, 0, 0, 0, 0, 0]), "line 3: expected 7 probabilities"),
        (change(3, confidence=0.999), "line 4: expected"),
        (change(3, expression="bored"), "line 4: expected"),
        (lambda lines: lines[:3], "images: expected 3, got 2"),
        (lambda lines: [lines[0], lines[2], lines[1], lines[3]], "speaks of another 00000001.png"),
        (lambda lines: [lines[0] | {"count": 2}, *lines[1:3]], "speaks of other images: expected 3 images"),
        (lambda _: [], "no table of expressions"),
    ],
)
def test_a_spoilt_file_is_refused_by_line(spoil: Callable[[Lines], Lines], told: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl")
    lines = spoil([json.loads(line) for line in path.read_text().splitlines()])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DatasetError, match=re.escape(told)):
        read_table(path, file_hashes=HASHES)


@pytest.mark.parametrize(
    "data, told",
    [
        (b"[1]\n", "line 1: expected an object, got list"),
        (b"{\n", "line 1: expected JSON"),
        (b"\xff\xfe\n", "line 1: expected JSON"),
        (b"[" * 8000 + b"\n", "line 1: expected JSON"),
        (b" " * (MAX_LINE_BYTES + 1), "line 1: expected at most 8192 bytes"),
    ],
)
def test_bytes_that_are_no_table_are_refused(data: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=re.escape(told)):
        read_table(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot read the predictions.*nothing\.jsonl"):
        read_table(tmp_path / "nothing.jsonl")
