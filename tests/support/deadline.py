"""Waiting for something to become true, with a deadline and a name for what did not happen in time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Found = TypeVar("Found")

POLL_SECONDS = 0.02


def wait_until(condition: Callable[[], Found | None], *, seconds: float, what: str) -> Found:
    """Return the first true value of `condition`, asked again and again; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"expected within {seconds} s: {what}; got {found!r}")
        time.sleep(POLL_SECONDS)


async def eventually(
    condition: Callable[[], Found | Awaitable[Found | None] | None], *, seconds: float, what: str
) -> Found:
    """Return the first true value of a plain or async `condition` without blocking the loop."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"expected within {seconds} s: {what}; got {found!r}")
        await asyncio.sleep(POLL_SECONDS)
