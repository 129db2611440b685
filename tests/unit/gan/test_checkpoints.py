import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from facechain.gan.checkpoints import (
    LoadedGenerator,
    drop_old_states,
    load_generator,
    load_state,
    save_generator,
    save_state,
    write_atomically,
)
from facechain.gan.errors import CheckpointError


def test_generator_comes_back_with_its_configuration(loaded: LoadedGenerator, tmp_path: Path) -> None:
    path = tmp_path / "copy.safetensors"
    save_generator(path, loaded.module, loaded.config, images_seen=7)
    again = load_generator(path)
    assert again.config == loaded.config
    assert again.images_seen == 7
    for left, right in zip(loaded.module.parameters(), again.module.parameters(), strict=True):
        assert torch.equal(left, right)


def test_half_precision_is_widened_on_loading(loaded: LoadedGenerator, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_generator(path, loaded.module, loaded.config, images_seen=0, dtype=torch.float16)
    assert path.stat().st_size < loaded.path.stat().st_size * 0.7
    again = load_generator(path)
    for left, right in zip(loaded.module.parameters(), again.module.parameters(), strict=True):
        assert right.dtype == torch.float32
        assert torch.allclose(left, right, atol=2e-3)


def test_damaged_missing_and_foreign_files_are_refused(loaded: LoadedGenerator, tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(loaded.path.read_bytes()[:100])
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(1)}, foreign)
    for path in (cut, foreign, tmp_path / "missing"):
        with pytest.raises(CheckpointError):
            load_generator(path)


def test_weights_of_another_shape_are_refused(loaded: LoadedGenerator, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_generator(path, torch.nn.Linear(1, 1), loaded.config, images_seen=0)
    with pytest.raises(CheckpointError, match="configuration"):
        load_generator(path)


class Trap:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.path,))


def test_a_training_state_runs_no_code(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    torch.save({"step": Trap(sprung)}, tmp_path / "state.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Trap(sprung)))
    for name in ("state.pt", "raw.pt"):
        with pytest.raises(CheckpointError):
            load_state(tmp_path / name)
    assert not sprung.exists()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_only_the_newest_states_are_kept(tmp_path: Path) -> None:
    for seen in (8, 16, 24):
        save_state(tmp_path / "checkpoints" / f"{seen:09d}" / "train_state.pt", {"step": seen})
    drop_old_states(tmp_path)
    left = sorted(path.parent.name for path in tmp_path.glob("checkpoints/*/train_state.pt"))
    assert left == ["000000016", "000000024"]
