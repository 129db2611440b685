"""The HTTP server of a node: the API's routes and the explorer's pages on one port.

Owns the application's parts and its lifetime. An async context manager: it listens while it is entered.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from ..explorer.pages import add_pages
from ..wire.limits import (
    MAX_HTTP_BODY_BYTES,
    MAX_HTTP_FIELD_BYTES,
    MAX_HTTP_HEADERS,
    MAX_HTTP_LINE_BYTES,
)
from .context import CONTEXT, ApiConfig, ApiContext, context_of
from .limits import SHUTDOWN_SECONDS
from .metrics import Metrics
from .middleware import answer
from .objects import ObjectFolder
from .openapi import PATH as OPENAPI_PATH
from .openapi import openapi_document
from .port import NodePort
from .routes import ROUTES
from .snapshot import SnapshotReader

BACKLOG: Final = 128


class ApiListenError(Exception):
    """The API's address cannot be listened on."""

    code: Final = "api-listen"

    def diagnostics(self) -> str:
        """Return the failure as one line for a person."""
        return f"{self.code}: {self}"


def create_application(context: ApiContext) -> web.Application:
    """Return the application with every route and page; nothing listens yet."""
    app = web.Application(middlewares=[answer], client_max_size=MAX_HTTP_BODY_BYTES)
    app[CONTEXT] = context
    for route in ROUTES:
        app.router.add_route(route.method, route.path, route.handler)
    app.router.add_get(OPENAPI_PATH, _get_openapi)
    add_pages(app)
    return app


async def _get_openapi(request: web.Request) -> web.Response:
    return web.json_response(openapi_document(context_of(request).node.status().version))


class ApiServer:
    """See the module's text."""

    def __init__(self, node: NodePort, config: ApiConfig) -> None:
        self._node = node
        self._config = config
        self._context: ApiContext | None = None
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """The port that it listens on (the free one that was found when 0 was asked for)."""
        if self._runner is None:
            raise RuntimeError("expected an entered ApiServer, got one that does not listen")
        return self._port

    @property
    def url(self) -> str:
        """The address to open, e.g. http://127.0.0.1:7441."""
        host = f"[{self._config.host}]" if ":" in self._config.host else self._config.host
        return f"http://{host}:{self.port}"

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            ApiListenError: the address is taken or not this machine's.
        """
        listening = await self._listen()
        config = self._config
        objects = None
        if config.objects is not None:
            objects = await asyncio.to_thread(
                ObjectFolder.open, config.objects, quota_bytes=config.object_quota_bytes
            )
        self._context = ApiContext(
            node=self._node,
            config=config,
            reader=SnapshotReader(self._node.chain),
            objects=objects,
            metrics=Metrics(self._node, objects),
        )
        self._runner = web.AppRunner(
            create_application(self._context),
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=config.idle_seconds,
            lingering_time=0,
            max_line_size=MAX_HTTP_LINE_BYTES,
            max_field_size=MAX_HTTP_FIELD_BYTES,
            max_headers=MAX_HTTP_HEADERS,
            shutdown_timeout=SHUTDOWN_SECONDS,
            handler_cancellation=True,
        )
        await self._runner.setup()
        await web.SockSite(self._runner, listening).start()
        self._port = int(listening.getsockname()[1])
        return self

    async def _listen(self) -> socket.socket:
        host, port = self._config.host, self._config.port
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
            family, _, _, _, address = found[0]
            return socket.create_server((str(address[0]), port), family=family, backlog=BACKLOG)
        except OSError as error:
            raise ApiListenError(
                f"{host}:{port}: expected a free address, got {error.strerror}; choose another --api"
            ) from error

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is None or self._context is None:
            return
        for subscription in list(self._context.streams):
            subscription.end()
        with contextlib.suppress(asyncio.CancelledError):
            await self._runner.cleanup()
        await asyncio.to_thread(self._context.reader.close)
