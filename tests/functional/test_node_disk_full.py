"""A whole node whose disk is full: it says so, takes nothing, answers reads, and goes on when there is room."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from facechain.cli.testnet_founding import PRODUCER, SUBMITTER, found_testnet
from facechain.cli.testnet_record import NetworkRecord
from facechain.consensus.kinds import Kind
from facechain.consensus.payloads import ImageBatch
from facechain.consensus.signing import LedgerKey
from facechain.consensus.statement import BatchHeader, Statement, sign_statement
from facechain.node.keystore import Keystore, read_key_file
from support.chain import make_batch
from support.deadline import wait_until
from support.node_processes import NodeProcess
from support.pictures import make_picture, picture_batch

MINE = ("--mine", "--mining-key", PRODUCER)
IMAGES = 4_000
"""Per statement: over 500 KiB, so that few of them fill what there is."""


@pytest.fixture
def network(tmp_path: Path) -> NetworkRecord:
    return found_testnet(tmp_path / "network", count=1, mines=True)


class Client:
    """Asks one node over HTTP."""

    def __init__(self, node: NodeProcess, token: str) -> None:
        self.node = node
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/octet-stream"}

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, str, Any]:
        """Return status, text and headers."""

        async def go() -> tuple[int, str, Any]:
            async with (
                aiohttp.ClientSession() as session,
                session.request(method, self.node.api + path, data=body, headers=self.headers) as response,
            ):
                return response.status, await response.text(errors="replace"), response.headers

        return asyncio.run(go())

    def get(self, path: str) -> Any:
        status, text, _ = self.ask("GET", path)
        assert status == 200, f"{path}: {status} {text}"
        return json.loads(text)

    def store(self) -> Any:
        return self.get("/v1/status")["store"]


@contextmanager
def file_size_limit(pid: int, size: int) -> Iterator[None]:
    """Let no file of a process grow beyond a size, as on a full disk."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


def batches(network: NetworkRecord) -> Iterator[Statement]:
    """Sign one large batch after the other."""
    for number in range(100):
        yield signed(network, number, *make_batch(IMAGES, name=f"batch {number}"))


def signed(network: NetworkRecord, sequence: int, payload: ImageBatch, header: BatchHeader) -> Statement:
    return sign_statement(
        read_key_file(Keystore(network.wallet.keys).path(SUBMITTER), LedgerKey, str.encode),
        network.network_id,
        payload=payload,
        kind=Kind.IMAGE_BATCH,
        sequence=sequence,
        claimed_time_ms=0,
        batch=header,
    )


def test_a_full_disk_is_told_reads_go_on_and_work_is_taken_up_again(network: NetworkRecord) -> None:
    token = network.wallet.api_token_file.read_text().strip()
    store_file = network.root / "node-1" / "store" / "data.mdb"
    with NodeProcess(network.root / "node-1", network.genesis_file, *MINE) as node:
        client, waiting = Client(node, token), batches(network)
        node.wait_for(lambda status: status.height >= 2, seconds=20, what="two blocks")
        assert client.store() == {"state": "ok", "reason": None, "since_ms": None}
        assert client.ask("GET", "/healthz")[0] == 200
        taken: list[Statement] = []
        with file_size_limit(node.pid, store_file.stat().st_size + 2**20):

            def refused() -> tuple[int, str, Any] | None:
                statement = next(waiting)
                answer = client.ask("POST", "/v1/statements", statement.encode())
                if answer[0] == 202:
                    taken.append(statement)
                    return None
                return answer

            status, text, headers = wait_until(refused, seconds=30, what="a submission is refused")
            assert (status, json.loads(text)["error"]["code"]) == (503, "store-unavailable")
            assert int(headers["Retry-After"]) > 0
            check_failing(client, node)
            height = node.status().height
        wait_until(lambda: client.store()["state"] == "ok", seconds=20, what="the store works again")
        assert client.ask("GET", "/healthz")[0] == 200
        assert "facechain_store_failing 0.0" in client.ask("GET", "/metrics")[1]
        node.wait_for(lambda now: now.height > height, seconds=20, what="mining goes on")
        for statement in taken:
            wait_until(confirmed(client, statement), seconds=20, what="what was acknowledged is sealed")
        assert client.ask("POST", "/v1/statements", next(renewed(network, len(taken))).encode())[0] == 202
        log = (node.data_dir / "output.log").read_text()
        assert "the store fails, nothing new is taken until it works again: " in log
        assert "the store works again" in log
        assert "Traceback" not in log


def test_an_image_that_the_disk_has_no_room_for_is_507(network: NetworkRecord) -> None:
    picture = make_picture(1)
    payload, header = picture_batch([picture])
    statement = signed(network, 0, payload, header)
    path = f"/v1/objects/{picture.file_hash.hex()}"
    with NodeProcess(network.root / "node-1", network.genesis_file, *MINE) as node:
        client = Client(node, network.wallet.api_token_file.read_text().strip())
        assert client.ask("POST", "/v1/statements", statement.encode())[0] == 202
        with file_size_limit(node.pid, len(picture.data) - 1):
            status, text, _ = client.ask("PUT", path, picture.data)
            assert (status, json.loads(text)["error"]["code"]) == (507, "object-folder")
        assert client.ask("PUT", path, picture.data)[0] == 201
        assert client.ask("GET", path)[0] == 200


def check_failing(client: Client, node: NodeProcess) -> None:
    """The failure is everywhere to be seen, and reads work."""
    told = wait_until(
        lambda: found if (found := client.store())["state"] == "failing" else None,
        seconds=10,
        what="the status says that the store fails",
    )
    assert told["reason"].startswith("store-full: ")
    assert told["since_ms"] > 0
    status, text, _ = client.ask("GET", "/healthz")
    assert (status, json.loads(text)["error"]["code"]) == (503, "store-unavailable")
    assert "facechain_store_failing 1.0" in client.ask("GET", "/metrics")[1]
    assert "This node takes nothing new since" in client.ask("GET", "/")[1]
    assert client.get("/v1/blocks/1")["height"] == 1


def confirmed(client: Client, statement: Statement) -> Callable[[], bool]:
    path = f"/v1/statements/{statement.id.hex()}"
    return lambda: client.get(path)["receipt"] in {"sealed", "confirmed"}


def renewed(network: NetworkRecord, count: int) -> Iterator[Statement]:
    """Sign again from the first batch that was not taken."""
    signed = batches(network)
    for _ in range(count):
        next(signed)
    return signed
