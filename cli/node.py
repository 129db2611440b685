"""`facechain node`: run a peer of the network.

Owns the options of `node start` and turns them into settings; what a node does is `facechain.node`'s.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .errors import RefusedError, UsageError
from .keyring import Passphrases, open_key
from .options import examples, passphrase_file_option

if TYPE_CHECKING:
    from ..consensus.params import Genesis
    from ..node.config import NodeConfig
    from ..node.service import NodeKeys


@click.group()
def node() -> None:
    """Run a peer of the network."""


@node.command(
    epilog=examples(
        "facechain node start --genesis genesis.json",
        "facechain node start --peers 192.0.2.1:7440,node.example.org:7440",
        "facechain node start --mine --mining-key alice --passphrase-file /run/secrets/alice",
        "facechain node start --print-config",
    )
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="FACECHAIN_DATA_DIR",
    show_envvar=True,
    help="Folder of store, keys and settings.  [default: the platform's folder for user data]",
)
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="Settings file (TOML).")
@click.option(
    "--genesis",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The network's genesis file; copied into the data directory at the first start.",
)
@click.option("--peers", metavar="HOST:PORT,…", help="Peers to stay connected to.")
@click.option("--listen", metavar="HOST:PORT", help="Where peers connect.  [default: 0.0.0.0:7440]")
@click.option("--advertise", metavar="HOST:PORT", help="Address told to peers, when it is not --listen.")
@click.option(
    "--api", metavar="HOST:PORT", help="Where HTTP API and explorer listen.  [default: 127.0.0.1:7441]"
)
@click.option("--mine/--no-mine", default=None, help="Whether to seal blocks.  [default: no]")
@click.option(
    "--mining-key", metavar="NAME", help="Ledger key that seals: a name, or the absolute path of a key file."
)
@click.option(
    "--mining-workers", type=int, metavar="N", help="Processes that search for nonces.  [default: 1]"
)
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.  [default: info]")
@click.option("--log-json/--no-log-json", default=None, help="Write log lines as JSON objects.")
@click.option("--print-config", is_flag=True, help="Print the settings as TOML and exit.")
@passphrase_file_option
def start(*, config: Path | None, passphrase_file: Path | None, print_config: bool, **options: Any) -> None:
    """Start a node and run it until it is told to stop (Ctrl-C or SIGTERM).

    Settings come from the options, then FACECHAIN_NODE_* variables, then config.toml in the data directory.
    """
    from ..node.config import load_config, render_config

    settings = load_config(overrides=options, environment=os.environ, config_file=config)
    if print_config:
        click.echo(render_config(settings), nl=False)
        return
    _run(settings, Passphrases(file=passphrase_file))


def _run(config: NodeConfig, passphrases: Passphrases) -> None:
    from ..node.node_logs import start_logging
    from ..node.run import run_node

    config.layout.create()
    genesis = _genesis(config)
    keys = _keys(config, passphrases)
    start_logging(config.layout.log_file, level=config.log_level, as_json=config.log_json)
    run_node(config, genesis, keys)


def _genesis(config: NodeConfig) -> Genesis:
    """Read the genesis and keep a copy in the data directory, so that the next start needs no option."""
    from ..node.genesis_file import GenesisDocument, read_genesis, write_document

    if not config.genesis_file.exists():
        raise UsageError(
            str(config.genesis_file),
            expected="the network's genesis file",
            got="nothing",
            advice="name it with --genesis, or found a network with: facechain network init",
        )
    genesis = read_genesis(config.genesis_file)
    own = config.layout.genesis_file
    if not own.exists():
        write_document(own, GenesisDocument.of(genesis))
    return genesis


def _keys(config: NodeConfig, passphrases: Passphrases) -> NodeKeys:
    from ..node.api.token import load_or_create_token
    from ..node.node_key import open_node_key
    from ..node.service import NodeKeys

    if config.mine and config.mining_key is None:
        raise UsageError(
            "--mine", expected="the key that seals", got="none", advice="name it with --mining-key NAME"
        )
    if config.mining_backend != "hashlib":
        raise RefusedError(
            "mining_backend",
            expected="hashlib",
            got=config.mining_backend,
            advice="this build has no other backend",
        )
    mining = None
    if config.mine and config.mining_key is not None:
        mining = open_key(config.layout, config.mining_key, passphrases)
    return NodeKeys(
        identity=open_node_key(config.data_dir),
        mining=mining,
        api_token=load_or_create_token(config.token_file),
        admin_token=load_or_create_token(config.admin_token_file),
    )
