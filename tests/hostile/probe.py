"""Ask a node for its status again and again, and write how long each answer took: a process of its own.

    python probe.py HOST PORT FILE

Lines are `monotonic seconds, milliseconds`; an answer that did not come in time counts as that time. A new connection
is made whenever the old one is gone. Ends with its parent, or when standard input does.
"""

from __future__ import annotations

import http.client
import select
import sys
import time
from pathlib import Path

PAUSE_SECONDS = 0.02
TIMEOUT_SECONDS = 5.0


def ask(connection: http.client.HTTPConnection) -> None:
    """Make one request and read all of the answer."""
    connection.request("GET", "/v1/status")
    answer = connection.getresponse()
    answer.read()
    if answer.status != http.client.OK:
        raise http.client.HTTPException(f"status {answer.status}")


def main() -> None:
    """Poll until standard input ends."""
    host, port, path = sys.argv[1:]
    connection = http.client.HTTPConnection(host, int(port), timeout=TIMEOUT_SECONDS)
    with Path(path).open("w", encoding="utf-8", buffering=1) as file:
        while not select.select((sys.stdin,), (), (), PAUSE_SECONDS)[0]:
            started = time.monotonic()
            try:
                ask(connection)
                taken = time.monotonic() - started
            except (OSError, http.client.HTTPException):
                connection.close()
                taken = max(TIMEOUT_SECONDS, time.monotonic() - started)
            file.write(f"{started:.6f} {1_000 * taken:.3f}\n")


if __name__ == "__main__":
    main()
