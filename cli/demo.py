"""`facechain demo`: a network, a producer and an audit on this machine, shown end to end.

Owns the command, its clean end and the one JSON line; `demo_story` does the work.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from .errors import CheckFailedError
from .options import examples
from .testnet_process import terminating, uninterrupted

if TYPE_CHECKING:
    from .demo_story import Demonstration

NEEDED: Final = ("torch", "sklearn", "fsspec")
SHEET: Final = Path("demo-out/contact-sheet.png")


@click.command(epilog=examples("facechain demo", "facechain demo --sheet faces.png --keep"))
@click.option(
    "--sheet",
    type=click.Path(path_type=Path, dir_okay=False),
    default=SHEET,
    help="Where to write the contact sheet (PNG).",
)
@click.option("--keep", is_flag=True, help="Leave the network running, for a look at its explorer.")
def demo(*, sheet: Path, keep: bool) -> None:
    """Show a network, a producer and an audit end to end.

    Starts three validators and a miner, makes and registers 1,000 synthetic faces, audits four images, kills a
    validator and lets it catch up. Takes about half a minute. The last line on stdout is one JSON object.
    """
    from .demo_story import Demonstration

    _check_installed()
    with terminating():
        story = Demonstration(root=Path(tempfile.mkdtemp(prefix="facechain-demo-")), sheet=sheet.absolute())
        try:
            story.run()
        finally:
            _finish(story, keep=keep)
    failures = story.outcome.failures()
    if failures:
        raise CheckFailedError("the demo did not show what it must", got="; ".join(failures))


def _check_installed() -> None:
    """Raise ModuleNotFoundError now for what the producer would miss after some seconds."""
    for name in NEEDED:
        if find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _finish(story: Demonstration, *, keep: bool) -> None:
    """End what runs, whatever happened before, and print what was observed."""
    with uninterrupted():
        try:
            story.end(keep=keep)
        finally:
            click.echo(json.dumps(asdict(story.outcome)))
