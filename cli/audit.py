"""`facechain audit` and `facechain verify`: is this image registered, by whom, and is it unaltered?"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from .audit_report import audit_json, audit_lines, claim_json, verdict_lines
from .auditing import Audit, Result, audit_hash, audit_image, check_proof
from .errors import UsageError
from .options import LongNameOption, api_option, data_dir_option, examples, json_option
from .output import emit, say

if TYPE_CHECKING:
    from ..node.data_dir import DataDir
    from .client_images import ImageClient
    from .header_chain import HeaderChain

_HASH: Final = re.compile(r"[0-9a-fA-F]{64}")


@click.command(
    short_help="Trace an image or a hash to its origin.",
    epilog=examples(
        "facechain audit face.png",
        "facechain audit 3f7a…c2 --json",
        "facechain audit face.png --proof face.fcproof --trust-network genesis.json",
    ),
)
@click.argument("subject")
@click.option(
    "--proof",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the evidence to a file that `facechain verify` checks without a node.",
)
@click.option(
    "--trust-network",
    "--network",
    "trust_network",
    cls=LongNameOption,
    metavar="ID|FILE",
    help="Network that counts: its id or its genesis file.  [default: that of the data directory]",
)
@api_option
@data_dir_option
@json_option
def audit(
    *, subject: str, proof: Path | None, trust_network: str | None, api: str, data_dir: DataDir, as_json: bool
) -> int:
    """Trace SUBJECT, an image file or the hash of one, to its origin.

    A node is asked, and not believed: the evidence is verified here, layer by layer. Exit codes: 0 verified, 1 not
    found, 2 altered or failed, 3 usage, 4 node unreachable. What a registration proves, and what not, is in
    docs/audit.md.
    """
    found = run_audit(subject, trust_network=trust_network, api=api, data_dir=data_dir)
    if proof is not None:
        _write_proof(found, proof)
    emit(audit_json(found), as_json=as_json, lines=audit_lines(found))
    return found.result.exit_code


def run_audit(subject: str, *, trust_network: str | None, api: str, data_dir: DataDir) -> Audit:
    """Audit an image file or a hash through the node at `api`.

    Raises:
        CommandError: the subject cannot be read, or the node cannot be reached.
    """
    from .audited_image import open_image
    from .client_images import ask_images

    trusted = trusted_network(trust_network, data_dir)
    path = Path(subject)
    if _HASH.fullmatch(subject) and not path.exists():
        digest = bytes.fromhex(subject)

        async def by_hash(client: ImageClient) -> Audit:
            return await audit_hash(client, digest, trusted=trusted)

        return ask_images(api, data_dir, by_hash)
    if not path.is_file():
        raise UsageError("subject", expected="an image file or 64 hex digits", got=repr(subject))
    image = open_image(path)

    async def by_image(client: ImageClient) -> Audit:
        return await audit_image(client, image, trusted=trusted)

    return ask_images(api, data_dir, by_image)


def trusted_network(text: str | None, data_dir: DataDir) -> bytes | None:
    """Return the network id that counts, None when nothing names one."""
    from .authoring import known_network

    if text is None:
        return known_network(data_dir)
    if _HASH.fullmatch(text) and not Path(text).exists():
        return bytes.fromhex(text)
    return _network_of(Path(text))


def _network_of(path: Path) -> bytes:
    from ..node.genesis_file import read_genesis

    return read_genesis(path).network_id


def _write_proof(found: Audit, path: Path) -> None:
    claim = found.primary
    if claim is None or not claim.verdict.is_verified:
        say(f"{path}: not written, there is no evidence that holds")
        return
    path.write_bytes(claim.proof)
    say(f"wrote {path}, {len(claim.proof)} bytes")


@click.command(
    short_help="Check a proof file without a node.",
    epilog=examples(
        "facechain verify face.png face.fcproof --network genesis.json",
        "facechain verify face.png face.fcproof --headers chain.fcheaders --json",
        "facechain verify key.fcrole --height 1200 --headers chain.fcheaders",
    ),
)
@click.argument(
    "image", metavar="IMAGE|ROLE_PROOF", type=click.Path(path_type=Path, dir_okay=False, exists=True)
)
@click.argument("proof", required=False, type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--headers",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    help="Chain of headers (facechain headers sync) that the proof's tip must be on.",
)
@click.option(
    "--height",
    type=click.IntRange(min=0),
    metavar="HEIGHT",
    help="Of a role proof: the height that is asked about.  [default: that of the proof]",
)
@click.option(
    "--network",
    "--trust-network",
    "network",
    cls=LongNameOption,
    metavar="ID|FILE",
    help="Network that counts: its id or its genesis file.  [default: that of the data directory]",
)
@data_dir_option
@json_option
def verify(
    *,
    image: Path,
    proof: Path | None,
    headers: Path | None,
    height: int | None,
    network: str | None,
    data_dir: DataDir,
    as_json: bool,
) -> int:
    """Check that PROOF proves the registration of IMAGE, or what a ROLE_PROOF says. Asks no node, uses no network.

    Exit codes: 0 verified (the key had the role), 1 the key had not the role, 2 the proof does not hold, 3 usage.
    """
    from ..consensus.errors import DecodeError

    trusted = trusted_network(network, data_dir)
    chain = None if headers is None else _headers(headers, trusted)
    try:
        if proof is None:
            return _verify_role(image, height, trusted, chain, as_json=as_json)
        if height is not None:
            raise UsageError("option --height", expected="a role proof", got="the proof of an image")
        return _verify_image(image, proof, trusted, chain, as_json=as_json)
    except DecodeError as error:
        raise UsageError(f"{proof or image}: {error.what}", expected=error.expected, got=error.got) from error


def _headers(path: Path, trusted: bytes | None) -> HeaderChain:
    from .header_chain import HeaderChain
    from .headers import check_network

    chain = HeaderChain.read(path, now_ms=time.time_ns() // 1_000_000)
    check_network(chain, trusted, str(path))
    return chain


def _verify_role(
    path: Path, height: int | None, trusted: bytes | None, chain: HeaderChain | None, *, as_json: bool
) -> int:
    from .role_proof import judge, read_role_file

    file = read_role_file(path)
    if file is None:
        raise UsageError(
            str(path), expected="a role proof, or an image and its proof", got="something else alone"
        )
    answer = judge(file, height=height, trusted=trusted, headers=chain)
    emit(answer.json(), as_json=as_json, lines=answer.lines())
    return answer.exit_code


def _verify_image(
    image: Path, proof: Path, trusted: bytes | None, chain: HeaderChain | None, *, as_json: bool
) -> int:
    from ..consensus.evidence import MAX_EVIDENCE_BYTES
    from ..consensus.proofs import Subject
    from .audited_image import open_image

    own = open_image(image)
    with proof.open("rb") as file:
        data = file.read(MAX_EVIDENCE_BYTES + 1)
    about = Subject(pixel_hash=own.pixel_hash, file_hash=own.file_hash)
    claim = check_proof(data, lambda _: about, trusted, None if chain is None else chain.client)
    found = Audit(
        result=Result.VERIFIED if claim.verdict.is_verified else Result.FAILED,
        digest=own.pixel_hash or own.file_hash,
        image=own,
        network_trusted=trusted is not None,
        claims=(claim,),
    )
    content = {"result": found.result.value, "network_trusted": found.network_trusted, **claim_json(claim)}
    lines = (
        audit_lines(found, trust_option="--network") if claim.verdict.is_verified else _failed_lines(found)
    )
    emit(content, as_json=as_json, lines=lines)
    return found.result.exit_code


def _failed_lines(found: Audit) -> list[str]:
    claim = found.claims[0]
    failure = claim.verdict.failure
    what = "" if failure is None else f"layer {failure.name}: {failure.detail}"
    return [f"FAILED: {what}", "", *verdict_lines(claim.verdict)]
