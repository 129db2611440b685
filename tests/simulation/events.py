"""Virtual time: a heap of events, one source of chance, and the trace of what happened.

Everything in a run is a function of its seed: time moves only from event to event, events of one instant keep the
order in which they were planned, and every draw comes from `Scheduler.random`. The trace's hash stands for the run:
two runs of one seed have the same one, in any process.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable
from itertools import count
from typing import Final, Protocol, TextIO

Action = Callable[[], None]

MS: Final = 1_000

AT_ONCE_MAX: Final = 100_000
"""Events of one instant: more than that will never end."""


class Process(Protocol):
    """What is known of a process wherever it runs."""

    name: str
    skew_ms: int
    """How much its clock is off."""


class Violation(Exception):
    """An invariant does not hold: the run ends here."""


class Scheduler:
    """See the module's text. Times are seconds since the start of the run."""

    def __init__(self, seed: int, sink: TextIO | None = None) -> None:
        """Draw from `seed`; every line of the trace also goes to `sink`."""
        self.now = 0.0
        self.process: Process | None = None
        """The process that runs at this moment."""
        self.random = random.Random(seed)
        self.events = 0
        self._seed = seed
        self._sink = sink
        self._hash = hashlib.sha256()
        self._order = count()
        self._heap: list[tuple[float, int, Action]] = []
        self._failure: Violation | None = None

    def after(self, delay: float, action: Action) -> None:
        """Plan an event."""
        heapq.heappush(self._heap, (self.now + max(delay, 0.0), next(self._order), action))

    def run(self, until: float) -> None:
        """Let everything happen that is planned up to a time."""
        at_once = 0
        while self._heap and self._heap[0][0] <= until:
            at, _, action = heapq.heappop(self._heap)
            at_once = at_once + 1 if at == self.now else 0
            if at_once > AT_ONCE_MAX:
                raise Violation(f"time stands still at {at}: {action}")
            self.now = at
            self.events += 1
            action()
            if self._failure is not None:
                raise self._failure
        self.now = until

    def fail(self, violation: Violation) -> None:
        """End the run after this event: what a node catches of its own faults is seen all the same."""
        self._failure = self._failure or violation

    def exponential(self, mean: float) -> float:
        """Draw the time until something that happens every `mean` seconds."""
        return self.random.expovariate(1 / mean)

    def aside(self, name: str) -> random.Random:
        """Return a source of its own for what not every run has, so that all other draws stay as they are."""
        return random.Random(f"{self._seed} {name}")

    def note(self, what: str, *details: object) -> None:
        """Write one line of the trace."""
        line = f"{self.now:.6f} {what} {' '.join(map(str, details))}\n"
        self._hash.update(line.encode())
        if self._sink is not None:
            self._sink.write(line)

    @property
    def trace_hash(self) -> str:
        """Hash of all that was noted so far, in hexadecimal."""
        return self._hash.hexdigest()
