import subprocess
import sys
from pathlib import Path

from facechain.gan.run_lock import held

HOLD = "import sys; from pathlib import Path; from facechain.gan.run_lock import held\nwith held(Path(sys.argv[1])): "


def test_it_ends_with_the_process_that_held_it(tmp_path: Path) -> None:
    died = subprocess.run([sys.executable, "-c", HOLD + "import os; os._exit(7)", str(tmp_path)], check=False)
    assert died.returncode == 7
    with held(tmp_path):
        again = subprocess.run(
            [sys.executable, "-c", HOLD + "pass", str(tmp_path)], check=False, capture_output=True
        )
    assert b"the run folder is in use" in again.stderr
