"""Entry point of the `facechain` command: the table of commands and the group that loads them on demand.

Owns `COMMANDS` and the options before the command. Refuses to import a command's module before that command
is asked for, so that `facechain --help` costs little more than Python and click.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Final

import click

from .. import __version__
from .errors import ExitCode, report


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of the command table: section of the help page, module and attribute, one line of help."""

    section: str
    target: str
    summary: str


_NETWORK: Final = "Network"
_PROOF: Final = "Registration and audit"
_RIGHTS: Final = "Keys and roles"
_PRODUCER: Final = "Producer (needs the extra 'producer')"
_TRIAL: Final = "Try it on this machine"

COMMANDS: Final = {
    "node": Entry(section=_NETWORK, target="cli.node:node", summary="Run a peer of the network."),
    "peers": Entry(
        section=_NETWORK,
        target="cli.peers:peers",
        summary="See, name, remove and ban the peers of a running node.",
    ),
    "network": Entry(section=_NETWORK, target="cli.network:network", summary="Found a network."),
    "db": Entry(
        section=_NETWORK, target="cli.db:db", summary="Check, repair, back up and prune a node's store."
    ),
    "submit": Entry(section=_PROOF, target="cli.submit:submit", summary="Sign and submit a batch of images."),
    "audit": Entry(
        section=_PROOF, target="cli.audit:audit", summary="Trace an image or a hash to its origin."
    ),
    "verify": Entry(section=_PROOF, target="cli.audit:verify", summary="Check a proof file without a node."),
    "attest": Entry(
        section=_PROOF, target="cli.attest:attest", summary="Say on the chain that an image was reproduced."
    ),
    "retract": Entry(
        section=_PROOF, target="cli.retract:retract", summary="Withdraw a batch, one image of it, or a stage."
    ),
    "headers": Entry(
        section=_PROOF, target="cli.headers:headers", summary="Keep a chain of headers without a node."
    ),
    "key": Entry(section=_RIGHTS, target="cli.keys:key", summary="Make and keep signing keys."),
    "role": Entry(section=_RIGHTS, target="cli.role:role", summary="Grant and revoke roles."),
    "view": Entry(section=_RIGHTS, target="cli.view:view", summary="Let viewers open encrypted batches."),
    "checkpoint": Entry(
        section=_RIGHTS, target="cli.checkpoint:checkpoint", summary="Declare a block final as a witness."
    ),
    "train": Entry(
        section=_PRODUCER, target="cli.producer:train", summary="Train a generator on real faces."
    ),
    "evaluate": Entry(
        section=_PRODUCER,
        target="cli.evaluate:evaluate",
        summary="Measure a generator against people it never saw.",
    ),
    "generate": Entry(section=_PRODUCER, target="cli.producer:generate", summary="Render synthetic faces."),
    "cluster": Entry(
        section=_PRODUCER,
        target="cli.producer:cluster",
        summary="Sort faces into clusters by mini-batch k-means.",
    ),
    "produce": Entry(
        section=_PRODUCER,
        target="cli.producer:produce",
        summary="Generate, filter, cluster, store and submit in one go.",
    ),
    "privacy-report": Entry(
        section=_PRODUCER,
        target="cli.producer:privacy_report",
        summary="Attack a trained generator and report what it gives away about its training faces.",
    ),
    "expression": Entry(
        section=_PRODUCER,
        target="cli.expression:expression",
        summary="Tell the facial expressions of faces, with their confidence.",
    ),
    "ablation": Entry(
        section=_PRODUCER,
        target="cli.ablation:ablation",
        summary="Rerun the paper's ablation on a small budget and tabulate it.",
    ),
    "report": Entry(
        section=_PRODUCER,
        target="cli.report:report",
        summary="Write a page with the paper's tables and figures as this run has them.",
    ),
    "testnet": Entry(
        section=_TRIAL,
        target="cli.testnet:testnet",
        summary="Run a network of several nodes on this machine.",
    ),
    "demo": Entry(
        section=_TRIAL, target="cli.demo:demo", summary="Show a network, a producer and an audit end to end."
    ),
}
"""Every command by name, in the order of the help page; targets are relative to the package `facechain`."""


class LazyGroup(click.Group):
    """A group whose commands are loaded from `COMMANDS` when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the table, in its order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command, or None when the table does not have it."""
        entry = COMMANDS.get(cmd_name)
        return load(entry) if entry else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table, section by section, without loading anything."""
        for section in dict.fromkeys(entry.section for entry in COMMANDS.values()):
            rows = [(name, entry.summary) for name, entry in COMMANDS.items() if entry.section == section]
            with formatter.section(section):
                formatter.write_dl(rows)


def load(entry: Entry) -> click.Command:
    """Import the module of `entry` and return its command."""
    module, _, attribute = entry.target.partition(":")
    command = getattr(import_module(f"{__package__.rpartition('.')[0]}.{module}"), attribute)
    if not isinstance(command, click.Command):
        raise TypeError(f"{entry.target}: expected a click command, got {type(command).__name__}")
    return command


@click.group(
    cls=LazyGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "show_default": True,
        "auto_envvar_prefix": "FACECHAIN",
    },
)
@click.version_option(__version__, prog_name="facechain")
@click.option("--debug", is_flag=True, show_envvar=True, help="Show the traceback of an error.")
def facechain(debug: bool) -> None:  # noqa: FBT001 - click passes options by keyword
    """Keep and check the proof that a face is synthetic, unaltered and of known origin.

    Every option can be given as an environment variable: FACECHAIN_, the command and the option in capitals,
    as in FACECHAIN_NODE_START_PEERS.
    """


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: the process's) and return the exit code; never raises for an error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result = facechain.main(args=given, prog_name="facechain", standalone_mode=False)
    except SystemExit as leaving:
        if leaving.code == 1:  # so click says that whoever read the output went away; here 1 is "not found"
            return ExitCode.BROKEN_PIPE
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - this is the one place that catches all
        return report(error, debug=_debug_asked(given))
    return result if isinstance(result, int) and not isinstance(result, bool) else ExitCode.OK


def main() -> None:
    """Console script."""
    sys.exit(run())


def _debug_asked(given: Sequence[str]) -> bool:
    """Return whether --debug stands before the command or FACECHAIN_DEBUG is set."""
    context = facechain.make_context("facechain", list(given), resilient_parsing=True)
    return bool(context.params.get("debug"))
