"""`facechain role`: propose, approve and list roles. Rights change by administrators' statements on the chain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .authoring import say_and_report
from .errors import UsageError
from .hexadecimal import read_hash
from .keyring import Passphrases, public_key
from .options import LongNameOption, api_option, data_dir_option, examples, json_option, signing_options
from .output import columns, emit

if TYPE_CHECKING:
    from ..consensus.payloads import RoleProposal
    from ..node.data_dir import DataDir
    from .answers import Proposal, Proposals, RoleHolding, Roles
    from .client import NodeClient

ROLE_NAMES = ("admin", "producer", "submitter", "viewer")
GRANT, REVOKE = "grant", "revoke"


@click.group()
def role() -> None:
    """Grant and revoke roles.

    Roles: admin (grants and revokes), producer (seals blocks, registers images), submitter (registers
    images), viewer (is given encrypted images). A change takes effect once enough administrators approved it;
    a proposal counts as its author's approval.
    """


@role.command(
    epilog=examples(
        "facechain role propose --grant producer 6f1c…9a --key alice",
        "facechain role propose --revoke submitter 6f1c…9a --suspect-since 1200 --key alice --wait 1",
        "facechain role propose --grant viewer 6f1c…9a --encryption-key 03ab…71 --key alice",
    )
)
@click.argument("role_name", metavar="ROLE", type=click.Choice(ROLE_NAMES))
@click.argument("subject")
@click.option("--grant", is_flag=True, help="Give the role to SUBJECT.")
@click.option("--revoke", is_flag=True, help="Take the role from SUBJECT.")
@click.option(
    "--suspect-since",
    type=click.IntRange(min=0),
    metavar="HEIGHT",
    help="With --revoke: the key's statements from this height on are disputed.",
)
@click.option("--encryption-key", metavar="HEX", help="With --grant viewer: the viewer's X25519 key.")
@click.option("--note", default="", help="Reason, kept on the chain.")
@signing_options
def propose(
    *,
    role_name: str,
    subject: str,
    grant: bool,
    revoke: bool,
    suspect_since: int | None,
    encryption_key: str | None,
    note: str,
    key: str,
    passphrase_file: Path | None,
    data_dir: DataDir,
    **sending: Any,
) -> None:
    """Propose to grant or revoke ROLE of SUBJECT, a public key or the name of a key of this machine."""
    from ..consensus.kinds import Kind

    if grant == revoke:
        raise UsageError(
            "proposal", expected="--grant or --revoke", got="both" if grant else "neither of them"
        )
    if grant and role_name == "viewer" and encryption_key is None:
        raise UsageError(
            "--grant viewer",
            expected="--encryption-key HEX, the public key that `facechain view key` prints",
            got="none",
        )
    payload = _proposal(
        GRANT if grant else REVOKE,
        role_name,
        public_key(data_dir, subject),
        suspect_since=suspect_since,
        encryption_key=None if encryption_key is None else read_hash("--encryption-key", encryption_key),
        note=note,
    )
    say_and_report(
        "proposal",
        Kind.ROLE_PROPOSAL,
        payload,
        key=key,
        passphrases=Passphrases(file=passphrase_file),
        data_dir=data_dir,
        **sending,
    )


@role.command(epilog=examples("facechain role approve 9d3e…01 --key bob --wait 1"))
@click.argument("proposal_id")
@signing_options
def approve(
    *, proposal_id: str, key: str, passphrase_file: Path | None, data_dir: DataDir, **sending: Any
) -> None:
    """Approve a proposal; `facechain role list` shows the ids."""
    from ..consensus.kinds import Kind
    from ..consensus.payloads import RoleApproval

    say_and_report(
        "approval",
        Kind.ROLE_APPROVAL,
        RoleApproval(proposal=read_hash("PROPOSAL_ID", proposal_id)),
        key=key,
        passphrases=Passphrases(file=passphrase_file),
        data_dir=data_dir,
        **sending,
    )


@role.command("list", epilog=examples("facechain role list", "facechain role list --at 1200 --json"))
@click.option(
    "--at", type=click.IntRange(min=0), metavar="HEIGHT", help="Roles at this height.  [default: next]"
)
@api_option
@data_dir_option
@json_option
def list_roles(*, at: int | None, api: str, data_dir: DataDir, as_json: bool) -> None:
    """List who holds which role, and the proposals that wait for approvals."""
    from .client import ask_node

    async def ask(client: NodeClient) -> tuple[Roles, Proposals]:
        return await client.roles(at), await client.proposals()

    roles, proposals = ask_node(api, data_dir, ask)
    waiting = [item for item in proposals.entries if item.effective_height is None]
    held = [entry for entry in roles.entries if entry.held]
    lines = [f"height {roles.height}"]
    lines += columns(("ROLE", "KEY", "HEIGHTS", ""), [_role_row(entry) for entry in held])
    if waiting:
        lines += [
            "",
            *columns(("PROPOSAL", "ASKS FOR", "APPROVALS"), _proposal_rows(waiting, proposals.quorum)),
        ]
    emit({**roles.content, "proposals": proposals.content["proposals"]}, as_json=as_json, lines=lines)


@role.command(
    epilog=examples(
        "facechain role prove 6f1c…9a producer --out key.fcrole",
        "facechain role prove alice producer --height 1200 --out key.fcrole --network genesis.json",
    )
)
@click.argument("key")
@click.argument("role_name", metavar="ROLE", type=click.Choice(ROLE_NAMES))
@click.option(
    "--height",
    type=click.IntRange(min=0),
    metavar="HEIGHT",
    help="Height to tell about.  [default: the tip's]",
)
@click.option(
    "--out",
    cls=LongNameOption,
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where the proof goes; `facechain verify` checks it without a node.",
)
@click.option(
    "--network",
    metavar="ID|FILE",
    help="Network that counts: its id or its genesis file.  [default: that of the data directory]",
)
@api_option
@data_dir_option
@json_option
def prove(
    *,
    key: str,
    role_name: str,
    height: int | None,
    out: Path,
    network: str | None,
    api: str,
    data_dir: DataDir,
    as_json: bool,
) -> None:
    """Write a proof of the heights at which KEY had ROLE, or that it never had. It is checked before it is written."""
    from .audit import trusted_network
    from .role_proof import fetch, judge

    trusted = trusted_network(network, data_dir)
    file = fetch(role_name, public_key(data_dir, key), api=api, data_dir=data_dir)
    tip = file.proof.anchor.height
    if height is not None and height > tip + 1:
        raise UsageError(
            "option --height", expected=f"at most {tip + 1}, the block after the tip at {tip}", got=height
        )
    answer = judge(file, height=height, trusted=trusted, headers=None)
    out.write_bytes(file.encode())
    emit({**answer.json(), "file": str(out)}, as_json=as_json, lines=[*answer.lines(), f"wrote {out}"])


def _proposal(
    action: str,
    role_name: str,
    subject: bytes,
    *,
    suspect_since: int | None,
    encryption_key: bytes | None,
    note: str,
) -> RoleProposal:
    """Return the payload; UsageError when its parts do not go together."""
    from ..consensus.errors import DecodeError
    from ..consensus.kinds import Role, RoleAction
    from ..consensus.payloads import RoleProposal

    payload = RoleProposal(
        action=RoleAction[action.upper()],
        role=Role[role_name.upper()],
        subject=subject,
        encryption_key=encryption_key,
        suspect_since=suspect_since,
        note=note,
    )
    try:
        return RoleProposal.decode(payload.encode())
    except DecodeError as error:
        raise UsageError(error.what, expected=error.expected, got=error.got) from error


def _role_row(entry: RoleHolding) -> tuple[str, str, str, str]:
    spans = ", ".join(
        f"{start} on" if until is None else f"{start} to {until - 1}" for start, until in entry.intervals
    )
    disputed = "" if entry.suspect_since is None else f"disputed from {entry.suspect_since}"
    return entry.role, entry.key.hex(), spans, disputed


def _proposal_rows(proposals: list[Proposal], quorum: int) -> list[tuple[str, str, str]]:
    return [
        (
            item.id.hex(),
            f"{item.action} {item.role} {item.subject.hex()}" + (f" ({item.note})" if item.note else ""),
            f"{len(item.approvals)} of {quorum}",
        )
        for item in proposals
    ]
