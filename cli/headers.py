"""`facechain headers`: a chain of headers of one's own, whose seals are proven authorised."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .errors import CheckFailedError
from .options import LongNameOption, api_option, data_dir_option, examples, json_option
from .output import emit, facts, say

if TYPE_CHECKING:
    from ..node.data_dir import DataDir
    from .header_chain import HeaderChain


@click.group()
def headers() -> None:
    """Keep a chain of headers without a node.

    The headers of a network, from its genesis on, with the proof that every one was sealed by a producer. `facechain
    verify --headers` holds proofs against it. What that is worth is in docs/audit.md.
    """


@headers.command(
    epilog=examples(
        "facechain headers sync --out chain.fcheaders --network genesis.json",
        "facechain headers sync --out chain.fcheaders --api https://node.example:7441 --json",
    )
)
@click.option(
    "--out",
    cls=LongNameOption,
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Headers file; one that is there is checked and continued.",
)
@click.option(
    "--network",
    metavar="ID|FILE",
    help="Network that counts: its id or its genesis file.  [default: the file's, or that of the data directory]",
)
@api_option
@data_dir_option
@json_option
def sync(*, out: Path, network: str | None, api: str, data_dir: DataDir, as_json: bool) -> None:
    """Bring a headers file up to the chain that a node shows.

    The node is not believed: a header that does not hold is refused (exit code 2), and of two chains the one with more
    work stays.
    """
    from .audit import trusted_network
    from .outbox import write_durably

    trusted = trusted_network(network, data_dir)
    chain = asyncio.run(_follow(out, trusted, api, data_dir))
    write_durably(out, chain.encode())
    content = chain_json(chain)
    emit(content, as_json=as_json, lines=facts(content.items()))
    if trusted is None:
        say(f"network {content['network']} by the node's own word: name it with --network")


async def _follow(out: Path, trusted: bytes | None, api: str, data_dir: DataDir) -> HeaderChain:
    from .client import api_token
    from .header_chain import HeaderChain, ProofClient

    now_ms = time.time_ns() // 1_000_000
    async with ProofClient(api, token=api_token(data_dir)) as node:
        chain = HeaderChain.read(out, now_ms=now_ms) if out.exists() else HeaderChain(await node.genesis())
        check_network(chain, trusted, str(out) if out.exists() else api)
        await chain.follow(node, now_ms=now_ms, progress=lambda height: say(f"height {height}"))
    return chain


def check_network(chain: HeaderChain, trusted: bytes | None, source: str) -> None:
    """Check that headers are those of the network that counts; CheckFailedError otherwise."""
    found = chain.client.genesis.network_id
    if trusted is not None and found != trusted:
        raise CheckFailedError(f"headers of {source}: network", expected=trusted.hex(), got=found.hex())


def chain_json(chain: HeaderChain) -> dict[str, Any]:
    """Return what a chain of headers comes to, for --json."""
    tip, genesis = chain.client.tip, chain.client.genesis
    return {
        "network": genesis.network_id.hex(),
        "name": genesis.name,
        "height": tip.height,
        "tip": tip.hash.hex(),
        "tip_time_ms": tip.time_ms,
        "chainwork": f"{tip.chainwork:x}",
    }
