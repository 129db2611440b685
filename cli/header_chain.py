"""A chain of headers of one's own: kept in a file, checked whenever it is read, and brought up to a node's.

Owns the file and the questions to a node. What counts is decided by `consensus.light`; a node is asked and not
believed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from .client_images import ImageClient
from .errors import CheckFailedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..consensus.errors import ConsensusError
    from ..consensus.light import LightClient, ProvenHeader
    from ..consensus.params import Genesis
    from ..consensus.state_proof import EntryProof

PAGE_HEADERS: Final = 2_000
"""Headers of one answer, about 1 MiB."""

OVERLAP_HEADERS: Final = 8
"""Headers below the own tip that are asked for again, to see where the node's chain leaves the own one."""


class ProofClient(ImageClient):
    """A `NodeClient` that also asks for proofs."""

    async def role_proof(self, role: str, key: bytes) -> bytes:
        """Return the encoded proof of a key's role."""
        content: bytes = await self._request("GET", f"/v1/proofs/roles/{role}/{key.hex()}", octets=True)
        return content

    async def header_proofs(self, first: int, limit: int) -> bytes:
        """Return proven headers from a height on, each behind its length."""
        query = {"first": str(first), "limit": str(limit)}
        content: bytes = await self._request("GET", "/v1/proofs/headers", query=query, octets=True)
        return content


class HeaderChain:
    """A light client and what it takes to show its best chain to others."""

    def __init__(self, genesis: Genesis) -> None:
        """Start with the genesis."""
        from ..consensus.light import LightClient

        self.client: LightClient = LightClient.from_genesis(genesis)
        self._items: dict[bytes, ProvenHeader] = {}
        self._roles: dict[tuple[bytes, bytes], EntryProof] = {}

    @classmethod
    def read(cls, path: Path, *, now_ms: int) -> Self:
        """Read a file and check all of it.

        Raises:
            UsageError: it is no headers file.
            CheckFailedError: a header in it does not hold.
        """
        from ..consensus.errors import ConsensusError, DecodeError
        from ..consensus.proof_files import decode_headers_file

        try:
            genesis, items = decode_headers_file(path.read_bytes())
            chain = cls(genesis)
            for item in items:
                chain.accept(item, now_ms=now_ms)
        except DecodeError as error:
            raise UsageError(f"{path}: {error.what}", expected=error.expected, got=error.got) from error
        except ConsensusError as error:
            raise _refused(str(path), error) from error
        return chain

    def accept(self, item: ProvenHeader, *, now_ms: int) -> None:
        """Take a header; ConsensusError when it does not hold."""
        from ..consensus.state_proof import ROLES_ROOT

        node = self.client.accept(item, now_ms=now_ms)
        self._items.setdefault(node.hash, item)
        if item.role is not None:
            self._roles.setdefault((item.sub_roots[ROLES_ROOT], node.producer), item.role)

    def encode(self) -> bytes:
        """Return the file of the best chain: each role proof once, where it is needed first."""
        from ..consensus.light import ProvenHeader
        from ..consensus.proof_files import encode_headers_file
        from ..consensus.state_proof import ROLES_ROOT

        roles = dict(self._roles)
        items = []
        for height in range(1, self.client.tip.height + 1):
            node = self.client.at(height)
            if node is not None:
                item = self._items[node.hash]
                role = roles.pop((item.sub_roots[ROLES_ROOT], node.producer), None)
                items.append(ProvenHeader(sealed=item.sealed, sub_roots=item.sub_roots, role=role))
        return encode_headers_file(self.client.genesis, items)

    async def follow(self, node: ProofClient, *, now_ms: int, progress: Callable[[int], None]) -> None:
        """Take what a node shows, from below the own tip on; step further back when its chain leaves the own one.

        Raises:
            CheckFailedError: the node shows a header that does not hold.
        """
        from ..consensus.errors import ConsensusError, Temporary
        from ..consensus.proof_files import decode_frames

        overlap = OVERLAP_HEADERS
        first = max(1, self.client.tip.height + 1 - overlap)
        while True:
            count = 0
            try:
                for item in decode_frames(await node.header_proofs(first, PAGE_HEADERS)):
                    self.accept(item, now_ms=now_ms)
                    count += 1
            except Temporary as error:
                if error.code != "missing-parent" or count or first == 1:
                    raise _refused(node.api, error) from error
                overlap *= 4
                first = max(1, first - overlap)
                continue
            except ConsensusError as error:
                raise _refused(node.api, error) from error
            first += count
            progress(first - 1)
            if count < PAGE_HEADERS:
                return


def _refused(source: str, error: ConsensusError) -> CheckFailedError:
    return CheckFailedError(f"headers of {source}: {error.diagnostics()}")
