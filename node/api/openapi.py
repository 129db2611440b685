"""The OpenAPI 3.1 document, generated from the table of routes."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any, Final

from ...consensus.kinds import Role
from .problems import PROBLEM_MEDIA_TYPE
from .routes import JSON, ROUTES, Access, Query, Route

OPENAPI_VERSION: Final = "3.1.0"
PATH: Final = "/openapi.json"
COMMON_ERRORS: Final = (400, 401)

PATH_PATTERNS: Final = {
    "block": "^([0-9]{1,19}|[0-9a-fA-F]{64})$",
    "role": f"^({'|'.join(role.label for role in Role)})$",
}
"""What a part of a path looks like when it is not a hash or a key."""

ERROR_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["title", "status", "detail", "error"],
    "properties": {
        "title": {"type": "string", "description": "the status in words"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "the message of `error`"},
        "error": {
            "type": "object",
            "required": ["code", "message", "expected", "got"],
            "properties": {
                "code": {"type": "string", "description": "a rule of the protocol, or a reason of the API"},
                "message": {"type": "string"},
                "expected": {"type": ["string", "number", "null"]},
                "got": {"type": ["string", "number", "null"]},
            },
        },
    },
}


def openapi_document(version: str) -> dict[str, Any]:
    """Return the whole document; `version` is that of the running software."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    paths[PATH] = {
        "get": {
            "operationId": "get_openapi",
            "summary": "This document",
            "responses": {"200": {"description": "OK", "content": {JSON: {}}}},
        }
    }
    return {
        "openapi": OPENAPI_VERSION,
        "info": {
            "title": "facechain node",
            "version": version,
            "description": "Hashes and keys are lower-case hex, times are Unix milliseconds.",
        },
        "paths": paths,
        "components": {
            "schemas": {"Error": ERROR_SCHEMA},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "adminToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "the operator's, from the node's own machine or an address of api_admin",
                },
            },
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.operation_id,
        "summary": route.summary,
        "parameters": [
            *(_path_parameter(name) for name in re.findall(r"{(\w+)}", route.path)),
            *(_query_parameter(query) for query in route.query),
        ],
        "responses": {
            **{str(status): _good(status, route) for status in route.statuses},
            **{str(status): _bad(status) for status in sorted({*COMMON_ERRORS, *route.errors})},
        },
    }
    if route.access is Access.WRITE:
        operation["security"] = [{"token": []}]
    if route.access is Access.ADMIN:
        operation["security"] = [{"adminToken": []}]
    if route.takes:
        binary = {"schema": {"type": "string", "format": "binary"}}
        operation["requestBody"] = {"required": True, "content": dict.fromkeys(route.takes, binary)}
    return operation


def _path_parameter(name: str) -> dict[str, Any]:
    pattern = PATH_PATTERNS.get(name, "^[0-9a-fA-F]{64}$")
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": pattern}}


def _query_parameter(query: Query) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if query.maximum is not None:
        schema = {"type": "integer", "minimum": 0, "maximum": query.maximum}
    return {
        "name": query.name,
        "in": "query",
        "required": False,
        "description": query.about,
        "schema": schema,
    }


def _good(status: int, route: Route) -> dict[str, Any]:
    content: dict[str, Any] = {media: {} for media in route.answers}
    return {"description": HTTPStatus(status).phrase, "content": content}


def _bad(status: int) -> dict[str, Any]:
    return {
        "description": HTTPStatus(status).phrase,
        "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
