"""The token that writes (and, when configured, reads) must carry.

Owns its file and the comparison. A token is 32 random bytes as hex; the comparison takes the same time
wherever the texts differ.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import secrets
from pathlib import Path
from typing import Final

from ..private_files import create_private_file, read_private_file

TOKEN_BYTES: Final = 32
TOKEN_CHARACTERS_MIN: Final = 32
TOKEN_FILE_BYTES_MAX: Final = 1024


class TokenFileError(Exception):
    """The token file holds no usable token."""

    code: Final = "api-token"

    def diagnostics(self) -> str:
        """Return the failure as one line for a person."""
        return f"{self.code}: {self}"


def load_or_create_token(path: Path) -> str:
    """Return the token in `path`; the first start makes the file, mode 0600.

    Raises:
        TokenFileError: too short, too long, or not ASCII.
        TooOpen: others may read the file.
        OSError: it can be neither read nor made.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):  # another process was faster: its token is as good
            create_private_file(path, secrets.token_hex(TOKEN_BYTES).encode() + b"\n")
    content = read_private_file(path, max_bytes=TOKEN_FILE_BYTES_MAX)
    token = content.strip()
    if len(content) > TOKEN_FILE_BYTES_MAX or len(token) < TOKEN_CHARACTERS_MIN or not token.isascii():
        raise TokenFileError(
            f"{path}: expected {TOKEN_CHARACTERS_MIN} or more ASCII characters, got {len(token)}; "
            "remove the file, and the next start makes a new token"
        )
    return token.decode("ascii")


def carries_token(authorization: str, token: str) -> bool:
    """Tell whether an Authorization header holds the token: as Bearer, or as password of Basic (for browsers)."""
    scheme, _, value = authorization.partition(" ")
    given = value.strip()
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode().partition(":")[2]
        except ValueError:
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())
