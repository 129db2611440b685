"""What commands print: data on stdout, as text for people or as JSON for programs; talk on stderr."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

import click

_GAP: Final = "  "


def emit(content: Any, *, as_json: bool, lines: Iterable[str]) -> None:
    """Print `content` as JSON, or else `lines`."""
    if as_json:
        click.echo(json.dumps(content, indent=2, ensure_ascii=False))
        return
    for line in lines:
        click.echo(line)


def say(line: str) -> None:
    """Print one line of talk."""
    click.echo(line, err=True)


def plain(value: object) -> object:
    """Return a list as its items with commas, for people; anything else as it is."""
    return (", ".join(map(str, value)) or "none") if isinstance(value, list | tuple) else value


def columns(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table, each column as wide as its widest cell."""
    table = [tuple(headings), *(tuple(row) for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    return [
        _GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


def facts(pairs: Iterable[tuple[str, object]]) -> list[str]:
    """Return one line for each name and value, values aligned."""
    rows = [(name, str(value)) for name, value in pairs]
    width = max((len(name) for name, _ in rows), default=0)
    return [f"{name.ljust(width)}{_GAP}{value}".rstrip() for name, value in rows]
