"""Where a node's log lines go and what they look like.

Owns the two formats (lines for people, JSON objects for machines) and the rotating file in the data
directory. Nothing is printed to standard output: that is for a command's data.
"""

from __future__ import annotations

import json
import logging
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path

from aiohttp.http_exceptions import HttpProcessingError

LOG_FILE_BYTES_MAX = 16 * 2**20
LOG_FILES_KEPT = 4

_LINE = "%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s"
_DATE = "%Y-%m-%dT%H:%M:%S"


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, and the exception when there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        row = {
            "time": f"{self.formatTime(record, _DATE)}.{int(record.msecs):03d}",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            row["exception"] = self.formatException(record.exc_info)
        return json.dumps(row, ensure_ascii=False)


class PatientFileHandler(RotatingFileHandler):
    """Leaves lines out while the disk takes none; they go to standard error all the same."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        """Pass over what the disk refuses, without a traceback for each line."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def tells_of_this_node(record: logging.LogRecord) -> bool:
    """Tell whether a line of the HTTP servers is worth a place: bytes of a stranger that are no HTTP are not.

    aiohttp writes a traceback for each such request, so that anybody could fill the log.
    """
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)


def start_logging(path: Path, *, level: str, as_json: bool) -> None:
    """Send this process's log to the file and to standard error."""
    formatter = JsonFormatter() if as_json else logging.Formatter(_LINE, _DATE)
    handlers: tuple[logging.Handler, ...] = (
        PatientFileHandler(path, maxBytes=LOG_FILE_BYTES_MAX, backupCount=LOG_FILES_KEPT, encoding="utf-8"),
        logging.StreamHandler(sys.stderr),
    )
    logging.getLogger("aiohttp.server").addFilter(tells_of_this_node)
    root = logging.getLogger("facechain")
    root.setLevel(level.upper())
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
