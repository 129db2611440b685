"""What memory a process has now, looked at again and again while something runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def resident_kib(process: int | str = "self") -> dict[str, int]:
    """Return RssAnon, RssFile and RssShmem of a process."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return {name: int(found[name].split()[0]) for name in ("RssAnon", "RssFile", "RssShmem")}


@contextmanager
def sampled(look: Callable[[], None], *, seconds: float) -> Iterator[None]:
    """Call `look` in a thread of its own every so many seconds while this is entered."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(seconds):
            look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
