"""Wheel, sdist and editable install hold the same package, and the base install needs no torch."""

import json
import signal
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from support.deadline import wait_until
from support.environments import Environment, make_environment
from support.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("cli", "consensus", "gan", "node")
PRODUCER_ONLY = ("torch", "torchvision", "sklearn", "safetensors", "matplotlib", "fsspec", "tqdm")
IMPORT_EVERYTHING = """
import importlib, pkgutil, sys, facechain
for name in ("consensus", "node"):
    package = importlib.import_module(f"facechain.{name}")
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(found.name)
print(facechain.__file__)
"""


def packaged_files() -> set[str]:
    """Name every file of the four folders as it must be called in the wheel."""
    return {
        f"facechain/{path.relative_to(ROOT)}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    } | {"facechain/__init__.py", "facechain/py.typed"}


def build(*arguments: str, source: Path, into: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", *arguments, "--outdir", str(into), str(source)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (built,) = into.glob("facechain_node-*")
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("--wheel", source=ROOT, into=tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel and what it requires without extras."""
    environment = make_environment(
        tmp_path_factory.mktemp("base") / "venv",
        [text for text in metadata(wheel).get_all("Requires-Dist", []) if "extra ==" not in text],
    )
    environment.install(wheel)
    return environment


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_string(archive.read(name).decode())


def test_wheel_holds_the_package_and_nothing_beside_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name for name in names if name.startswith("facechain/")} == packaged_files()
    assert {name.split("/")[0] for name in names if not name.startswith("facechain/")} == {
        f"{wheel.name.removesuffix('-py3-none-any.whl')}.dist-info"
    }
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_metadata_names_the_distribution_and_keeps_torch_out_of_the_base(wheel: Path) -> None:
    described = metadata(wheel)
    assert described["Name"] == "facechain-node"
    assert described["License-Expression"] == "Apache-2.0"
    required = [Requirement(text) for text in described.get_all("Requires-Dist", [])]
    assert {entry.name for entry in required if entry.marker is None}.isdisjoint(PRODUCER_ONLY)
    assert set(described.get_all("Provides-Extra", [])) >= {"producer", "s3", "c2pa", "ray", "dp", "dev"}


def test_sdist_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    sdist = build("--sdist", source=ROOT, into=tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    rebuilt = build("--wheel", source=source, into=tmp_path / "rebuilt")
    assert contents(rebuilt) == contents(wheel)


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_base_install_is_a_validator_without_torch(base: Environment, tmp_path: Path) -> None:
    missing = base.run(
        "python",
        "-c",
        f"import importlib.util as u; print(*filter(u.find_spec, {PRODUCER_ONLY}))",
        cwd=tmp_path,
    )
    assert missing.stdout.split() == []
    imported = base.run("python", "-W", "error", "-c", IMPORT_EVERYTHING, cwd=tmp_path)
    assert imported.stderr == ""
    assert Path(imported.stdout.strip()).is_relative_to(base.site)
    helped = base.run("facechain", "--help", cwd=tmp_path)
    assert (helped.returncode, helped.stderr) == (0, "")


def test_base_install_mines_and_stops_on_sigterm(base: Environment, tmp_path: Path) -> None:
    peers, api = free_ports(2)
    data = ("--data-dir", str(tmp_path / "data"))
    genesis = ("--preset", "test", "--admin", "a", "--producer", "a", "--out", str(tmp_path / "genesis.json"))
    assert base.run("facechain", "key", "new", "a", "--no-passphrase", *data, cwd=tmp_path).returncode == 0
    founded = base.run("facechain", "network", "init", "--name", "trial", *genesis, *data, cwd=tmp_path)
    assert founded.returncode == 0, founded.stderr
    where = ("--listen", f"127.0.0.1:{peers}", "--api", f"127.0.0.1:{api}")
    mine = ("--genesis", str(tmp_path / "genesis.json"), "--mine", "--mining-key", "a")
    command = ("facechain", "node", "start", *data, *where, *mine)
    with base.started(*command, cwd=tmp_path, log=tmp_path / "log") as node:
        wait_until(lambda: height(api), seconds=60, what="a first block")
        node.send_signal(signal.SIGTERM)
        assert node.wait(timeout=20) == 0, (tmp_path / "log").read_text()


def height(port: int) -> int:
    """Return the height that a node's health page names; 0 while nothing answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return int(json.load(answer)["height"])
    except OSError:
        return 0


def test_editable_install_imports_the_checkout(tmp_path: Path) -> None:
    code = f"import hatchling.build as b; print(b.build_editable({str(tmp_path)!r}))"
    built = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()[-1]
    environment = make_environment(tmp_path / "venv", ["click"])
    environment.install(tmp_path / built)
    where = environment.run("python", "-c", "import facechain.cli.main as m; print(m.__file__)", cwd=tmp_path)
    assert where.stderr == ""
    assert Path(where.stdout.strip()).resolve() == ROOT / "cli" / "main.py"
    assert environment.run("facechain", "--version", cwd=tmp_path).stdout.startswith("facechain, version ")
