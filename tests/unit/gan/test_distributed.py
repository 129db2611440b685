"""Two real processes, as torchrun starts them, against one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from facechain.gan.checkpoints import load_state, newest_state, state_tensors
from facechain.gan.distributed import ALONE, Group, open_group
from facechain.gan.errors import ConfigError
from facechain.gan.runs import read_stats
from support.faces import made_faces, write_zip

LAYOUT = Path(__file__).parents[3] / ".layout"
DEADLINE_SECONDS = 100
UNDECIDED = "discriminator.score.bias"
"""RpGAN sees differences of scores only: this gradient is rounding noise, which Adam scales up."""
LAUNCHER = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")


def train(data: Path, out: Path, *launcher: str, more: tuple[str, ...] = ()) -> dict[str, object]:
    finished = subprocess.run(
        [
            *(sys.executable, "-m", *launcher, "facechain.cli", "train", "--device", "cpu", "--json"),
            *("--data", str(data), "--out", str(out), "--preset", "tiny", "--images", "96", *more),
        ],
        env=os.environ | {"PYTHONPATH": str(LAYOUT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr.decode()
    after_gloo_s_greeting = finished.stdout[finished.stdout.index(b"{") :]
    told: dict[str, object] = json.loads(after_gloo_s_greeting)
    return told


def weights(run: Path) -> dict[str, torch.Tensor]:
    state = newest_state(run)
    assert state is not None
    parts = load_state(state)
    return {
        f"{part}.{name}": value
        for part in ("generator", "discriminator", "average")
        for name, value in state_tensors(parts, part).items()
    }


def test_two_processes_train_what_one_trains_and_resume_it(tmp_path: Path) -> None:
    data = write_zip(made_faces(people=8, per_person=4), tmp_path / "faces.zip")
    schedule = ("--set", "schedule_images=96")
    told = train(data, tmp_path / "two", *LAUNCHER, more=(*schedule, "--checkpoint-images", "48"))
    assert (told["processes"], told["images_seen"]) == (2, 96)
    assert train(data, tmp_path / "two", *LAUNCHER, more=(*schedule, "--resume"))["images_seen"] == 96
    assert train(data, tmp_path / "one", more=(*schedule, "--checkpoint-images", "48"))["processes"] == 1
    two, one = weights(tmp_path / "two"), weights(tmp_path / "one")
    assert set(two) == set(one)
    del one[UNDECIDED]
    for name, value in one.items():
        assert torch.allclose(value, two[name], rtol=1e-3, atol=1e-5), name
    rows = [read_stats(tmp_path / name) for name in ("one", "two")]
    assert [row["images_seen"] for row in rows[1]] == [48, 96]
    for alone, shared in zip(*rows, strict=True):
        assert shared["d_loss"] == pytest.approx(alone["d_loss"], rel=1e-3)


def test_a_share_is_its_part_of_the_batch() -> None:
    parts = [Group(rank=rank, size=4).share(12) for rank in range(4)]
    assert [list(range(12))[part] for part in parts] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    assert ALONE.share(5) == slice(0, 5)
    with pytest.raises(ConfigError, match="multiple of 4"):
        Group(rank=0, size=4).share(10)


def test_an_incomplete_launch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ConfigError, match="torchrun"), open_group(cuda=False):
        pass


def test_one_process_under_torchrun_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    with open_group(cuda=False) as group:
        assert group is ALONE
