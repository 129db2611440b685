"""What the API and the explorer say of a protocol version that is scheduled."""

from __future__ import annotations

from facechain.consensus.payloads import ProtocolUpgrade
from support.api import serve
from support.chain import ADMIN, keys, make_genesis
from support.lone_node import LoneNode


async def test_a_scheduled_version_is_shown_by_status_metrics_and_pages() -> None:
    async with serve() as api:
        status = await api.get("/v1/status")
        assert (status["block_version"], status["upgrade"]) == (1, None)
        assert "Protocol version" not in await api.page("/")
        await api.node.put(ADMIN, ProtocolUpgrade(version=2, activation_height=50))
        await api.node.seal()
        scheduled = {"version": 2, "activation_height": 50, "known": False}
        assert (await api.get("/v1/status"))["upgrade"] == scheduled
        assert await api.get("/v1/upgrade") == {
            "block_version": 1,
            "supported": [1],
            "scheduled": scheduled,
            "quorum": 1,
            "requests": [],
        }
        for path in ("/", "/network", "/block/1"):
            assert "This node does not know protocol version 2, which begins with block 50" in await api.page(
                path
            )
        metrics = await api.page("/metrics")
        assert "facechain_upgrade_height 50.0" in metrics
        assert "facechain_upgrade_unknown 1.0" in metrics


async def test_a_version_that_is_known_is_announced() -> None:
    async with serve() as api:
        api.node.chain.versions = {1, 2}
        await api.node.put(ADMIN, ProtocolUpgrade(version=2, activation_height=50))
        await api.node.seal()
        assert "Protocol version 2 begins with block 50." in await api.page("/")
        assert "facechain_upgrade_unknown 0.0" in await api.page("/metrics")


async def test_requests_that_wait_are_listed_until_their_height_is_past() -> None:
    (other,) = keys(1, start=900)
    async with serve(LoneNode(make_genesis(heartbeat_ms=0, administrators=(ADMIN, other), quorum=2))) as api:
        await api.node.put(ADMIN, ProtocolUpgrade(version=2, activation_height=3))
        await api.node.put(ADMIN, ProtocolUpgrade(version=2, activation_height=50))
        await api.node.seal()
        view = await api.get("/v1/upgrade")
        approvals = [ADMIN.public.hex()]
        assert view["requests"] == [
            {"version": 2, "activation_height": height, "approvals": approvals} for height in (3, 50)
        ]
        await api.node.seal(2)
        (request,) = (await api.get("/v1/upgrade"))["requests"]
        assert request["activation_height"] == 50
