import re
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from facechain.consensus.image import MAX_SIDE_PIXELS
from facechain.consensus.payloads import Attestation, Retract
from facechain.node.explorer.rendering import ago, count, size, static_files, when
from support.api import Served, register, serve, write_objects
from support.chain import ADMIN, SUBMITTER, seed
from support.pictures import Picture, altered, describe, encode_png, make_picture, picture_batch


async def _audit(served: Served, data: bytes | None, name: str = "image") -> tuple[int, str]:
    form = aiohttp.FormData(default_to_multipart=True)
    if data is None:
        form.add_field(name, "text")
    else:
        form.add_field(name, data, filename="face.png", content_type="image/png")
    async with served.session.post(f"{served.server.url}/audit", data=form) as response:
        return response.status, await response.text()


def _verdict(page: str) -> str:
    found = re.search(r'data-verdict="([a-z-]+)"', page)
    assert found, page
    return found.group(1)


async def test_index_lists_the_newest_blocks_and_earlier_ones() -> None:
    async with serve() as served:
        block = await served.node.seal(25)
        page = await served.page("/")
        assert f'href="/block/{block.hash.hex()}"' in page
        assert '<meta http-equiv="refresh"' in page
        earlier = re.search(r'href="(/\?before=\d+)"', page)
        assert earlier
        older = await served.page(earlier.group(1))
        assert "genesis" in older
        assert block.hash.hex() not in older


async def test_index_shows_the_newest_public_faces(tmp_path: Path) -> None:
    async with serve(objects=tmp_path) as served:
        assert "Newest faces" not in await served.page("/")
        told = await register(served.node, 20)
        private, header = picture_batch([make_picture(80)], public=False)
        await served.node.put(SUBMITTER, private, header)
        await served.node.seal(3)
        write_objects(tmp_path, told.pictures)
        page = await served.page("/")
        assert page.count('<img class="face') == 18
        assert f'href="/statement/{told.batch.id.hex()}"' in page
        assert make_picture(80).pixel_hash.hex() not in page


async def test_block_page_shows_held_faces_and_says_which_are_not(tmp_path: Path) -> None:
    async with serve(objects=tmp_path) as served:
        told = await register(served.node)
        write_objects(tmp_path, told.pictures[:3])
        page = await served.page("/block/1")
        assert page.count('<img class="face') == 3
        assert page.count("image not held by this node") == 2
        for item in told.pictures:
            assert f'href="/image/{item.pixel_hash.hex()}"' in page
        assert page.count('<img class="face') == (
            await served.page(f"/statement/{told.batch.id.hex()}")
        ).count('<img class="face')


async def test_block_page_goes_through_many_faces_in_pages() -> None:
    async with serve() as served:
        await register(served.node, 130)
        first, second = await served.page("/block/1"), await served.page("/block/1?page=2")
        assert (first.count('class="caption"'), second.count('class="caption"')) == (120, 10)
        assert "Page 2 of 2" in await served.page("/block/1?page=99")


async def test_image_page_tells_the_whole_trail() -> None:
    async with serve() as served:
        told = await register(served.node)
        page = await served.page(f"/image/{told.pictures[0].pixel_hash.hex()}")
        places = [
            page.index(f'<span class="kind">{word}</span>')
            for word in (
                "Batch",
                "Clustering",
                "Release filter",
                "Generation",
                "Model",
                "Privacy",
                "Training data",
            )
        ]
        assert places == sorted(places)
        assert "claimed synthetic" in page
        assert f"/v1/evidence/{told.pictures[0].pixel_hash.hex()}?claim=0" in page


async def test_image_page_of_an_unfiltered_batch_prints_filter_none() -> None:
    async with serve() as served:
        picture = make_picture(3)
        payload, header = picture_batch([picture])
        await served.node.put(SUBMITTER, payload, header)
        await served.node.seal()
        page = await served.page(f"/image/{picture.pixel_hash.hex()}")
        assert "filter: none" in page


async def test_image_page_tells_retraction_attestation_and_second_claims() -> None:
    async with serve() as served:
        told = await register(served.node)
        first, second = told.pictures[:2]
        await served.node.put(
            ADMIN, Attestation(batch=told.batch.id, record=0, pixel_hash=first.pixel_hash, note="")
        )
        for picture in (second, told.pictures[2]):
            await served.node.put(
                SUBMITTER, Attestation(batch=told.batch.id, record=2, pixel_hash=picture.pixel_hash, note="")
            )
        await served.node.put(
            ADMIN, Attestation(batch=told.batch.id, record=2, pixel_hash=second.pixel_hash, note="")
        )
        await served.node.put(SUBMITTER, Retract(target=told.batch.id, record=1, reason="too <close>"))
        payload, header = picture_batch([first])
        await served.node.put(SUBMITTER, payload, header)
        await served.node.seal()
        page = await served.page(f"/image/{first.pixel_hash.hex()}")
        assert "claimed synthetic, and reproduced" in page
        assert "All claims of this image" in page
        own = await served.page(f"/image/{told.pictures[2].pixel_hash.hex()}")
        assert "reproduced" not in own.split("</h1>", maxsplit=1)[0].split("<h1>")[1]
        assert "its own author, which proves nothing" in own
        assert "attested by its own author" in (await _audit(served, told.pictures[2].data))[1]
        assert "by 1 auditor" in (await _audit(served, first.data))[1]
        gone = await served.page(f"/image/{second.pixel_hash.hex()}")
        assert "too &lt;close&gt;" in gone
        assert "too <close>" not in gone


async def test_statement_account_and_network_pages_answer() -> None:
    async with serve() as served:
        told = await register(served.node)
        assert "blob-gan" in await served.page(f"/statement/{told.training.id.hex()}")
        assert "submitter" in await served.page(f"/account/{SUBMITTER.public.hex()}")
        network = await served.page("/network")
        assert "max_body_bytes" in network
        assert served.node.chain.network_id.hex() in network


async def test_search_goes_to_whatever_is_named() -> None:
    async with serve() as served:
        told = await register(served.node)
        waiting = await served.node.put(SUBMITTER, *picture_batch([make_picture(70)]))
        block_hash = served.node.chain.tree.tip.hash.hex()
        picture = told.pictures[0]
        for wanted, place in (
            ("1", "/block/1"),
            (block_hash, f"/block/{block_hash}"),
            (block_hash.upper(), f"/block/{block_hash}"),
            (told.batch.id.hex(), f"/statement/{told.batch.id.hex()}"),
            (waiting.id.hex(), f"/statement/{waiting.id.hex()}"),
            (picture.pixel_hash.hex(), f"/image/{picture.pixel_hash.hex()}"),
            (picture.file_hash.hex(), f"/image/{picture.file_hash.hex()}"),
            (SUBMITTER.public.hex(), f"/account/{SUBMITTER.public.hex()}"),
        ):
            url = f"{served.server.url}/search"
            async with served.session.get(url, params={"q": wanted}, allow_redirects=False) as response:
                assert (response.status, response.headers.get("Location")) == (303, place), wanted
            async with served.session.get(url, params={"q": wanted}) as response:
                assert response.status == 200
        missing = await served.page(f"/search?q={seed('unknown').hex()}", status=404)
        assert "Nothing here is called" in missing
        assert "&lt;script&gt;" in await served.page("/search?q=%3Cscript%3E", status=404)
        await served.page("/search?q=" + "a" * 201, status=400)
        assert "Type a height" in await served.page("/search")


async def test_audit_page_verifies_a_registered_image() -> None:
    async with serve() as served:
        told = await register(served.node)
        status, page = await _audit(served, told.pictures[1].data)
        assert (status, _verdict(page)) == (200, "verified")
        assert "Every pixel is as it was registered" in page
        assert f'href="/image/{told.pictures[1].pixel_hash.hex()}"' in page


async def test_audit_page_recognises_an_altered_image_by_its_look() -> None:
    async with serve() as served:
        told = await register(served.node)
        _, page = await _audit(served, altered(told.pictures[1]).data)
        assert _verdict(page) == "altered"
        assert f'href="/image/{told.pictures[1].pixel_hash.hex()}"' in page


async def test_audit_page_calls_no_picture_of_one_colour_a_copy_of_another() -> None:
    red, blue = (
        describe(encode_png(np.full((32, 32, 3), colour, np.uint8))) for colour in ((255, 0, 0), (0, 0, 255))
    )
    async with serve() as served:
        await served.node.put(SUBMITTER, *picture_batch([red]))
        await served.node.seal()
        assert _verdict((await _audit(served, red.data))[1]) == "verified"
        assert _verdict((await _audit(served, blue.data))[1]) == "not-found"


async def test_audit_page_compares_a_lossy_copy_by_its_look() -> None:
    async with serve() as served:
        told = await register(served.node)
        _, page = await _audit(served, _as_jpeg(told.pictures[1]))
        assert _verdict(page) == "altered"
        assert "image-format" in page


def _as_jpeg(picture: Picture) -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.open(io.BytesIO(picture.data)).save(buffer, "JPEG", quality=98, subsampling=0)
    return buffer.getvalue()


async def test_audit_page_does_not_find_a_stranger() -> None:
    async with serve() as served:
        await register(served.node)
        _, page = await _audit(served, make_picture(900).data)
        assert _verdict(page) == "not-found"


def _bombs() -> list[Any]:
    png = make_picture(1).data
    wide = png[:16] + (MAX_SIDE_PIXELS + 1).to_bytes(4, "big") + png[20:]
    return [
        pytest.param(b"no image at all", id="text"),
        pytest.param(png[:40], id="truncated"),
        pytest.param(wide, id="too wide"),
        pytest.param(b"\x00" * 5000, id="zeros"),
    ]


@pytest.mark.parametrize("data", _bombs())
async def test_audit_page_survives_bad_files(data: bytes) -> None:
    async with serve() as served:
        await register(served.node, 1)
        status, page = await _audit(served, data)
        assert (status, _verdict(page)) == (200, "unreadable")


async def test_audit_page_without_a_file_says_what_it_expects() -> None:
    async with serve() as served:
        assert (await _audit(served, None))[0] == 400
        assert (await _audit(served, b"x", name="other"))[0] == 400
        assert (await _audit(served, b""))[0] == 400
        async with served.session.post(f"{served.server.url}/audit", data=b"x") as response:
            assert response.status == 400
            assert "multipart/form-data" in await response.text()


async def test_missing_things_are_pages_that_say_so() -> None:
    async with serve() as served:
        for path in ("/block/9", f"/image/{seed('x').hex()}", f"/statement/{seed('x').hex()}"):
            assert "<h1>Not found</h1>" in await served.page(path, status=404)
        await served.page("/block/abc", status=400)
        await served.page("/static/../pages.py", status=404)
        await served.page("/static/nothing.css", status=404)


async def test_pages_load_nothing_from_elsewhere_and_run_nothing_inline() -> None:
    async with serve() as served:
        told = await register(served.node)
        name = told.pictures[0].pixel_hash.hex()
        for path in ("/", "/block/1", f"/image/{name}", "/audit", "/network", "/search?q="):
            page = await served.page(path)
            assert not re.search(r'(?:src|href|action)="(?!/|#|data:)', page), path
            assert "http:" not in page
            assert "https:" not in page
            assert not re.search(r"\son[a-z]+=|style=|javascript:|<style", page), path
            assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", page))
        for media_type, data in static_files().values():
            outside = re.sub(rb'xmlns="http://www.w3.org/2000/svg"', b"", data)
            assert b"http:" not in outside, media_type
            assert b"https:" not in outside, media_type
            assert b"@import" not in data


def test_values_are_shown_in_the_words_of_people() -> None:
    assert when(1_800_000_000_000) == "2027-01-15 08:00:00 UTC"
    assert when(2**64) == f"{2**64} ms"
    assert (size(900), size(1536), size(3 << 30)) == ("900 B", "1.5 KiB", "3.0 GiB")
    assert count(1234567) == "1\u202f234\u202f567"
    assert (ago(0, 59_000), ago(0, 60_000), ago(5, 0)) == ("59 s ago", "1 min ago", "0 s ago")
