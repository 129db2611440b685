"""A time limit that begins and ends with every frame, at the cost of two assignments.

Owns one timer that is left running: it looks whether time is up when it goes off, and otherwise waits for the rest.
asyncio's own timeouts make and cancel a timer each time, which costs more than some frames do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Deadline:
    """See the module's text. Needs a running loop; `close` it in the end."""

    __slots__ = ("_due", "_loop", "_on_due", "_seconds", "_timer")

    def __init__(self, seconds: float, on_due: Callable[[], None]) -> None:
        """Call `on_due`, once, whenever `seconds` pass between a `begin` and the next `begin` or `end`."""
        self._seconds = seconds
        self._on_due = on_due
        self._loop = asyncio.get_running_loop()
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Let the time run from now on."""
        self._due = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(self._due, self._look)

    def end(self) -> None:
        """Let no time run."""
        self._due = None

    def close(self) -> None:
        """Let no time run, and leave no timer behind."""
        self._due = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._due is None:
            return
        if self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._look)
            return
        self._due = None
        self._on_due()
