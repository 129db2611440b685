"""Every row of the command table leads to a command that describes itself as the table says."""

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from facechain.cli.main import COMMANDS, facechain, load

HEAVY = ("PIL", "aiohttp", "cryptography", "lmdb", "msgpack", "numpy", "sklearn", "torch")
SUMMARY_CHARACTERS = 200


def every_command(command: click.Command, *path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield the command and all below it, by their full names."""
    yield " ".join(path), command
    if isinstance(command, click.Group):
        for name in command.commands:
            yield from every_command(command.commands[name], *path, name)


@pytest.mark.parametrize("name", COMMANDS)
def test_row_leads_to_a_command_with_the_same_summary(name: str) -> None:
    command = load(COMMANDS[name])
    assert command.name == name
    assert command.get_short_help_str(SUMMARY_CHARACTERS) == COMMANDS[name].summary


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_and_command_has_help(name: str) -> None:
    for path, command in every_command(load(COMMANDS[name]), name):
        assert command.help, path
        undescribed = [
            option.name
            for option in command.params
            if isinstance(option, click.Option) and not (option.help or option.hidden)
        ]
        assert undescribed == [], path


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_examples_of_itself(name: str) -> None:
    for path, command in every_command(load(COMMANDS[name]), name):
        if not isinstance(command, click.Group):
            assert f"Examples:\n  facechain {path}" in (command.epilog or ""), path


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_the_variable_that_the_help_promises(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = facechain.context_class(facechain, info_name="facechain", auto_envvar_prefix="FACECHAIN")
    for path, command in every_command(load(COMMANDS[name]), name):
        context = root
        for word in path.split():
            context = click.Context(command, info_name=word, parent=context)
        for option in command.params:
            if isinstance(option, click.Option):
                words = (*path.split(), max(option.opts, key=len).lstrip("-"))
                variable = "_".join(("facechain", *words)).replace("-", "_").upper()
                monkeypatch.setenv(variable, "given")
                assert option.resolve_envvar_value(context) == "given", variable


def test_command_modules_import_nothing_heavy() -> None:
    code = (
        "import sys; from facechain.cli.main import COMMANDS, load; "
        "[load(entry) for entry in COMMANDS.values()]; "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout) == ("", "[]\n")


def test_the_group_finds_what_the_table_lists() -> None:
    context = click.Context(facechain)
    for name in facechain.list_commands(context):
        assert facechain.get_command(context, name) is not None
    assert facechain.get_command(context, "nonsense") is None
