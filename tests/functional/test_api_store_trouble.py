"""What the API says while the store takes no changes, without a restart."""

from __future__ import annotations

from facechain.node.api.event_stream import event_view
from facechain.node.api.events import StoreChanged
from facechain.node.store.errors import StoreFull
from support.api import serve


async def test_a_failing_store_is_shown_by_status_health_metrics_and_pages() -> None:
    async with serve() as api:
        runner = api.node.runner
        assert (await api.get("/v1/status"))["store"] == {"state": "ok", "reason": None, "since_ms": None}
        assert (await api.get("/healthz"))["status"] == "ok"
        assert "takes nothing new" not in await api.page("/")
        runner._note_trouble(StoreFull("no space left on device"))
        assert (await api.get("/v1/status"))["store"] == {
            "state": "failing",
            "reason": "store-full: no space left on device",
            "since_ms": api.node.clock.now_ms,
        }
        error = (await api.get("/healthz", status=503))["error"]
        assert error["code"] == "store-unavailable"
        assert "can be read to height 0" in error["message"]
        assert "facechain_store_failing 1.0" in await api.page("/metrics")
        for path in ("/", "/network", "/block/0"):
            assert "This node takes nothing new since" in await api.page(path)
        await runner.retry()
        assert (await api.get("/healthz"))["status"] == "ok"


def test_the_event_names_state_and_reason() -> None:
    assert event_view(StoreChanged(ok=True, reason=None)) == ("store", {"state": "ok", "reason": None})
    assert event_view(StoreChanged(ok=False, reason="full")) == (
        "store",
        {"state": "failing", "reason": "full"},
    )
