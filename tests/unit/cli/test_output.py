"""What commands print for people: lists as words, for programs as lists."""

import json

import pytest

from facechain.cli.producer_options import show


def test_a_list_is_words_for_people_and_a_list_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    result: dict[str, object] = {"report": "r.html", "missing": ["faces", "the matrix"], "left_out": []}
    show(result, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "report    r.html",
        "missing   faces, the matrix",
        "left out  none",
    ]
    show(result, as_json=True)
    assert json.loads(capsys.readouterr().out) == result
