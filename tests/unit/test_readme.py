"""The README says what is there: every command, every linked page."""

import re
from pathlib import Path

import click
import pytest

from facechain.cli.main import COMMANDS, load

README = Path(__file__).parents[2] / "README.md"
ROW = re.compile(r"^\| `facechain ([a-z-]+)( [a-z]+)?`(.*?) \| (.+) \|$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#:]+)\)")


def rows() -> dict[str, tuple[set[str], str]]:
    """Return subcommands and text of the table's rows, by command."""
    found = {}
    for name, first, others, text in ROW.findall(README.read_text(encoding="utf-8")):
        names = {first.strip(), *re.findall(r"`([a-z]+)`", others)} - {""}
        found[name] = (names, text)
    return found


def test_the_table_names_every_command_in_the_words_of_the_help() -> None:
    assert {name: text for name, (_, text) in rows().items()} == {
        name: entry.summary for name, entry in COMMANDS.items()
    }
    assert list(rows()) == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_names_every_subcommand(name: str) -> None:
    command = load(COMMANDS[name])
    expected = set(command.commands) if isinstance(command, click.Group) else set()
    assert rows()[name][0] == expected


def test_every_linked_page_is_there() -> None:
    links = LINK.findall(README.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []


def test_the_name_is_told_apart() -> None:
    text = README.read_text(encoding="utf-8")
    assert "portrait generator" in text
    assert "`facechain-node`" in text
