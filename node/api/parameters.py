"""Reading parameters and bodies of requests: strict, bounded, and with one clear error each.

Owns no meaning: what comes out are numbers and bytes.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from .limits import RETRY_AFTER_SECONDS
from .problems import ApiProblem, bad_request

HASH_BYTES = 32
UINT_MAX = 2**63 - 1


def read_hash(text: str, what: str) -> bytes:
    """Read 64 hex digits; ApiProblem otherwise."""
    try:
        value = bytes.fromhex(text) if text.isalnum() else b""
    except ValueError:
        value = b""
    if len(value) != HASH_BYTES:
        raise bad_request(what, expected=f"{2 * HASH_BYTES} hex digits", got=text[:80])
    return value


def path_hash(request: web.Request, name: str) -> bytes:
    """Read a hash from the path."""
    return read_hash(request.match_info[name], name)


def read_uint(text: str, what: str, *, maximum: int = UINT_MAX) -> int:
    """Read a decimal number from 0 to `maximum`; ApiProblem otherwise."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(maximum)) and int(text) <= maximum):
        raise bad_request(what, expected=f"a whole number from 0 to {maximum}", got=text[:80])
    return int(text)


def query_uint(
    request: web.Request, name: str, default: int, *, maximum: int = UINT_MAX, minimum: int = 0
) -> int:
    """Read a number from the query string, `default` when it is not there."""
    text = request.query.get(name)
    if text is None:
        return default
    value = read_uint(text, name, maximum=maximum)
    if value < minimum:
        raise bad_request(name, expected=f"{minimum} to {maximum}", got=value)
    return value


async def read_body(request: web.Request, seconds: float) -> bytes:
    """Read the whole body within its size and time limits; ApiProblem 408 or 413."""
    try:
        async with asyncio.timeout(seconds):
            return await request.read()
    except TimeoutError:
        raise late_body(seconds) from None


def late_body(seconds: float) -> ApiProblem:
    """Return the answer to a body that did not arrive in time."""
    return ApiProblem(
        408,
        "request-timeout",
        f"expected the whole body within {seconds:g} s; send it again",
        expected=seconds,
        headers={"Connection": "close", "Retry-After": str(RETRY_AFTER_SECONDS)},
    )


def wants_bytes(request: web.Request) -> bool:
    """Tell whether the client asked for the encoded form rather than JSON."""
    return "application/octet-stream" in request.headers.get("Accept", "")
