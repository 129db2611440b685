"""Run `facechain` with a clock that is off by as many milliseconds as a file says, and follow it when the file changes.

    python shifted_clock.py FILE node start …

For this process only, and only for the time of day: `time.time` and `time.time_ns`, which is where all code of a node reads it.
The monotonic clock goes on as it does when a real clock is set. (A time namespace shifts the other clocks only, and
libfaketime 0.9.10 makes `time.sleep` of Python 3.11 fail.)
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

READ_EVERY_SECONDS = 0.2


class ShiftedClock:
    """The machine's clock plus the file's number."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._true_ns = time.time_ns
        self._offset_ns = 0
        self._read_at = float("-inf")

    def time_ns(self) -> int:
        """Return Unix time in nanoseconds."""
        now = time.monotonic()
        if now - self._read_at > READ_EVERY_SECONDS:
            self._read_at = now
            self._offset_ns = int(self._file.read_text()) * 1_000_000
        return self._true_ns() + self._offset_ns

    def time(self) -> float:
        """Return Unix time in seconds."""
        return self.time_ns() / 1_000_000_000


def write_offset(file: Path, milliseconds: int) -> None:
    """Set the clocks that follow `file`."""
    scratch = file.with_suffix(".new")
    scratch.write_text(str(milliseconds))
    scratch.replace(file)


def main() -> None:
    """Shift the clock, then be `facechain`."""
    clock = ShiftedClock(Path(sys.argv.pop(1)))
    setattr(time, "time_ns", clock.time_ns)  # noqa: B010 - a plain assignment is none that mypy lets pass
    setattr(time, "time", clock.time)  # noqa: B010
    from facechain.cli.main import main as facechain

    facechain()


if __name__ == "__main__":
    main()
