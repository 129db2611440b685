import io
from dataclasses import replace
from pathlib import Path

import pytest

from facechain.cli.answers import StatementStatus
from facechain.consensus.encoding import pack
from facechain.consensus.statement import Statement
from facechain.node.mempool import MempoolLimits, allowance
from support.api import TOKEN, register, serve
from support.chain import STRANGER, SUBMITTER, make_stage, seed
from support.lone_node import LoneNode
from support.pictures import make_picture, picture_batch

MANY = "application/x-facechain-statements"


def _batch(node: LoneNode, number: int = 0) -> Statement:
    payload, header = picture_batch([make_picture(number)])
    return node.sign(SUBMITTER, payload, header)


async def test_accepted_statement_is_queued_and_durable() -> None:
    async with serve() as served:
        statement = _batch(served.node)
        status, answer, _ = await served.post(statement.encode())
        assert status == 202
        assert answer["leaf"] == statement.leaf.hex()
        told = StatementStatus.of(answer)
        assert (told.id, told.receipt) == (statement.id, "queued")
        with served.node.chain.store.read() as reader:
            assert reader.get("mempool", statement.leaf) is not None


async def test_a_repeated_statement_is_answered_with_its_present_receipt() -> None:
    async with serve() as served:
        statement = _batch(served.node)
        await served.post(statement.encode())
        status, answer, _ = await served.post(statement.encode())
        assert (status, answer["receipt"]) == (200, "queued")
        await served.node.seal(2)
        status, answer, _ = await served.post(statement.encode())
        assert (status, answer["receipt"], answer["confirmations"]) == (200, "confirmed", 2)


async def test_undecodable_statement_is_400() -> None:
    async with serve() as served:
        for body in (b"", b"\x00", b"nonsense", pack([b"", b"", b""])):
            status, answer, _ = await served.post(body)
            assert (status, answer["error"]["code"]) == (400, "decode-error"), body


async def test_author_without_a_role_is_403() -> None:
    async with serve() as served:
        statement = served.node.sign(STRANGER, make_stage())
        status, answer, _ = await served.post(statement.encode())
        assert (status, answer["error"]["code"]) == (403, "unauthorized-author")


async def test_wrong_sequence_is_409_and_names_the_right_one() -> None:
    async with serve() as served:
        await served.post(_batch(served.node).encode())
        for sequence in (0, 5):
            statement = served.node.sign(SUBMITTER, make_stage(name=f"{sequence}"), sequence=sequence)
            status, answer, _ = await served.post(statement.encode())
            assert (status, answer["error"]["expected"]) == (409, 1), answer
        await served.node.seal()
        late = served.node.sign(SUBMITTER, make_stage(name="late"), sequence=0)
        status, answer, _ = await served.post(late.encode())
        assert (status, answer["error"]["code"], answer["error"]["expected"]) == (409, "bad-sequence", 1)


async def test_bad_signature_is_422() -> None:
    async with serve() as served:
        statement = _batch(served.node)
        forged = replace(statement, signature=bytes(64))
        status, answer, _ = await served.post(forged.encode())
        assert (status, answer["error"]["code"]) == (422, "bad-signature")


async def test_oversized_statement_and_body_are_413() -> None:
    async with serve() as served:
        limit = served.node.chain.params.max_statement_bytes
        status, answer, _ = await served.post(io.BytesIO(bytes(limit + 1)))
        assert (status, answer["error"]["expected"]) == (413, limit)
        status, answer, _ = await served.post(io.BytesIO(bytes(25 << 20)))
        assert (status, answer["error"]["code"]) == (413, "oversized")


async def test_full_mempool_is_429_with_retry_after_and_recovers() -> None:
    node = LoneNode(limits=MempoolLimits(statements=1))
    async with serve(node) as served:
        first, second = _batch(node, 0), _batch(node, 1)
        assert (await served.post(first.encode()))[0] == 202
        status, answer, headers = await served.post(second.encode())
        assert (status, answer["error"]["code"]) == (429, "mempool-full")
        assert int(headers["Retry-After"]) >= 1
        await node.seal()
        assert (await served.post(second.encode()))[0] == 202


async def test_a_request_of_somebody_who_has_to_wait_is_429_as_a_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(allowance, "IDLE_STATEMENTS", 1)
    monkeypatch.setattr(allowance, "OWN_MIN", 1)
    async with serve() as served:
        items = [_batch(served.node, number).encode() for number in range(5)]
        status, answer, _ = await served.post(pack([*items, b"nonsense"]), content_type=MANY)
        assert status == 207
        assert [item["status"] for item in answer["results"]] == [202, 202, 429, 429, 429, 429]
        assert {item["error"]["code"] for item in answer["results"][2:]} == {"mempool-full"}
        for body, kind in ((pack(items[2:]), MANY), (items[2], "application/octet-stream")):
            status, answer, headers = await served.post(body, content_type=kind)
            assert (status, answer["error"]["code"]) == (429, "mempool-full")
            assert int(headers["Retry-After"]) >= 1
            assert headers["Content-Type"].startswith("application/problem+json")
            assert (answer["title"], answer["status"]) == ("Too Many Requests", 429)
            assert answer["detail"] == answer["error"]["message"]
        status, answer, _ = await served.post(pack(items[:3]), content_type=MANY)
        assert [item["status"] for item in answer["results"]] == [200, 200, 429]
        await served.node.seal()
        status, answer, _ = await served.post(pack(items[2:]), content_type=MANY)
        assert [item["status"] for item in answer["results"]] == [202, 429, 429]


async def test_many_statements_have_a_result_each() -> None:
    async with serve() as served:
        good = [_batch(served.node, number) for number in range(3)]
        bad = served.node.sign(STRANGER, make_stage())
        status, answer, _ = await served.post(pack([item.encode() for item in good]), content_type=MANY)
        assert status == 202
        assert [item["id"] for item in answer["results"]] == [item.id.hex() for item in good]
        mixed = [good[0].encode(), bad.encode(), b"nonsense"]
        status, answer, _ = await served.post(pack(mixed), content_type=MANY)
        assert status == 207
        assert [item["status"] for item in answer["results"]] == [200, 403, 400]
        for body in (pack([]), pack("text"), pack([1]), b"\xc1"):
            status, answer, _ = await served.post(body, content_type=MANY)
            assert (status, answer["error"]["code"]) == (400, "decode-error")


async def test_writes_without_the_token_are_401() -> None:
    async with serve() as served:
        statement = _batch(served.node)
        for token in (None, "", "e" * 64, TOKEN[:-1], "é" * 64):
            status, answer, headers = await served.post(statement.encode(), token=token)
            assert (status, answer["error"]["code"]) == (401, "token-required")
            assert "Bearer" in headers["WWW-Authenticate"]
        assert len(served.node.pool) == 0
        status, answer = await served.put_object(seed("x"), b"", token=None)
        assert status == 401


async def test_other_media_types_are_415() -> None:
    async with serve() as served:
        status, answer, _ = await served.post(b"{}", content_type="application/json")
        assert (status, answer["error"]["code"]) == (415, "media-type")


async def test_images_of_registered_and_waiting_batches_can_be_kept(tmp_path: Path) -> None:
    async with serve(objects=tmp_path / "objects") as served:
        told = await register(served.node)
        sealed = told.pictures[0]
        assert (await served.put_object(sealed.file_hash, sealed.data))[0] == 201
        assert (await served.put_object(sealed.file_hash, sealed.data))[0] == 200
        assert await served.get_bytes(f"/v1/objects/{sealed.file_hash.hex()}") == sealed.data
        waiting = make_picture(50)
        payload, header = picture_batch([waiting])
        await served.node.put(SUBMITTER, payload, header)
        assert (await served.put_object(waiting.file_hash, waiting.data))[0] == 201


async def test_images_that_do_not_belong_here_are_refused(tmp_path: Path) -> None:
    async with serve(objects=tmp_path / "objects", object_quota_bytes=6000) as served:
        told = await register(served.node)
        stranger = make_picture(99)
        status, answer = await served.put_object(stranger.file_hash, stranger.data)
        assert (status, answer["error"]["code"]) == (403, "not-registered")
        status, answer = await served.put_object(told.pictures[0].file_hash, stranger.data)
        assert (status, answer["error"]["code"]) == (422, "object-mismatch")
        private = make_picture(60)
        payload, header = picture_batch([private], public=False)
        await served.node.put(SUBMITTER, payload, header)
        await served.node.seal()
        status, answer = await served.put_object(private.file_hash, private.data)
        assert (status, answer["error"]["code"]) == (403, "not-registered")
        statuses = [(await served.put_object(item.file_hash, item.data))[0] for item in told.pictures]
        assert statuses == [201, 201, 507, 507, 507]
    async with serve(objects=tmp_path / "objects") as again:
        assert await again.get_bytes(f"/v1/objects/{told.pictures[0].file_hash.hex()}")


async def test_a_node_without_a_folder_keeps_no_images() -> None:
    async with serve() as served:
        status, answer = await served.put_object(seed("x"), b"data")
        assert (status, answer["error"]["code"]) == (404, "objects-disabled")
