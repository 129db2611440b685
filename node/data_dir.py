"""Where a node keeps its files: the layout of the data directory.

Owns names and permissions. It reads and writes no file itself. The directory holds private keys, so what is
made here is for its owner only (0700).
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

APPLICATION: Final = "facechain"
PRIVATE_MODE: Final = 0o700

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class DataDirError(Exception):
    """The data directory cannot be used as it is."""

    code: Final = "data-dir"

    def diagnostics(self) -> str:
        """Return the failure as one line for a person."""
        return f"{self.code}: {self}"


def default_data_dir() -> Path:
    """Return the data directory of this user, as the platform has it (`~/.local/share/facechain` on Linux)."""
    import platformdirs  # noqa: PLC0415 - 20 ms that most commands need not pay

    return platformdirs.user_data_path(APPLICATION, appauthor=False).absolute()


@dataclass(frozen=True, slots=True, kw_only=True)
class DataDir:
    """The layout below one root."""

    root: Path

    @property
    def config_file(self) -> Path:
        """Settings, as `config.py` reads them; may be absent."""
        return self.root / "config.toml"

    @property
    def genesis_file(self) -> Path:
        """The network that this node belongs to."""
        return self.root / "genesis.json"

    @property
    def store(self) -> Path:
        """Folder of the store and of its instance lock."""
        return self.root / "store"

    @property
    def keys(self) -> Path:
        """Folder of encrypted keys."""
        return self.root / "keys"

    @property
    def log_file(self) -> Path:
        """What the node did."""
        return self.root / "node.log"

    @property
    def api_token_file(self) -> Path:
        """Default place of the token that the HTTP API asks for."""
        return self.root / "api-token"

    @property
    def admin_token_file(self) -> Path:
        """Default place of the token that the operator's routes of the HTTP API ask for."""
        return self.root / "admin-token"

    def create(self) -> DataDir:
        """Make what is missing, private to its owner, and return self.

        DataDirError when a folder cannot be made, is no folder, or shows the keys or the store to others.
        """
        for folder in (self.root, self.store, self.keys):
            try:
                folder.mkdir(mode=PRIVATE_MODE, parents=True, exist_ok=True)
            except OSError as error:
                raise DataDirError(
                    f"{folder}: expected a folder that can be made, got {error.strerror}; "
                    "choose another --data-dir"
                ) from error
        for folder in (self.store, self.keys):
            mode = stat.S_IMODE(folder.stat().st_mode)
            if mode & _OTHERS:
                raise DataDirError(f"{folder}: expected mode 0700, got {mode:04o}; run: chmod 700 {folder}")
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise DataDirError(
                f"{self.root}: expected a folder that this user can write; choose another --data-dir"
            )
        return self
