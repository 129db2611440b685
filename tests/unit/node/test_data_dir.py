"""The data directory's layout and permissions."""

import stat
from pathlib import Path

import pytest

from facechain.node.data_dir import DataDir, DataDirError, default_data_dir


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_default_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_data_dir() == tmp_path / "facechain"


def test_layout() -> None:
    layout = DataDir(root=Path("/data"))
    assert {
        layout.config_file.name,
        layout.genesis_file.name,
        layout.store.name,
        layout.keys.name,
        layout.log_file.name,
        layout.api_token_file.name,
        layout.admin_token_file.name,
    } == {"config.toml", "genesis.json", "store", "keys", "node.log", "api-token", "admin-token"}


def test_create_makes_private_folders_and_may_be_repeated(tmp_path: Path) -> None:
    layout = DataDir(root=tmp_path / "a" / "b").create().create()
    assert [mode(folder) for folder in (layout.root, layout.store, layout.keys)] == [0o700] * 3


def test_create_accepts_a_root_that_others_may_list(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert mode(DataDir(root=tmp_path).create().keys) == 0o700


@pytest.mark.parametrize("name", ["keys", "store"])
def test_folder_open_to_others_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name).chmod(0o750)
    with pytest.raises(DataDirError, match=f"expected mode 0700, got 0750; run: chmod 700 {tmp_path / name}"):
        DataDir(root=tmp_path).create()


def test_root_that_cannot_be_made_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataDirError) as caught:
        DataDir(root=tmp_path / "file" / "data").create()
    assert caught.value.diagnostics().startswith(f"data-dir: {tmp_path}/file/data: expected a folder")
    assert "\n" not in caught.value.diagnostics()


def test_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataDirError, match="expected a folder"):
        DataDir(root=tmp_path / "file").create()
