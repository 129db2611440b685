"""The explorer in a real browser, over a real server and a real chain."""

import base64
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import FilePayload, Page

from facechain.consensus.kinds import StageType
from facechain.consensus.payloads import Retract
from support.api import Served, register, serve, write_objects
from support.browser import browse
from support.chain import SUBMITTER, make_stage
from support.pictures import altered, make_picture, picture_batch

pytestmark = pytest.mark.browser

DROP = """([selector, content]) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], "face.png", { type: "image/png" }));
  const event = new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: transfer });
  document.querySelector(selector).dispatchEvent(event);
}"""


def check_own_requests(served: Served, seen: list[str]) -> None:
    """Nothing was asked of anybody but this node, and the browser had nothing to complain about."""
    own = urlsplit(served.server.url).netloc
    foreign = [url for url in seen if urlsplit(url).scheme != "data" and urlsplit(url).netloc != own]
    assert not foreign
    assert any(urlsplit(url).netloc == own for url in seen)


async def _drop(page: Page, data: bytes) -> str | None:
    async with page.expect_navigation():
        await page.evaluate(DROP, ["form[data-drop]", base64.b64encode(data).decode()])
    return await page.locator("section.verdict").get_attribute("data-verdict")


async def test_a_dropped_image_is_verified_without_asking_anybody_else(tmp_path: Path) -> None:
    async with serve(objects=tmp_path) as served, browse() as (context, seen):
        told = await register(served.node)
        write_objects(tmp_path, told.pictures)
        page = await context.new_page()
        await page.goto(f"{served.server.url}/audit")
        assert await _drop(page, told.pictures[2].data) == "verified"
        assert await page.locator("section.verdict h2").inner_text() == "Verified"
        assert await _drop(page, altered(told.pictures[2]).data) == "altered"
        assert await _drop(page, make_picture(500).data) == "not-found"
        for path in ("/", "/block/1", f"/image/{told.pictures[2].pixel_hash.hex()}", "/network"):
            await page.goto(served.server.url + path, wait_until="load")
        await page.goto(f"{served.server.url}/block/1")
        faces = page.locator("img.face")
        assert await faces.count() == len(told.pictures)
        await faces.first.scroll_into_view_if_needed()
        await page.wait_for_function(
            "() => { const face = document.querySelector('img.face'); return face.complete && face.naturalWidth === 32; }"
        )
        check_own_requests(served, seen)


async def test_the_list_of_blocks_follows_the_tip() -> None:
    async with serve() as served, browse() as (context, seen):
        page = await context.new_page()
        await page.goto(served.server.url)
        await served.node.put(SUBMITTER, *picture_batch([make_picture(1)]))
        block = await served.node.seal()
        await page.wait_for_selector(f'a[href="/block/{block.hash.hex()}"]')
        check_own_requests(served, seen)
        await page.close()


async def test_everything_works_without_scripts() -> None:
    async with serve() as served, browse(java_script_enabled=False) as (context, seen):
        told = await register(served.node)
        page = await context.new_page()
        await page.goto(f"{served.server.url}/audit")
        picture = FilePayload(name="face.png", mimeType="image/png", buffer=told.pictures[0].data)
        await page.set_input_files("#image", picture)
        async with page.expect_navigation():
            await page.click("form[data-drop] button")
        assert await page.locator("section.verdict").get_attribute("data-verdict") == "verified"
        await page.fill("#q", told.pictures[0].pixel_hash.hex())
        await page.press("#q", "Enter")
        await page.wait_for_url(f"**/image/{told.pictures[0].pixel_hash.hex()}")
        assert await page.locator("ol.trail > li").count() == 7
        check_own_requests(served, seen)


async def test_no_page_is_wider_than_a_telephone() -> None:
    async with serve() as served, browse() as (context, _):
        told = await register(served.node)
        training = make_stage(StageType.TRAINING, told.dataset.id, name="Long" * 30, note="x" * 200)
        model = await served.node.put(SUBMITTER, training)
        batch = await served.node.put(SUBMITTER, *picture_batch([make_picture(20)], model=model.id))
        await served.node.put(SUBMITTER, Retract(target=batch.id, record=None, reason="wrong " * 20))
        await served.node.seal()
        page = await context.new_page()
        await page.set_viewport_size({"width": 360, "height": 740})
        image = f"/image/{make_picture(20).pixel_hash.hex()}"
        for path in (
            "/",
            "/block/3",
            image,
            f"/statement/{model.id.hex()}",
            "/network",
            f"/image/{'ab' * 32}",
        ):
            await page.goto(served.server.url + path)
            wide = await page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wide <= 0, f"{path} is {wide} pixels wider than the screen"
