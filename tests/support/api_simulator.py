"""A small HTTP server that honours the /v1 contract of a node's API over a real ledger.

It runs in a thread, so that commands with a loop of their own can talk to it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from facechain.consensus.errors import ConsensusError, DecodeError, RuleViolation
from facechain.consensus.state import OPEN_END, RoleEntry
from facechain.consensus.statement import Statement
from facechain.node.genesis_file import params_to_json
from support.ledgers import Ledger

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def problem(status: int, code: str, message: str, **more: Any) -> web.Response:
    headers = more.pop("headers", None)
    error = {"code": code, "message": message, "expected": None, "got": None, **more}
    return web.json_response({"error": error}, status=status, headers=headers)


class ApiSimulator:
    """Serves `ledger` on a free port of loopback while it is entered.

    `seal_when_asked`: every question about a statement seals a block first, so that waiting ends without clocks.
    """

    def __init__(self, ledger: Ledger, *, token: str = "secret", seal_when_asked: bool = True) -> None:
        self.ledger = ledger
        self.token = token
        self.seal_when_asked = seal_when_asked
        self.is_full = False
        self.dropped: set[bytes] = set()
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._leave: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="api-simulator")

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(timeout=10):
            raise AssertionError("expected the simulator to listen within 10 s")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._leave is not None:
            self._loop.call_soon_threadsafe(self._leave.set)
        self._thread.join(timeout=10)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._leave = asyncio.Event()
        app = web.Application(middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/v1/status", self._status),
                web.get("/v1/params", self._params),
                web.get("/v1/accounts/{key}", self._account),
                web.get("/v1/roles", self._roles),
                web.get("/v1/proposals", self._proposals),
                web.get("/v1/checkpoint", self._checkpoint),
                web.get("/v1/blocks/{reference}", self._block),
                web.post("/v1/statements", self._submit),
                web.get("/v1/statements/{id}", self._statement),
            ]
        )
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        self._ready.set()
        await self._leave.wait()
        await runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        authorized = request.headers.get("Authorization") == f"Bearer {self.token}"
        if request.method != "GET" and not authorized:
            return problem(401, "unauthorized", "this request needs the node's token")
        try:
            return await handler(request)
        except DecodeError as error:
            return problem(400, error.code, error.message)
        except RuleViolation as error:
            return problem(422, error.code, error.message, expected=str(error.expected), got=str(error.got))
        except ConsensusError as error:
            return problem(422, error.code, error.message)

    async def _status(self, _: web.Request) -> web.Response:
        tip = self.ledger.tip
        content = {
            "network_id": self.ledger.genesis.network_id.hex(),
            "name": self.ledger.genesis.name,
            "height": tip.header.height,
            "tip": tip.hash.hex(),
            "time_ms": tip.header.time_ms,
            "syncing": False,
            "peers": 0,
            "mempool": len(self.ledger.waiting),
        }
        return web.json_response(content)

    async def _params(self, _: web.Request) -> web.Response:
        params = self.ledger.genesis.params
        return web.json_response({**params_to_json(params), "pow_limit_bits": params.pow_limit_bits})

    async def _account(self, request: web.Request) -> web.Response:
        key = bytes.fromhex(request.match_info["key"])
        height = self.ledger.tip.header.height + 1
        content = {
            "key": key.hex(),
            "roles": sorted(role.label for role in self.ledger.view.roles_at(key, height)),
            "at_height": height,
            "next_sequence": self.ledger.view.next_sequence(key),
            "next_sequence_with_mempool": self.ledger.next_sequence(key),
        }
        return web.json_response(content)

    async def _roles(self, request: web.Request) -> web.Response:
        height = int(request.query.get("height", self.ledger.tip.header.height + 1))
        entries = [
            {
                "role": role.label,
                "key": key.hex(),
                "held": entry.holds_at(height),
                "intervals": _intervals(entry),
                "encryption_key": None if entry.encryption_key is None else entry.encryption_key.hex(),
                "suspect_since": entry.suspect_since,
            }
            for role, key, entry in self.ledger.roles()
        ]
        return web.json_response({"at_height": height, "entries": entries, "truncated": False})

    async def _proposals(self, _: web.Request) -> web.Response:
        entries = [
            {
                "id": key.hex(),
                "action": payload.action.label,
                "role": payload.role.label,
                "key": payload.subject.hex(),
                "note": payload.note,
                "height": entry.height,
                "approvals": [approval.hex() for approval in entry.approvals],
                "effective_height": entry.effective_height or None,
            }
            for key, entry, payload in self.ledger.proposals()
        ]
        return web.json_response({"quorum": self.ledger.genesis.params.quorum, "proposals": entries})

    async def _checkpoint(self, _: web.Request) -> web.Response:
        found = self.ledger.view.checkpoint()
        named = None if found is None else {"height": found[0], "hash": found[1].hex()}
        return web.json_response({"checkpoint": named})

    async def _block(self, request: web.Request) -> web.Response:
        reference = request.match_info["reference"]
        for block in self.ledger.blocks:
            if reference in {str(block.header.height), block.hash.hex()}:
                return web.json_response({"height": block.header.height, "hash": block.hash.hex()})
        return problem(404, "unknown-block", f"expected a block of this chain, got {reference}")

    async def _submit(self, request: web.Request) -> web.Response:
        if self.is_full:
            return problem(429, "mempool-full", "no room for now", headers={"Retry-After": "7"})
        statement = Statement.decode(await request.read())
        self.ledger.add(statement)
        return web.json_response(self._receipt(statement.id), status=202)

    async def _statement(self, request: web.Request) -> web.Response:
        statement_id = bytes.fromhex(request.match_info["id"])
        if statement_id in self.dropped:
            return web.json_response(
                {
                    "id": statement_id.hex(),
                    "receipt": "refused",
                    "height": None,
                    "confirmations": 0,
                    "refused": {"code": "expired-statement", "message": "too late", "height": 1},
                }
            )
        if self.ledger.find(statement_id) is None:
            return problem(404, "unknown-statement", f"got {statement_id.hex()}")
        if self.seal_when_asked:
            self.ledger.seal()
        return web.json_response(self._receipt(statement_id))

    def _receipt(self, statement_id: bytes) -> dict[str, Any]:
        found = self.ledger.find(statement_id)
        if found is None:
            raise AssertionError("expected a statement of this ledger")
        depth = 0 if found.height is None else self.ledger.tip.header.height - found.height + 1
        return {
            "id": statement_id.hex(),
            "leaf": found.statement.leaf.hex(),
            "kind": found.statement.kind.label,
            "receipt": "queued" if found.height is None else "sealed" if depth == 1 else "confirmed",
            "height": found.height,
            "confirmations": depth,
        }


def _intervals(entry: RoleEntry) -> list[dict[str, int | None]]:
    return [
        {"from": start, "until": None if until == OPEN_END else until} for start, until in entry.intervals
    ]
