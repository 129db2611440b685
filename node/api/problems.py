"""What the API answers when it does not do what was asked: one JSON form for every error.

Owns the exception and its rendering. Codes of the network's rules are passed on as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

from aiohttp import web

from ...consensus.errors import ConsensusError, DecodeError, RuleViolation
from ...consensus.image import ImageRejected
from ..mempool import MempoolFull, MempoolRefusal, SequenceGap, SequenceTaken

RULE_STATUS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "unauthorized-author": 403,
        "unauthorized-producer": 403,
        "bad-sequence": 409,
        "duplicate-approval": 409,
        "oversized": 413,
    }
)
"""HTTP status by rule; every other rule is 422."""


PROBLEM_MEDIA_TYPE: Final = "application/problem+json"
"""RFC 9457; the type of the problem is `about:blank`, and what is special to it is in the member `error`."""

STATEMENT_NOT_FOUND: Final = "statement-not-found"


class ApiProblem(Exception):
    """A request is answered with an error."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        expected: object = None,
        got: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, code, message)
        self.status = status
        self.code = code
        self.message = message
        self.expected = expected
        self.got = got
        self.headers = dict(headers or {})

    def error(self) -> dict[str, Any]:
        """Return the error object: code, message, expected and got."""
        return {
            "code": self.code,
            "message": self.message,
            "expected": _plain(self.expected),
            "got": _plain(self.got),
        }

    def response(self) -> web.Response:
        """Return the whole answer."""
        problem = {
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.message,
            "error": self.error(),
        }
        return web.json_response(
            problem, status=self.status, headers=self.headers, content_type=PROBLEM_MEDIA_TYPE
        )


def _plain(value: object) -> object:
    if value is None or isinstance(value, int | float | str):
        return value
    return value.hex() if isinstance(value, bytes) else str(value)


def bad_request(what: str, *, expected: object, got: object) -> ApiProblem:
    """Return a 400: a parameter or body that cannot be read."""
    return ApiProblem(
        400, "bad-request", f"{what}: expected {expected}, got {got}", expected=expected, got=got
    )


def not_found(code: str, message: str, *, expected: object = None, got: object = None) -> ApiProblem:
    """Return a 404 whose code says what is not there."""
    return ApiProblem(404, code, message, expected=expected, got=got)


def problem_of(error: ConsensusError | MempoolRefusal, *, following: int | None = None) -> ApiProblem:
    """Translate a refusal of the rules, the codec or the mempool.

    `following`: the sequence that the author's next statement must carry, named when the sequence was wrong.
    """
    if isinstance(error, MempoolFull):
        seconds = str(error.retry_after_seconds)
        return ApiProblem(429, error.code, error.message, headers={"Retry-After": seconds})
    if isinstance(error, SequenceGap):
        return ApiProblem(409, error.code, error.message, expected=error.expected, got=error.got)
    if isinstance(error, SequenceTaken):
        return ApiProblem(409, error.code, error.message, expected=error.following, got=error.sequence)
    if isinstance(error, RuleViolation):
        status = RULE_STATUS.get(error.code, 422)
        expected = following if error.code == "bad-sequence" and following is not None else error.expected
        return ApiProblem(status, error.code, error.message, expected=expected, got=error.got)
    if isinstance(error, DecodeError | ImageRejected):
        return ApiProblem(400, error.code, error.message, expected=error.expected, got=error.got)
    return ApiProblem(422, error.code, error.message)
