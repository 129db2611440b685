"""What `facechain --help` costs beside a bare `python -c "import click, asyncio"`; the target is at most twice."""

import subprocess
import sys
import time
from statistics import median

ROUNDS = 15
BARE = [sys.executable, "-c", "import click, asyncio"]
HELP = [sys.executable, "-c", "from facechain.cli.main import main; main()", "--help"]


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    pairs = [(seconds(BARE), seconds(HELP)) for _ in range(ROUNDS)]
    bare, helped = median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)
    print(
        f"help: bare {bare * 1e3:.0f} ms, facechain --help {helped * 1e3:.0f} ms, ratio {helped / bare:.2f}"
    )


if __name__ == "__main__":
    main()
