"""A batch made by two Ray workers on this machine, against one made here; and with a worker killed meanwhile."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from facechain.gan.device import open_device
from facechain.gan.presets import TINY
from facechain.gan.runs import TrainingRun
from support.deadline import wait_until
from support.faces import made_faces, write_zip

LAYOUT = Path(__file__).parents[2] / ".layout"
DEADLINE_SECONDS = 110
WORKER = b"ray::MapWorker"
RAYLET = "raylet"

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A generator, and the faces that its filter refuses to resemble."""
    folder = tmp_path_factory.mktemp("ray")
    faces = made_faces(people=80, per_person=3)
    run = TrainingRun(folder / "run", config=TINY, faces=faces, device=open_device("cpu", bf16=False))
    run.run()
    run.close()
    return {"run": folder / "run", "faces": write_zip(faces, folder / "faces.zip")}


def produce(trained: dict[str, Path], out: Path, *more: str, count: int = 40) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "facechain.cli", "produce", "--no-submit", "--json", "--seed", "ray"),
            *("--checkpoint", str(trained["run"]), "--reference", str(trained["faces"])),
            *(
                "--false-match-rate",
                "1e-4",
                "--holdout-share",
                "0.5",
                "--count",
                str(count),
                "--micro-batch",
                "4",
                "--clusters",
                "5",
            ),
            *("--store", str(out.with_name(out.name + "-store")), "--out", str(out), "--device", "cpu"),
            *more,
        ],
        env=os.environ | {"PYTHONPATH": str(LAYOUT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> None:
    try:
        _, errors = process.communicate(timeout=DEADLINE_SECONDS)
    finally:
        process.terminate()  # takes its cluster along
    assert process.returncode == 0, errors


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of every file but the description that names the store."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "batch.json"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Rendering processes below `process`, through its raylet."""
    parents: dict[int, int] = {}
    titles: dict[int, bytes] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
            titles[int(entry.name)] = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])

    def descends(pid: int) -> bool:
        while pid in parents:
            if pid == process.pid:
                return True
            pid = parents[pid]
        return False

    return [pid for pid, title in titles.items() if title.startswith(WORKER) and descends(pid)]


def test_two_workers_give_the_bytes_of_one_process(trained: dict[str, Path], tmp_path: Path) -> None:
    here = produce(trained, tmp_path / "local")
    finished(here)
    finished(produce(trained, tmp_path / "ray", "--engine", "ray", "--workers", "2"))
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert contents(tmp_path / "ray-store") == contents(tmp_path / "local-store")
    assert len(list((tmp_path / "ray/images").iterdir())) == 40


def test_a_batch_survives_the_death_of_a_worker(trained: dict[str, Path], tmp_path: Path) -> None:
    finished(produce(trained, tmp_path / "local", count=400))
    process = produce(trained, tmp_path / "ray", "--engine", "ray", "--workers", "2", count=400)

    def working() -> list[int]:
        assert process.poll() is None, process.communicate()
        return workers_of(process)

    (victim, *_) = wait_until(working, seconds=DEADLINE_SECONDS, what="a rendering worker")
    os.kill(victim, signal.SIGKILL)
    finished(process)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
