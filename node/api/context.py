"""What every handler of one server shares.

Owns nothing but the names: the node, the reader of snapshots, the object folder, the metrics and the settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

from aiohttp import web

from ...consensus.payloads import ImageBatch
from ..light_proofs import HeaderProver
from ..mempool import Tip
from .access import AdminAccess
from .events import Subscription
from .limits import IDLE_SECONDS, OBJECT_QUOTA_BYTES, READ_BODY_SECONDS, REQUESTS_MAX
from .metrics import Metrics
from .objects import ObjectFolder
from .port import NodePort
from .problems import STATEMENT_NOT_FOUND, ApiProblem
from .snapshot import Snapshot, SnapshotReader
from .views.statements import Pooled

T = TypeVar("T")

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Pages load nothing from anywhere else and run no inline code."""

SECURITY_HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Cache-Control": "no-store",
    }
)
"""Headers of every answer that does not set them itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiConfig:
    """Settings of the server."""

    host: str = "127.0.0.1"
    port: int = 0
    """0 finds a free one."""
    token: str
    read_token: bool = False
    """Whether reads need the token, too (`/healthz` never does)."""
    admin: AdminAccess = field(default_factory=AdminAccess)
    """Who may change whom the node talks to; nobody by default."""
    objects: Path | None = None
    """Folder of images; without it the node holds none."""
    object_quota_bytes: int = OBJECT_QUOTA_BYTES
    idle_seconds: float = IDLE_SECONDS
    read_body_seconds: float = READ_BODY_SECONDS
    requests_max: int = REQUESTS_MAX


@dataclass(slots=True)
class Load:
    """How much is under way."""

    requests: int = 0
    statements: int = 0
    """Of submissions that are not answered yet."""

    @contextmanager
    def taking(self, statements: int) -> Iterator[None]:
        """Count the statements of a submission while it is worked on."""
        self.statements += statements
        try:
            yield
        finally:
            self.statements -= statements


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiContext:
    """See the module's text."""

    node: NodePort
    config: ApiConfig
    reader: SnapshotReader
    objects: ObjectFolder | None
    metrics: Metrics
    load: Load = field(default_factory=Load)
    headers: HeaderProver = field(default_factory=HeaderProver)
    streams: set[Subscription] = field(default_factory=set)
    """Event streams that are open."""

    def pooled(self, statement_id: bytes) -> Pooled:
        """Return what the mempool knows of a statement id; call on the event loop's thread."""
        pool = self.node.pool
        statement = pool.get_by_id(statement_id)
        return Pooled(
            statement=statement,
            holders=0 if statement is None else self.node.holders(statement.leaf),
            drop=pool.dropped(statement_id),
        )

    async def statement_view(self, statement_id: bytes, compute: Callable[[Snapshot, Pooled], T]) -> T:
        """Return what `compute` makes of a statement; what is not found is looked for again once settled.

        The mempool is read before the snapshot: a statement leaves it only after its block is in the store.
        """
        try:
            pooled = self.pooled(statement_id)
            return await self.reader.view(lambda snapshot: compute(snapshot, pooled))
        except ApiProblem as problem:
            if problem.code != STATEMENT_NOT_FOUND:
                raise
        await self.node.settled()
        pooled = self.pooled(statement_id)
        return await self.reader.view(lambda snapshot: compute(snapshot, pooled))

    def next_sequence(self, author: bytes, snapshot: Snapshot) -> int:
        """Return the sequence that the author's next statement must carry to be taken in."""
        tip = Tip(height=snapshot.height, hash=snapshot.tip.hash, state=snapshot.state)
        return self.node.pool.next_sequence(author, tip)

    def pooled_batches(self) -> list[bytes]:
        """Return the payloads of the image batches that wait, public ones only."""
        pool = self.node.pool
        found = (pool.get(leaf) for leaf in pool.leaves())
        return [
            item.payload
            for item in found
            if item is not None and item.header.batch is not None and item.header.batch.public
        ]


def pooled_batch_holds(payload: bytes, digest: bytes) -> bool:
    """Tell whether an encoded batch payload has a record with this file hash."""
    if digest not in payload:  # a cheap search before the payload is decoded
        return False
    return any(record.file_hash == digest for record in ImageBatch.decode(payload).records)


CONTEXT: web.AppKey[ApiContext] = web.AppKey("context", ApiContext)


def context_of(request: web.Request) -> ApiContext:
    """Return the shared context of the server that answers `request`."""
    return request.app[CONTEXT]
