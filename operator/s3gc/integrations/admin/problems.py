"""Errors as RFC 9457 has them, for the plugin's own routes: the application's handlers never see one of ours.

What a client may read is decided here. A message of an `S3GCError` is written for people and holds no credential; of
anything unexpected only the kind is told, and the log has the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from s3gc.exceptions import (
    ConfigurationError,
    LockedError,
    RefusedError,
    RestoreError,
    S3GCError,
    SourceError,
    StoreError,
    VaultCorruptedError,
    VaultError,
    redact,
)
from s3gc.integrations.admin.models import S3GCProblem

__all__ = [
    "MEDIA_TYPE",
    "ProblemError",
    "busy",
    "documented",
    "not_found",
    "problem_of",
    "refused",
    "response_to",
    "stopping",
]

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_ERRORS = 100

_TITLES = {
    400: "The request cannot be read",
    401: "A token is needed",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "In the way of something else",
    413: "The request is too large",
    422: "The request is not valid",
    429: "Too many requests",
    500: "It failed",
    503: "Not available now",
}


class ProblemError(Exception):
    """A problem on its way to the client."""

    def __init__(self, problem: S3GCProblem, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.headers = dict(headers or {})


def _problem(kind: str, status: int, detail: str, **facts: Any) -> S3GCProblem:
    title = facts.pop("title", None) or _TITLES.get(status, "Error")
    return S3GCProblem(type=f"urn:s3gc:{kind}", title=title, status=status, detail=redact(detail), **facts)


def made(
    kind: str, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **facts: Any
) -> ProblemError:
    return ProblemError(_problem(kind, status, detail, **facts), headers)


def not_found(operation_id: str, vault: str) -> ProblemError:
    return made(
        "not-found",
        404,
        f"this policy has no operation {operation_id} in the vault {vault}; what is older than its retention is gone",
        operation_id=operation_id,
    )


def busy(detail: str, operation_id: str | None) -> ProblemError:
    return made("busy", 409, detail, operation_id=operation_id)


def refused(detail: str, **facts: Any) -> ProblemError:
    return made("refused", 409, detail, **facts)


def stopping() -> ProblemError:
    return made(
        "stopping",
        503,
        "the application is shutting down; ask again in a moment",
        headers={"Retry-After": "5"},
    )


def problem_of(error: BaseException, operation_id: str | None = None) -> S3GCProblem:
    """What a client reads about `error`."""
    if isinstance(error, ProblemError):
        return error.problem
    facts: dict[str, Any] = {"operation_id": operation_id}
    if not isinstance(error, S3GCError):
        return _problem(
            "internal", 500, f"unexpected {type(error).__name__}; the application's log says more", **facts
        )
    if isinstance(error, RefusedError):
        for name in ("guard", "plan_digest"):
            if isinstance(found := error.details.get(name), str):
                facts[name] = found
        return _problem("refused", 409, error.message, **facts)
    if isinstance(error, LockedError):
        return _problem("busy", 409, error.message, **facts)
    if isinstance(error, RestoreError):
        return _problem("restore", 409, error.message, title="The restore could not be done", **facts)
    if isinstance(error, ConfigurationError) or type(error).__name__ == "CDCError":
        listed = error.details.get("errors")
        errors = [str(each) for each in listed][:_ERRORS] if isinstance(listed, (list, tuple)) else None
        return _problem(
            "policy", 500, error.message, title="The policy cannot be used", errors=errors, **facts
        )
    if isinstance(error, VaultCorruptedError):
        return _problem("damaged", 500, error.message, title="The vault is damaged", **facts)
    if isinstance(error, (StoreError, SourceError, VaultError)):
        return _problem("unavailable", 503, error.message, **facts)
    return _problem("failed", 500, error.message, **facts)


def response_to(error: Exception, request: Request) -> Response:
    """The answer to an error of one of our routes."""
    headers: dict[str, str] = {}
    if isinstance(error, ProblemError):
        problem, headers = error.problem, error.headers
    elif isinstance(error, RequestValidationError):
        problem = _problem(
            "invalid", 422, "the request has problems; `errors` lists them", errors=_listed(error)
        )
    elif isinstance(error, HTTPException):
        headers = dict(error.headers or {})
        problem = _problem("http", error.status_code, str(error.detail))
    else:
        if not isinstance(error, S3GCError):
            log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        problem = problem_of(error)
    problem = problem.model_copy(update={"instance": request.url.path})
    return JSONResponse(
        problem.model_dump(mode="json", exclude_none=True),
        status_code=problem.status,
        headers=headers,
        media_type=MEDIA_TYPE,
    )


def _listed(error: RequestValidationError) -> list[str]:
    """Each problem as ``where: what``; never the value itself, which may be anything."""
    return [
        f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"[:500]
        for item in error.errors()[:_ERRORS]
    ]


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What an endpoint's `responses` says in the OpenAPI document, for these statuses and those of every endpoint."""
    schema = {"$ref": "#/components/schemas/S3GCProblem"}
    return {
        status: {"description": _TITLES[status], "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in sorted({*statuses, 401, 403, 422, 429, 500, 503})
    }
