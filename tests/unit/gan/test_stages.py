from pathlib import Path

import pytest

from facechain.consensus.kinds import StageType
from facechain.consensus.payloads import Stage
from facechain.gan.errors import StageError
from facechain.gan.stages import (
    StageRecord,
    anchor,
    extend,
    find_label,
    make_details,
    read_stages,
    write_stages,
)

DATASET = StageRecord(
    label="dataset", stage_type=StageType.DATASET, name="made", details=make_details({"images": 3})
)
TRAINING = StageRecord(
    label="training", stage_type=StageType.TRAINING, name="tiny", inputs=("dataset",), artifact=b"\x01" * 32
)


def test_stages_survive_their_file(tmp_path: Path) -> None:
    path = write_stages(tmp_path, (DATASET, TRAINING))
    assert read_stages(path) == (DATASET, TRAINING)
    assert read_stages(tmp_path / "missing.json") == ()


def test_anchoring_replaces_labels_by_statement_ids() -> None:
    sent: list[Stage] = []

    def submit(payload: Stage, /) -> bytes:
        assert Stage.decode(payload.encode()) == payload
        sent.append(payload)
        return bytes([len(sent)]) * 32

    chained = StageRecord(
        label="generation",
        stage_type=StageType.GENERATION,
        name="x",
        inputs=("training", "ab" * 32),
    )
    ids = anchor((DATASET, TRAINING, chained), submit)
    assert ids == {"dataset": b"\x01" * 32, "training": b"\x02" * 32, "generation": b"\x03" * 32}
    assert sent[1].inputs == (ids["dataset"],)
    assert sent[1].artifact == b"\x01" * 32
    assert sent[2].inputs == (ids["training"], b"\xab" * 32)


def test_order_and_labels_are_checked() -> None:
    with pytest.raises(StageError, match="input"):
        extend((TRAINING, DATASET))
    with pytest.raises(StageError, match="taken"):
        extend((DATASET, DATASET))


@pytest.mark.parametrize(
    "wrong",
    [
        {"label": ""},
        {"label": "0" * 64},
        {"artifact": b"short"},
        {"name": "x" * 200},
        {"details": (("b", "1"), ("a", "2"))},
        {"details": (("a", "1"), ("a", "2"))},
        {"details": (("a", "x" * 2000),)},
        {"inputs": ("a",) * 40},
    ],
)
def test_records_beyond_the_payloads_limits_are_refused(wrong: dict[str, object]) -> None:
    fields: dict[str, object] = {"label": "a", "stage_type": StageType.FILTER, "name": "n"} | wrong
    with pytest.raises(StageError):
        StageRecord(**fields)  # type: ignore[arg-type]


def test_damaged_stage_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "stage.json"
    for text in (
        "{",
        "[]",
        '{"format":"other"}',
        '{"format":"facechain-stages-1","stages":[{"label":"a"}]}',
    ):
        path.write_text(text)
        with pytest.raises(StageError):
            read_stages(path)


def test_details_are_sorted_text() -> None:
    assert make_details({"b": 0.123456789, "a": 2, "B": True}) == (
        ("B", "True"),
        ("a", "2"),
        ("b", "0.123457"),
    )
    assert find_label((DATASET, TRAINING), StageType.TRAINING) == "training"
    assert find_label((DATASET,), StageType.TRAINING) is None
