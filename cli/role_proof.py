"""A key's role, proven: asked of a node for `facechain role prove`, checked for `facechain verify`.

Owns the verdict and its words.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import CheckFailedError, ExitCode
from .output import facts

if TYPE_CHECKING:
    from pathlib import Path

    from ..consensus.proof_files import RoleFile, RoleVerdict
    from ..node.data_dir import DataDir
    from .header_chain import HeaderChain


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleAnswer:
    """What a role file says about one height."""

    file: RoleFile
    verdict: RoleVerdict
    height: int
    held: bool
    network_trusted: bool

    @property
    def exit_code(self) -> ExitCode:
        """Return what a shell is told: 0 had the role, 1 had it not."""
        return ExitCode.OK if self.held else ExitCode.NOT_FOUND

    def json(self) -> dict[str, Any]:
        """Return the answer for --json."""
        proof, entry = self.file.proof, self.verdict.entry
        return {
            "result": "held" if self.held else "not-held",
            "role": proof.role.label,
            "key": proof.key.hex(),
            "height": self.height,
            "intervals": [
                [start, None if until == 2**64 - 1 else until - 1] for start, until in entry.intervals
            ],
            "suspect_since": entry.suspect_since,
            "anchor": {"height": proof.anchor.height, "hash": proof.anchor.hash.hex()},
            "network": self.verdict.network_id.hex(),
            "network_trusted": self.network_trusted,
            "confirmations": self.verdict.confirmations,
        }

    def lines(self) -> list[str]:
        """Return the answer for people."""
        proof, verdict = self.file.proof, self.verdict
        spans = [
            f"{start} on" if until == 2**64 - 1 else f"{start} to {until - 1}"
            for start, until in verdict.entry.intervals
        ]
        word = "HELD" if self.held else "NOT HELD"
        trusted = "trusted" if self.network_trusted else "by its own word: name it with --network"
        disputed = verdict.entry.suspect_since
        return [
            f"{word}: the key {'had' if self.held else 'had not'} the role {proof.role.label} at height {self.height}",
            "",
            *facts(
                [
                    ("key", proof.key.hex()),
                    ("heights", ", ".join(spans) or "never"),
                    ("disputed", "no" if disputed is None else f"from height {disputed}"),
                    ("as of", f"block {proof.anchor.height} {proof.anchor.hash.hex()}"),
                    ("chain", _chain(verdict)),
                    ("network", f"{verdict.network_name} {verdict.network_id.hex()} ({trusted})"),
                ]
            ),
        ]


def _chain(verdict: RoleVerdict) -> str:
    if verdict.confirmations is None:
        return "not checked: anyone can forge a block of no chain; give --headers (facechain headers sync)"
    return f"on the given headers, {verdict.confirmations} confirmations"


def judge(
    file: RoleFile, *, height: int | None, trusted: bytes | None, headers: HeaderChain | None
) -> RoleAnswer:
    """Check a role file and ask it about a height (default: its own block's).

    Raises:
        CheckFailedError: it does not hold, or does not reach the height.
    """
    from ..consensus.errors import ConsensusError
    from ..consensus.proof_files import verify_role_file

    asked = file.proof.anchor.height if height is None else height
    client = None if headers is None else headers.client
    try:
        verdict = verify_role_file(file, network_id=trusted, headers=client)
        held = file.proof.held_at(asked)
    except ConsensusError as error:
        raise CheckFailedError(f"role proof: {error.message}") from error
    return RoleAnswer(
        file=file, verdict=verdict, height=asked, held=held, network_trusted=trusted is not None
    )


def fetch(role: str, key: bytes, *, api: str, data_dir: DataDir) -> RoleFile:
    """Ask a node for a role proof; CheckFailedError when it is one of something else."""
    from ..consensus.errors import DecodeError
    from ..consensus.proof_files import RoleFile
    from ..consensus.state_proof import RoleProof
    from .client import api_token
    from .header_chain import ProofClient

    async def ask() -> RoleFile:
        async with ProofClient(api, token=api_token(data_dir)) as node:
            genesis = await node.genesis()
            try:
                proof = RoleProof.decode(await node.role_proof(role, key))
            except DecodeError as error:
                raise CheckFailedError(f"role proof: {error.message}") from error
            return RoleFile(genesis=genesis.encode(), proof=proof)

    file = asyncio.run(ask())
    if (file.proof.role.label, file.proof.key) != (role, key):
        raise CheckFailedError(
            "role proof",
            expected=f"{role} {key.hex()}",
            got=f"{file.proof.role.label} {file.proof.key.hex()}",
        )
    return file


def read_role_file(path: Path) -> RoleFile | None:
    """Read a role file; None when the file is something else. Raises DecodeError when it is malformed."""
    from ..consensus.proof_files import MAX_ROLE_FILE_BYTES, ROLE_MAGIC, RoleFile

    with path.open("rb") as file:
        data = file.read(MAX_ROLE_FILE_BYTES + 1)
    return RoleFile.decode(data) if data.startswith(ROLE_MAGIC) else None
