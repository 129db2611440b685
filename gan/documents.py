"""Reads the JSON documents and pictures that a report is made of, with a limit on their size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import ReportError

PICTURE_BYTES_MAX = 8 * 2**20
DOCUMENT_BYTES_MAX = 16 * 2**20


def read_document(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is no file.

    Raises:
        ReportError: the file is too large, or no JSON object.
    """
    if not path.is_file():
        return None
    try:
        loaded = json.loads(read_bounded(path, DOCUMENT_BYTES_MAX))
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path} is damaged", expected="a JSON object", got=str(error)) from error
    if not isinstance(loaded, dict):
        raise ReportError(f"{path} is damaged", expected="a JSON object", got=type(loaded).__name__)
    return loaded


def read_bounded(path: Path, most: int) -> bytes:
    """A file's bytes, at most `most` of them.

    Raises:
        ReportError: there are more.
    """
    size = path.stat().st_size
    if size > most:
        raise ReportError(
            f"{path} is too large for the page", expected=f"at most {most} bytes", got=str(size)
        )
    return path.read_bytes()
