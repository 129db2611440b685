"""How Python's interpreter shares its time: for a process with an event loop, a thread that verifies, and many objects.

Owns two settings of CPython and nothing else.
"""

from __future__ import annotations

import gc
import sys
from typing import Final

SWITCH_SECONDS: Final = 0.0002
"""How long a thread may keep the interpreter while another one waits for it. Verifying a signature lets go of it for
60 µs; by default (5 ms) it is given back that much later while the event loop is busy, and a block's signatures
take seconds."""

GC_THRESHOLDS: Final = (50_000, 20, 20)
"""New objects, less those that are gone, after which the youngest are searched for cycles, and how often that is done
until the older ones are. Waiting statements are many objects without cycles, and with the defaults (700, 10, 10)
looking at them again and again takes a tenth of a node's time under load."""


def settle_interpreter() -> None:
    """Set both for the whole process."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(*GC_THRESHOLDS)
