"""What holds for every request: access, one form of error, security headers, metrics.

Owns the order of these. There are no CORS headers: a page of another origin cannot read this node's answers.
"""

from __future__ import annotations

import logging
import time
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from ...consensus.errors import ConsensusError
from ..chain_runner import StorePaused
from ..store.errors import StoreError
from ..wire.limits import MAX_HTTP_BODY_BYTES
from .access import token_required
from .context import SECURITY_HEADERS, ApiContext, context_of
from .limits import RETRY_AFTER_SECONDS
from .problems import ApiProblem, problem_of
from .routes import ROUTES, Access
from .token import carries_token

_log = logging.getLogger(__name__)

PAGE_METHODS: Final = frozenset({"GET", "HEAD"})
ADMIN_ROUTES: Final = frozenset((row.method, row.path) for row in ROUTES if row.access is Access.ADMIN)
OPEN_PATHS: Final = frozenset({"/healthz"})
EVENTS_PATH: Final = "/v1/events"
OPEN_POSTS: Final = frozenset({"/audit"})
"""Posts that change nothing, so they need what a read needs."""


def _check_access(request: web.Request, context: ApiContext) -> None:
    """Refuse a write, or a guarded read, without the token, and the operator's routes to everybody else."""
    if (request.method, _route_name(request)) in ADMIN_ROUTES:
        context.config.admin.check(request)
        return
    is_read = request.method in PAGE_METHODS or request.path in OPEN_POSTS
    if request.path in OPEN_PATHS or (is_read and not context.config.read_token):
        return
    given = request.headers.get("Authorization", "")
    if not carries_token(given, context.config.token):
        raise token_required("token-required", "API token (file api-token", given)


def _route_name(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return "unknown" if resource is None else resource.canonical


@web.middleware
async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Check access, run the handler, and turn everything it raises into the one form of error."""
    context = context_of(request)
    started = time.monotonic()
    try:
        _check_access(request, context)
        response = await _run(request, handler, context)
    except ApiProblem as problem:
        response = problem.response()
    except web.HTTPException as error:
        response = _http_problem(request, error).response()
    except StoreError as error:
        _log.log(
            logging.DEBUG if isinstance(error, StorePaused) else logging.ERROR,
            *("%s %s: the store failed: %s", request.method, request.path, error),
        )
        seconds = str(RETRY_AFTER_SECONDS)
        response = ApiProblem(
            503, "store-unavailable", str(error), headers={"Retry-After": seconds}
        ).response()
    except ConsensusError as error:
        response = problem_of(error).response()
    except Exception:  # noqa: BLE001 - a fault in one handler is one 500, not the node's end
        _log.exception("%s %s failed", request.method, request.path)
        response = ApiProblem(500, "internal", "a fault of this node; its log has the details").response()
    if not response.prepared:
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
    context.metrics.count(_route_name(request), response.status, time.monotonic() - started)
    return response


async def _run(request: web.Request, handler: Handler, context: ApiContext) -> web.StreamResponse:
    """Run a handler unless too many are running; event streams have their own limit."""
    if request.path == EVENTS_PATH:
        return await handler(request)
    if context.load.requests >= context.config.requests_max:
        raise ApiProblem(
            503,
            "busy",
            f"expected at most {context.config.requests_max} requests at a time, got more; try again",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )
    context.load.requests += 1
    try:
        return await handler(request)
    finally:
        context.load.requests -= 1


def _http_problem(request: web.Request, error: web.HTTPException) -> ApiProblem:
    """Give the errors of the HTTP layer the same form."""
    if error.status == web.HTTPNotFound.status_code:
        return ApiProblem(404, "no-such-path", f"{request.path}: see /openapi.json", got=request.path)
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return ApiProblem(
            405,
            "method-not-allowed",
            f"{request.path}: expected {allowed}, got {request.method}",
            expected=allowed,
            got=request.method,
            headers={"Allow": allowed},
        )
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return ApiProblem(
            413,
            "oversized",
            f"body: expected at most {MAX_HTTP_BODY_BYTES} bytes",
            expected=MAX_HTTP_BODY_BYTES,
        )
    return ApiProblem(error.status, error.reason.lower().replace(" ", "-"), error.reason)
