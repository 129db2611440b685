"""The report's page in a real browser: alone on a disk, on a telephone, and on paper."""

import re
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

import pytest
from click.testing import CliRunner
from playwright.async_api import Page

from facechain.cli.report import report
from facechain.gan.device import open_device
from facechain.gan.presets import TINY
from facechain.gan.runs import TrainingRun
from support.browser import browse
from support.faces import made_faces
from support.report_sources import OPTIONS, make_report_sources

pytestmark = pytest.mark.browser

PAPER_WIDTH = 703
"""CSS pixels between the page's own margins (1.2 cm) on A4."""
PHONE = (390, 844)

PICTURES = """() => Array.from(document.images, (image) => image.decode().then(() => image.naturalWidth))"""
TOO_WIDE = """() => Array.from(document.querySelectorAll("table, figure, p, h1, h2, ul"))
  .filter((part) => part.getBoundingClientRect().right > document.documentElement.clientWidth + 1
    || part.getBoundingClientRect().left < 0)
  .map((part) => part.outerHTML.slice(0, 80))"""
CUT = """() => Array.from(document.querySelectorAll(".wide, td, figure"))
  .filter((part) => part.scrollWidth > part.clientWidth + 1)
  .map((part) => part.outerHTML.slice(0, 80))"""


class Box(TypedDict):
    """Where a section is on the screen."""

    top: float
    height: float


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with every section filled, as the command writes it."""
    folder = tmp_path_factory.mktemp("report")
    cpu = open_device("cpu", bf16=False)
    faces = made_faces(people=12, per_person=3)
    config = replace(TINY, total_images=32)
    training = TrainingRun(folder / "tiny", config=config, faces=faces, device=cpu)
    training.run()
    training.close()
    sources = make_report_sources(folder / "tiny", folder, cpu)
    out = folder / "a report.html"
    options = [part for name in OPTIONS for part in (f"--{name}", str(sources[name]))]
    arguments = [str(sources["run"]), *options, "--mining-blocks", "2", "--out", str(out)]
    result = CliRunner().invoke(report, arguments)
    assert result.exit_code == 0, result.exception
    return out


async def _open(page: Page, path: Path) -> None:
    await page.goto(path.as_uri(), wait_until="load")


async def test_the_page_needs_no_network_and_every_picture_shows(page_file: Path) -> None:
    async with browse() as (context, seen):
        await context.set_offline(True)
        page = await context.new_page()
        await _open(page, page_file)
        widths = await page.evaluate(f"async () => Promise.all(({PICTURES})())")
        assert len(widths) == await page.locator("figure").count() > 0
        assert all(width > 0 for width in widths)
        assert [url for url in seen if not url.startswith("data:")] == [page_file.as_uri()]


async def test_every_section_is_reached_from_the_table_of_contents(page_file: Path) -> None:
    async with browse() as (context, seen):
        page = await context.new_page()
        await page.set_viewport_size({"width": 1000, "height": 700})
        await _open(page, page_file)
        links = page.locator("nav a")
        headings = await page.locator("h2").all_inner_texts()
        assert await links.all_inner_texts() == headings
        for place, heading in enumerate(headings):
            await links.nth(place).click()
            section = page.locator("section:target")
            assert await section.locator("h2").inner_text() == heading
            box: Box = await section.evaluate("(part) => part.getBoundingClientRect().toJSON()")
            assert box["height"] > 0
            assert -1 <= box["top"] < 700
        assert not [line for line in seen if line.startswith(("console", "error"))]


async def test_a_telephone_shows_the_page_without_scrolling_sideways(page_file: Path) -> None:
    async with browse() as (context, _):
        page = await context.new_page()
        await page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
        await _open(page, page_file)
        assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
        assert await page.evaluate("document.body.getBoundingClientRect().right") <= PHONE[0]
        smallest = await page.evaluate(
            "() => Math.min(...Array.from(document.querySelectorAll('td, p, li'), (part) => "
            "parseFloat(getComputedStyle(part).fontSize)))"
        )
        assert smallest >= 12


async def test_paper_shows_whole_tables_on_several_pages(page_file: Path) -> None:
    async with browse() as (context, _):
        page = await context.new_page()
        await page.set_viewport_size({"width": PAPER_WIDTH, "height": 1000})
        await _open(page, page_file)
        assert await page.locator("nav").is_visible()
        await page.emulate_media(media="print")
        assert not await page.locator("nav").is_visible()
        assert await page.evaluate(TOO_WIDE) == []
        assert await page.evaluate(CUT) == []
        printed = await page.pdf(format="A4", print_background=True)
        assert printed.startswith(b"%PDF")
        assert len(re.findall(rb"/Type\s*/Page\b", printed)) > 1
