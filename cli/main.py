"""Entry point of the `facechain` command."""

import click

from .. import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "FACECHAIN"})
@click.version_option(__version__, prog_name="facechain")
def main() -> None:
    """Keep and check the proof that a face is synthetic, unaltered and of known origin."""
