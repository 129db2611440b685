"""Templates, the words in which they show values, and the static files.

Owns the Jinja environment: everything is escaped, and a name that a page forgot is an error, not a blank.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

FOLDER: Final = Path(__file__).parent
MEDIA_TYPES: Final = MappingProxyType({".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"})
SHORT_CHARACTERS: Final = 12
MILLISECONDS: Final = 1000
YEAR_9999_MS: Final = 253_402_300_799_000


def short(text: str) -> str:
    """Return the first digits of a hash; a leading run of zeros, as work makes it, is kept."""
    return text if len(text) <= SHORT_CHARACTERS else text[:SHORT_CHARACTERS] + "…"


def when(time_ms: int) -> str:
    """Return Unix milliseconds as a date and time in UTC."""
    if not 0 <= time_ms <= YEAR_9999_MS:
        return f"{time_ms} ms"
    return datetime.fromtimestamp(time_ms / MILLISECONDS, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(time_ms: int) -> str:
    """Return Unix milliseconds as a machine reads it."""
    moment = datetime.fromtimestamp(min(max(time_ms, 0), YEAR_9999_MS) / MILLISECONDS, UTC)
    return moment.isoformat(timespec="seconds")


def count(number: float) -> str:
    """Return a number with thin spaces between thousands."""
    return f"{number:,}".replace(",", "\u202f")


def size(number: int) -> str:
    """Return a byte count in the largest fitting unit."""
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{number} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{number} B"


def ago(time_ms: int, now_ms: int) -> str:
    """Return how long ago something was, in one unit."""
    seconds = max(now_ms - time_ms, 0) // MILLISECONDS
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"


@cache
def environment() -> Environment:
    """Return the templates of this package."""
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(short=short, when=when, iso=iso, count=count, size=size, ago=ago)
    made.globals["static_version"] = static_version()
    return made


def render(template: str, **values: Any) -> str:
    """Return a page."""
    return environment().get_template(template).render(**values)


@cache
def static_files() -> MappingProxyType[str, tuple[str, bytes]]:
    """Return every static file by name, with its media type."""
    paths = sorted((FOLDER / "static").iterdir())
    return MappingProxyType(
        {path.name: (MEDIA_TYPES[path.suffix], path.read_bytes()) for path in paths if path.is_file()}
    )


@cache
def static_version() -> str:
    """Return a name for the present content of all static files, so that they can be cached for ever."""
    digest = hashlib.sha256()
    for name, (_, data) in static_files().items():
        digest.update(name.encode() + b"\0" + data)
    return digest.hexdigest()[:12]
