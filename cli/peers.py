"""`facechain peers`: see and choose the peers of a running node.

Owns the options and what is printed; the node does the work, over its API. Changes need the node's admin token.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from .errors import UsageError
from .options import LongNameOption, api_option, data_dir_option, examples, json_option
from .output import columns, emit, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..node.data_dir import DataDir

_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION: Final = re.compile(r"([1-9][0-9]{0,9})([smhd])")
_KEY_DIGITS_SHOWN: Final = 16


@click.group()
def peers() -> None:
    """See, name, remove and ban the peers of a running node."""


@peers.command(name="list", epilog=examples("facechain peers list", "facechain peers list --json"))
@api_option
@data_dir_option
@json_option
def list_command(*, api: str, data_dir: DataDir, as_json: bool) -> None:
    """List the connected peers, and named ones that are not connected."""
    answer = _ask(api, data_dir, "GET", "/v1/peers")
    emit(answer, as_json=as_json, lines=_peer_lines(answer))


def _peer_lines(answer: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            peer["address"],
            "in" if peer["inbound"] else "out",
            str(peer["height"]),
            "" if peer["ping_ms"] is None else f"{peer['ping_ms']:.0f} ms",
            f"{peer['connected_seconds']:.0f} s",
            peer["node_key"][:_KEY_DIGITS_SHOWN],
            peer["user_agent"],
        )
        for peer in answer["peers"]
    ]
    lines = columns(("ADDRESS", "WAY", "HEIGHT", "PING", "SINCE", "NODE KEY", "SOFTWARE"), rows)
    lines += [
        f"not connected: {peer['peer']} ({peer['failures']} tries failed)"
        for peer in answer["named"]
        if not peer["connected"]
    ]
    known = answer["addresses"]
    return [*lines, f"{known['known']} addresses known, {known['worked']} of them worked"]


@peers.command(epilog=examples("facechain peers add node.example.org:7440"))
@click.argument("peer", metavar="HOST:PORT")
@api_option
@data_dir_option
@json_option
def add(*, peer: str, api: str, data_dir: DataDir, as_json: bool) -> None:
    """Name a peer: the node stays connected to it, also after a restart, and never evicts it."""
    answer = _ask(api, data_dir, "POST", "/v1/peers", content={"peer": peer})
    emit(
        answer,
        as_json=as_json,
        lines=[f"{answer['peer']} is named; 'facechain peers list' shows when it is connected"],
    )


@peers.command(epilog=examples("facechain peers remove node.example.org:7440"))
@click.argument("peer", metavar="HOST:PORT")
@api_option
@data_dir_option
@json_option
def remove(*, peer: str, api: str, data_dir: DataDir, as_json: bool) -> None:
    """Forget a named peer and end the connection to it.

    A peer of the node's settings is named again at the next start. One that nobody named may connect again: ban it.
    """
    answer = _ask(api, data_dir, "DELETE", "/v1/peers", query={"peer": peer})
    emit(answer, as_json=as_json, lines=[f"{answer['peer']} is not named any more"])


@peers.command(
    epilog=examples(
        "facechain peers ban 192.0.2.7",
        "facechain peers ban 198.51.100.0/24 --for 7d --reason 'floods us'",
        "facechain peers ban 2b8f…64-digits…",
    )
)
@click.argument("peer")
@click.option(
    "--for",
    "duration",
    cls=LongNameOption,
    default="24h",
    metavar="TIME",
    help="How long: a number and s, m, h or d.",
)
@click.option("--reason", metavar="TEXT", help="Kept with the ban, and told to the peer.")
@api_option
@data_dir_option
@json_option
def ban(*, peer: str, duration: str, reason: str | None, api: str, data_dir: DataDir, as_json: bool) -> None:
    """Keep PEER out: a node key, an address or a network. Its connections end at once.

    A node key costs nothing; who is to stay out for good is banned by address or network.
    """
    content: dict[str, object] = {"peer": peer, "seconds": _seconds(duration)}
    if reason is not None:
        content["reason"] = reason
    answer = _ask(api, data_dir, "POST", "/v1/bans", content=content)
    emit(answer, as_json=as_json, lines=[f"{answer['peer']} is banned until {_time(answer['until_ms'])}"])


@peers.command(epilog=examples("facechain peers unban 192.0.2.7"))
@click.argument("peer")
@api_option
@data_dir_option
@json_option
def unban(*, peer: str, api: str, data_dir: DataDir, as_json: bool) -> None:
    """End a ban; PEER as 'facechain peers bans' shows it."""
    answer = _ask(api, data_dir, "DELETE", "/v1/bans", query={"peer": peer})
    emit(answer, as_json=as_json, lines=[f"{answer['peer']} is not banned any more"])


@peers.command(epilog=examples("facechain peers bans", "facechain peers bans --json"))
@api_option
@data_dir_option
@json_option
def bans(*, api: str, data_dir: DataDir, as_json: bool) -> None:
    """List who is kept out, why and until when."""
    answer = _ask(api, data_dir, "GET", "/v1/bans")
    rows = [
        (ban["peer"], _time(ban["until_ms"]), "operator" if ban["by_operator"] else "node", ban["reason"])
        for ban in answer["bans"]
    ]
    if not rows and not as_json:
        say("nobody is banned")
        return
    emit(answer, as_json=as_json, lines=columns(("PEER", "UNTIL", "BY", "REASON"), rows))


@peers.command(epilog=examples("facechain peers equivocations", "facechain peers equivocations --json"))
@api_option
@data_dir_option
@json_option
def equivocations(*, api: str, data_dir: DataDir, as_json: bool) -> None:
    """List ledger keys that sealed or signed two things in one place.

    That breaks no rule and nobody is banned for it; ask the key's owner. Seen since the node started.
    """
    answer = _ask(api, data_dir, "GET", "/v1/equivocations")
    rows = [
        (
            entry["key"],
            f"block {item['height']}" if item["kind"] == "block" else f"statement {item['sequence']}",
            item["first"][:_KEY_DIGITS_SHOWN],
            item["second"][:_KEY_DIGITS_SHOWN],
            _time(item["at_ms"]),
        )
        for entry in answer["keys"]
        for item in entry["found"]
    ]
    if not rows and not as_json:
        say("no key said two things in one place")
        return
    emit(answer, as_json=as_json, lines=columns(("KEY", "WHERE", "FIRST", "SECOND", "SEEN"), rows))


def _ask(
    api: str,
    data_dir: DataDir,
    method: str,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    content: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    from .client import NodeClient, ask_node

    async def act(client: NodeClient) -> dict[str, Any]:
        answer: dict[str, Any] = await client.call(method, path, query=query, content=content)
        return answer

    return ask_node(api, data_dir, act, as_admin=method != "GET")


def _seconds(text: str) -> int:
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise UsageError("--for", expected="a number and s, m, h or d, such as 30m or 7d", got=repr(text))
    return int(found[1]) * _SECONDS[found[2]]


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
