"""The routes about peers and bans: what they do, and what they refuse."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from facechain.node.api.access import AdminAccess
from facechain.node.api.limits import BAN_SECONDS_MAX
from facechain.node.api.problems import ApiProblem
from facechain.node.config_kinds import PeerPattern
from facechain.node.wire.limits import MAX_MANUAL_PEERS
from support.api import ADMIN_TOKEN, TOKEN, Served, bearer, serve

KEY = "ab" * 32


async def send(
    served: Served,
    method: str,
    path: str,
    content: object = None,
    *,
    token: str | None = ADMIN_TOKEN,
    media: str = "application/json",
) -> tuple[int, Any]:
    headers = {"Content-Type": media, **bearer(token)}
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    async with served.session.request(
        method, served.server.url + path, data=None if content is None else data, headers=headers
    ) as response:
        return response.status, await response.json()


async def test_a_peer_is_named_and_forgotten_and_each_change_is_saved() -> None:
    async with serve() as served:
        assert await send(served, "POST", "/v1/peers", {"peer": "node.example:7440"}) == (
            201,
            {"peer": "node.example:7440", "named": True},
        )
        assert (await send(served, "POST", "/v1/peers", {"peer": "node.example:7440"}))[0] == 200
        assert (await send(served, "POST", "/v1/peers", {"peer": "[2001:db8::1]:7440"}))[0] == 201
        listed = await served.get("/v1/peers")
        assert [item["peer"] for item in listed["named"]] == ["[2001:db8::1]:7440", "node.example:7440"]
        assert listed["named"][0]["connected"] is False
        assert listed["addresses"] == {"known": 0, "worked": 0}
        assert (await send(served, "DELETE", "/v1/peers?peer=node.example:7440"))[0] == 200
        status, answer = await send(served, "DELETE", "/v1/peers?peer=node.example:7440")
        assert (status, answer["error"]["code"]) == (404, "peer-not-found")
        assert served.node.saves == 5


async def test_named_peers_are_bounded() -> None:
    async with serve() as served:
        for number in range(MAX_MANUAL_PEERS):
            await served.node.peer_control.add("node.example", 1 + number)
        status, answer = await send(served, "POST", "/v1/peers", {"peer": "other.example:1"})
        assert (status, answer["error"]["code"]) == (409, "too-many-peers")
        assert (await send(served, "POST", "/v1/peers", {"peer": "node.example:1"}))[0] == 200


@pytest.mark.parametrize("peer", [KEY, "192.0.2.7/32", "10.0.0.0/8", "2001:db8::/32"])
async def test_a_ban_is_made_listed_and_ended(peer: str) -> None:
    async with serve() as served:
        now = served.node.now_ms()
        content = {"peer": peer, "reason": "floods us", "seconds": 60}
        status, ban = await send(served, "POST", "/v1/bans", content)
        assert status == 201
        assert ban == {
            "peer": peer,
            "reason": "floods us",
            "since_ms": now,
            "until_ms": now + 60_000,
            "by_operator": True,
        }
        assert (await served.get("/v1/bans"))["bans"] == [ban]
        assert (await send(served, "DELETE", f"/v1/bans?peer={peer}"))[0] == 200
        assert (await served.get("/v1/bans"))["bans"] == []
        status, answer = await send(served, "DELETE", f"/v1/bans?peer={peer}")
        assert (status, answer["error"]["code"]) == (404, "ban-not-found")


async def test_a_ban_lasts_a_day_unless_told_otherwise_and_leaves_the_list_by_itself() -> None:
    async with serve() as served:
        _, ban = await send(served, "POST", "/v1/bans", {"peer": "192.0.2.7"})
        assert ban["until_ms"] - ban["since_ms"] == 86_400_000
        served.node.clock.now_ms = ban["until_ms"]
        assert (await served.get("/v1/bans"))["bans"] == []


@pytest.mark.parametrize(
    "method, path, content, words",
    [
        ("POST", "/v1/peers", {"peer": "node.example"}, "HOST:PORT"),
        ("POST", "/v1/peers", {"peer": "node.example:0"}, "HOST:PORT"),
        ("POST", "/v1/peers", {"peer": 7}, "HOST:PORT"),
        ("POST", "/v1/peers", {"pear": "a:1"}, "an object with peer"),
        ("POST", "/v1/peers", [], "an object with peer"),
        ("POST", "/v1/peers", b"{", "a JSON object"),
        ("POST", "/v1/peers", b"[" * 100_000, "a JSON object"),
        ("DELETE", "/v1/peers", None, "HOST:PORT"),
        ("POST", "/v1/bans", {"peer": "node.example"}, "a node key"),
        ("POST", "/v1/bans", {"peer": "10.0.0.1/8"}, "a node key"),
        ("POST", "/v1/bans", {"peer": KEY, "seconds": 0}, f"1 to {BAN_SECONDS_MAX}"),
        ("POST", "/v1/bans", {"peer": KEY, "seconds": True}, f"1 to {BAN_SECONDS_MAX}"),
        ("POST", "/v1/bans", {"peer": KEY, "seconds": BAN_SECONDS_MAX + 1}, f"1 to {BAN_SECONDS_MAX}"),
        ("POST", "/v1/bans", {"peer": KEY, "reason": "é" * 129}, "expected at most 256 bytes, got 258"),
        ("POST", "/v1/bans", {"peer": KEY, "reason": "a\nb"}, "one line"),
        ("POST", "/v1/bans", {"peer": KEY, "why": "x"}, "an object with peer, reason, seconds"),
        ("DELETE", "/v1/bans?peer=x", None, "a node key"),
    ],
)
async def test_what_cannot_be_read_is_400_and_changes_nothing(
    method: str, path: str, content: object, words: str
) -> None:
    async with serve() as served:
        status, answer = await send(served, method, path, content)
        assert status == 400, answer
        assert answer["error"]["code"] == "bad-request"
        assert words in answer["error"]["message"]
        assert served.node.saves == 0


@pytest.mark.parametrize("path", ["/v1/peers", "/v1/bans"])
@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_changes_need_the_admin_token_and_that_opens_nothing_else(method: str, path: str) -> None:
    async with serve() as served:
        for token in (None, "x" * 64, TOKEN):
            status, answer = await send(served, method, path, {"peer": KEY}, token=token)
            assert (status, answer["error"]["code"]) == (401, "admin-token-required")
        assert served.node.saves == 0
        status, answer, _ = await served.post(b"", token=ADMIN_TOKEN)
        assert (status, answer["error"]["code"]) == (401, "token-required")


async def test_a_node_without_an_admin_token_takes_no_changes() -> None:
    async with serve(admin=AdminAccess()) as served:
        for token in ("", TOKEN):
            status, answer = await send(served, "POST", "/v1/bans", {"peer": KEY}, token=token)
            assert (status, answer["error"]["code"]) == (401, "admin-token-required")


@pytest.mark.parametrize(
    "remote, named, allowed",
    [
        ("127.0.0.1", (), True),
        ("127.9.9.9", (), True),
        ("::1", (), True),
        ("::ffff:127.0.0.1", (), True),
        ("192.0.2.7", (), False),
        ("::ffff:192.0.2.7", (), False),
        ("2001:db8::1", (), False),
        ("", (), False),
        ("192.0.2.7", ("192.0.2.0/24",), True),
        ("::ffff:192.0.2.7", ("192.0.2.7",), True),
        ("198.51.100.7", ("192.0.2.0/24",), False),
        ("2001:db8::1", ("2001:db8::/32",), True),
    ],
)
def test_changes_come_from_this_machine_or_a_named_address(
    remote: str, named: tuple[str, ...], *, allowed: bool
) -> None:
    access = AdminAccess(token=ADMIN_TOKEN, networks=[PeerPattern.parse(item) for item in named])
    request = make_mocked_request("POST", "/v1/bans", headers=bearer(ADMIN_TOKEN)).clone(remote=remote)
    if allowed:
        access.check(request)
        return
    with pytest.raises(ApiProblem) as refused:
        access.check(request)
    assert (refused.value.status, refused.value.code) == (403, "admin-elsewhere")


async def test_another_media_type_is_415() -> None:
    async with serve() as served:
        status, answer = await send(served, "POST", "/v1/bans", {"peer": KEY}, media="text/plain")
        assert (status, answer["error"]["code"]) == (415, "media-type")
