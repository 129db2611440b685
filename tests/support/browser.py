"""A real browser for tests: Chromium as Debian packages it, through playwright."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import BrowserContext, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium_path() -> str:
    """Return the browser on PATH; the test fails when there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.fail(
            f"expected one of {', '.join(NAMES)} on PATH, got none; "
            "install it (apt-get install chromium) or leave these tests out: pytest -m 'not browser'"
        )
    return found


@asynccontextmanager
async def browse(*, java_script_enabled: bool = True) -> AsyncIterator[tuple[BrowserContext, list[str]]]:
    """Open a browser; the second value lists every address that is asked for, and every console message."""
    path = chromium_path()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        context = await browser.new_context(java_script_enabled=java_script_enabled)
        seen: list[str] = []
        context.on("request", lambda request: seen.append(request.url))
        context.on("console", lambda message: seen.append(f"console: {message.text}"))
        context.on("weberror", lambda error: seen.append(f"error: {error.error}"))
        try:
            yield context, seen
        finally:
            await browser.close()
