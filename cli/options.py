"""Options that several commands share: names, environment variables, defaults and help in one place.

Owns no behaviour beyond turning text into values. Each option also has the variable that click derives from
its command, as in FACECHAIN_KEY_NEW_DATA_DIR.
"""

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from ..node.data_dir import DataDir, default_data_dir

DEFAULT_API: Final = "http://127.0.0.1:7441"
"""Where a node's API listens unless it is told otherwise."""

DEFAULT_WAIT_SECONDS: Final = 300.0

Command = TypeVar("Command", bound=Callable[..., Any])


class LongNameOption(click.Option):
    """An option whose variable follows its long name where the argument of the function is called otherwise."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Return what the option's own variables hold, else FACECHAIN_<COMMAND>_<LONG NAME>."""
        long_name = max(self.opts, key=len).lstrip("-").replace("-", "_").upper()
        return super().resolve_envvar_value(ctx) or os.environ.get(f"{ctx.auto_envvar_prefix}_{long_name}")


def gathered(
    name: str, kind: Callable[..., object], *options: str
) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """Hand on several options as one value, which `kind` makes of them; goes below them, directly above the function."""

    def gather(command: Callable[..., object]) -> Callable[..., object]:
        @wraps(command)
        def run(**given: object) -> object:
            value = kind(**{option: given.pop(option) for option in options})
            return command(**given, **{name: value})

        return run

    return gather


def examples(*lines: str) -> str:
    """Return the end of a help page; the mark keeps click from joining the lines."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


def _layout(_context: click.Context, _parameter: click.Parameter, value: Path | None) -> DataDir:
    return DataDir(root=default_data_dir() if value is None else value.expanduser())


def data_dir_option(command: Command) -> Command:
    """`--data-dir`, handed on as `data_dir: DataDir`."""
    return click.option(
        "--data-dir",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="FACECHAIN_DATA_DIR",
        callback=_layout,
        show_envvar=True,
        help="Folder of keys and node.  [default: the platform's folder for user data]",
    )(command)


def passphrase_file_option(command: Command) -> Command:
    """`--passphrase-file`, handed on as `passphrase_file: Path | None`."""
    return click.option(
        "--passphrase-file",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        envvar="FACECHAIN_PASSPHRASE_FILE",
        show_envvar=True,
        help="File with the key's passphrase; otherwise FACECHAIN_PASSPHRASE, otherwise a prompt.",
    )(command)


def key_option(command: Command) -> Command:
    """`--key`, handed on as `key: str`; see `facechain.cli.keyring`."""
    return click.option(
        "--key",
        required=True,
        metavar="NAME",
        envvar="FACECHAIN_KEY",
        show_envvar=True,
        help="Ledger key that signs: a name in the data directory, or the path of a key file.",
    )(command)


def api_option(command: Command) -> Command:
    """`--api`, handed on as `api: str`."""
    return click.option(
        "--api",
        default=DEFAULT_API,
        metavar="URL",
        envvar="FACECHAIN_API",
        show_envvar=True,
        help="HTTP API of a node.",
    )(command)


def wait_options(command: Command) -> Command:
    """`--wait` and `--timeout`, handed on as `wait: int` and `timeout: float`."""
    with_timeout = click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=DEFAULT_WAIT_SECONDS,
        metavar="SECONDS",
        help="How long --wait waits.",
    )(command)
    return click.option(
        "--wait",
        type=click.IntRange(min=0),
        default=0,
        metavar="N",
        help="Return once N blocks confirm it; 0 returns once the node has queued it.",
    )(with_timeout)


def json_option(command: Command) -> Command:
    """`--json`, handed on as `as_json: bool`."""
    return click.option("--json", "as_json", cls=LongNameOption, is_flag=True, help="Print JSON.")(command)


def signing_options(command: Command) -> Command:
    """Add the options of a command that signs a statement and hands it in."""
    for option in (
        json_option,
        data_dir_option,
        wait_options,
        api_option,
        passphrase_file_option,
        key_option,
    ):
        command = option(command)
    return command
