"""What holds for every test: no user's settings leak in, nothing is written to the user's folders."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "facechain", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("facechain")

SEEDS_DEFAULT = 10


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seeds", type=int, default=SEEDS_DEFAULT, help="runs of each simulation (tests/simulation)"
    )


USER_FOLDERS = ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")


def pytest_configure() -> None:
    """Let Ctrl-C reach what the tests start, even where a shell runs the tests in the background.

    Such a shell has its children ignore SIGINT, and they hand that on to their own.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _own_folders_and_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Point the user's folders to a temporary one and drop `FACECHAIN_*` variables, for child processes too."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("FACECHAIN_")]:
            patch.delenv(name)
        home: Path = tmp_path_factory.mktemp("user")
        for name in USER_FOLDERS:
            patch.setenv(name, str(home / name.lower()))
        yield
