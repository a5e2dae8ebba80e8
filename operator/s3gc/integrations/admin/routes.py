"""The endpoints: what each takes, what it answers, and which room it asks. Nothing is decided here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, FastAPI, Path, Query, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Match

from s3gc.config import GCMode
from s3gc.exceptions import S3GCError
from s3gc.integrations.admin import health, history, problems
from s3gc.integrations.admin.answers import Answers
from s3gc.integrations.admin.auth import VARIABLE, Gate
from s3gc.integrations.admin.console import Console
from s3gc.integrations.admin.models import (
    GCApproved,
    GCApproveRequest,
    GCConfigView,
    GCExplanation,
    GCHealth,
    GCOperationDetail,
    GCOperationList,
    GCPlanPage,
    GCRestoreAccepted,
    GCRestoreRequest,
    GCRunAccepted,
    GCStatus,
    GCSummary,
    Key,
    Mode,
    OperationID,
    Prefix,
)
from s3gc.integrations.admin.plans import plan_page
from s3gc.integrations.admin.problems import documented
from s3gc.integrations.admin.route import guarded_route
from s3gc.results import GCMetrics, GCResult, RestoreResult

__all__ = ["add_routes"]

#: What a report's page may do: show itself. It is made of other people's text.
_REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'self'"
)
_ORDER = (GCMode.DRY_RUN, GCMode.AUDIT_ONLY, GCMode.EXECUTE)

OperationPath = Annotated[OperationID, Path(description="The operation's id, a ULID.")]
AfterKey = Annotated[
    Key | None, Query(description="Begin after this key: the `next_after` of the page before.")
]


def add_routes(
    app: FastAPI, answers: Answers, gate: Gate, console: Console, *, prefix: str, tag: str
) -> None:
    """Add every endpoint under `prefix` to the application."""
    bearer = HTTPBearer(
        auto_error=False,  # the gate answers, before anything else is looked at
        scheme_name="S3GCAdminKey",
        description=f"The value of {VARIABLE} on the server.",
    )
    api = APIRouter(route_class=guarded_route(gate), dependencies=[Depends(bearer)], tags=[tag])
    _runs(api, answers, prefix)
    _state(api, answers)
    _operations(api, answers)
    _console(api, console, gate)
    app.include_router(api, prefix=prefix)
    app.include_router(_otherwise(api, gate, prefix), prefix=prefix)


def _runs(api: APIRouter, answers: Answers, prefix: str) -> None:
    @api.post(
        "/run",
        status_code=202,
        response_model=GCRunAccepted,
        responses={
            200: {"model": GCResult, "description": "The cycle has ended (`wait=true`)."},
            **documented(404, 409),
        },
        summary="Run a cycle",
    )
    async def run(
        request: Request,
        wait: Annotated[bool, Query(description="Answer when it has ended, with its result.")] = False,
        mode: Annotated[Mode | None, Query(description="Less than the policy's mode, never more.")] = None,
        operation_id: Annotated[
            OperationID | None,
            Query(description="Resume this operation: an approved plan, or one that was cut off."),
        ] = None,
    ) -> Any:
        wanted = GCMode(mode) if mode is not None else answers.config.mode
        if _ORDER.index(wanted) > _ORDER.index(answers.config.mode):
            raise problems.refused(
                f"the policy's mode is {answers.config.mode.value}; a request may ask for less, never for more",
                guard="mode",
            )
        if operation_id is not None:
            operation, _ = await history.find(answers.runtime, operation_id)
            if not await operation.plan_exists():
                raise problems.refused(
                    f"operation {operation_id} has no plan to resume; start a new cycle",
                    operation_id=operation_id,
                )
        work = await answers.runs.start_cycle(mode=wanted, operation_id=operation_id)
        if wait:
            await answers.runs.wait(work)
            if work.result is None:
                raise S3GCError("the cycle ended without a result")
            return JSONResponse(work.result.model_dump(mode="json"))
        href = f"{request.scope.get('root_path', '').rstrip('/')}{prefix}/operations/{work.operation_id}"
        accepted = GCRunAccepted(
            operation_id=work.operation_id or "", mode=wanted.value, started_at=work.started_at, href=href
        )
        return JSONResponse(accepted.model_dump(mode="json"), status_code=202, headers={"Location": href})

    @api.post(
        "/restore/{op_id}",
        response_model=RestoreResult,
        responses={
            202: {"model": GCRestoreAccepted, "description": "The restore runs (`wait=false`)."},
            **documented(400, 404, 409),
        },
        summary="Bring back what an operation deleted, or say what would come back",
    )
    async def restore(
        op_id: OperationPath,
        dry_run: Annotated[bool, Query(description="Only say what would come back.")] = True,
        skip_existing: Annotated[
            bool, Query(description="Leave alone what is there now; else back it up and overwrite it.")
        ] = True,
        key: Annotated[list[Key] | None, Query(description="Only these keys.", max_length=100)] = None,
        prefix: Annotated[
            list[Prefix] | None, Query(description="Only keys that begin so.", max_length=100)
        ] = None,
        wait: Annotated[bool, Query(description="Answer when it has ended. A dry run always does.")] = True,
        body: Annotated[GCRestoreRequest | None, Body()] = None,
    ) -> Any:
        asked = body or GCRestoreRequest()
        wanted = GCRestoreRequest(
            dry_run=dry_run if asked.dry_run is None else asked.dry_run,
            skip_existing=skip_existing if asked.skip_existing is None else asked.skip_existing,
            keys=asked.keys or key or None,
            prefixes=asked.prefixes or prefix or None,
        )
        await answers.restorable(op_id)
        if wanted.dry_run:
            return await answers.runs.restored(op_id, wanted)
        work = await answers.runs.start_restore(op_id, wanted)
        if wait:
            await answers.runs.wait(work)
            return work.restore
        accepted = GCRestoreAccepted(operation_id=op_id, started_at=work.started_at)
        return JSONResponse(accepted.model_dump(mode="json"), status_code=202)


def _state(api: APIRouter, answers: Answers) -> None:
    @api.get("/status", responses=documented(), summary="The policy, what runs, what ended, what waits")
    async def status() -> GCStatus:
        return await answers.status()

    @api.get(
        "/metrics",
        response_model=GCMetrics,
        responses={
            200: {
                "description": "The vault's numbers, as JSON or in Prometheus' text format.",
                "content": {"text/plain": {"schema": {"type": "string"}}},
            },
            **documented(),
        },
        summary="Numbers over every operation that the vault remembers",
    )
    async def metrics(
        request: Request,
        format: Annotated[  # noqa: A002  the name in the URL
            Literal["json", "prometheus"] | None, Query(description="By default as the Accept header asks.")
        ] = None,
    ) -> Any:
        if format == "prometheus" or (format is None and _wants_text(request.headers.get("Accept", ""))):
            return PlainTextResponse(
                await answers.prometheus(), media_type="text/plain; version=0.0.4; charset=utf-8"
            )
        return await answers.runtime.metrics()

    @api.get(
        "/health",
        response_model=GCHealth,
        responses=_with_health(documented()),
        summary="Vault, bucket, databases, change capture and schedule",
    )
    async def get_health() -> Any:
        found = await health.look(answers.runtime, answers.scheduler)
        return JSONResponse(
            found.model_dump(mode="json"), status_code=503 if found.status == "failed" else 200
        )

    @api.get("/config", responses=documented(), summary="The policy, without its secrets")
    async def config() -> GCConfigView:
        return answers.config_view()

    @api.get("/explain", responses=documented(404), summary="Why one object is kept, or would go")
    async def explain(key: Annotated[Key, Query(description="The object's key, exactly.")]) -> GCExplanation:
        return await answers.explain(key)

    @api.get(
        "/events",
        response_class=_EventStream,
        responses=documented(),
        summary="Progress and ends, as server-sent events",
    )
    async def events() -> Response:
        return _EventStream(
            answers.events.listen(), headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )


def _operations(api: APIRouter, answers: Answers) -> None:
    @api.get("/operations", responses=documented(), summary="The policy's operations, newest first")
    async def operations(
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        before: Annotated[
            OperationID | None, Query(description="The `next_before` of the page before.")
        ] = None,
    ) -> GCOperationList:
        running_id = await answers.running_id()
        return await history.list_operations(
            answers.runtime, limit=limit, before=before, running_id=running_id
        )

    @api.get("/operations/{op_id}", responses=documented(404), summary="One operation and its result")
    async def operation(op_id: OperationPath) -> GCOperationDetail:
        return await history.show(answers.runtime, op_id, await answers.running_id())

    @api.get(
        "/operations/{op_id}/plan", responses=documented(404, 409), summary="A page of an operation's plan"
    )
    async def plan(
        op_id: OperationPath,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        after: AfterKey = None,
        prefix: Annotated[Prefix | None, Query(description="Only keys that begin so.")] = None,
    ) -> GCPlanPage:
        return await plan_page(
            answers.runtime, answers.outcomes, op_id, limit=limit, after=after, prefix=prefix
        )

    @api.get(
        "/operations/{op_id}/summary",
        responses=documented(404, 409),
        summary="The report's charts as numbers",
    )
    async def summary(op_id: OperationPath) -> GCSummary:
        return await answers.summaries.get(op_id)

    @api.get(
        "/operations/{op_id}/report",
        response_class=Response,
        responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}, **documented(404)},
        summary="The report's page",
    )
    async def report(op_id: OperationPath) -> Response:
        found = await answers.report(op_id)
        headers = {"Content-Security-Policy": _REPORT_POLICY, "Referrer-Policy": "no-referrer"}
        return Response(found, media_type="text/html; charset=utf-8", headers=headers)

    @api.post(
        "/operations/{op_id}/approve", responses=documented(400, 404, 409), summary="Approve exactly one plan"
    )
    async def approve(request: Request, op_id: OperationPath, body: GCApproveRequest) -> GCApproved:
        client = request.client.host if request.client is not None else "a local socket"
        return await history.approve(answers.runtime, op_id, body, f"over HTTP from {client}")


def _console(api: APIRouter, console: Console, gate: Gate) -> None:
    """The page and its files: without a token, and only where one is set on the server."""
    door = APIRouter(route_class=guarded_route(_Open()))
    router = APIRouter(route_class=guarded_route(_Ajar(gate)))

    @door.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        try:
            gate.key()
        except problems.ProblemError as error:
            if "text/html" not in request.headers.get("Accept", ""):
                raise
            return console.closed(error.problem)
        return console.page(request)

    @router.get("/console/{name}", include_in_schema=False)
    async def file(request: Request, name: str) -> Response:
        return console.file(name, request)

    for route in (*door.routes, *router.routes):
        api.routes.append(route)


class _Open(Gate):
    """Lets in everybody, to a handler that looks for itself."""

    def admit(self, request: Request) -> None:
        pass


class _Ajar(Gate):
    """Lets in whoever asks for what holds no data, once a token is set at all."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def admit(self, request: Request) -> None:
        self._gate.key()


class _EventStream(StreamingResponse):
    media_type = "text/event-stream"


def _otherwise(api: APIRouter, gate: Gate, prefix: str) -> APIRouter:
    """What is under our prefix and none of ours: 405 where the path has other methods, else 404, both as problems."""
    router = APIRouter(route_class=guarded_route(gate))
    routes = [route for route in api.routes if isinstance(route, APIRoute)]

    @router.api_route(
        "/{rest:path}",
        methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"],
        include_in_schema=False,
    )
    async def otherwise(request: Request, rest: str) -> Response:
        scope = {"type": "http", "path": f"/{rest}", "root_path": "", "method": request.method}
        allowed = sorted(
            {
                m
                for route in routes
                if route.matches(dict(scope))[0] is not Match.NONE
                for m in route.methods or ()
            }
        )
        if allowed:
            raise problems.made(
                "method",
                405,
                f"this endpoint has {', '.join(allowed)}",
                headers={"Allow": ", ".join(allowed)},
            )
        raise problems.made("not-found", 404, f"{prefix}/ has no such endpoint")

    return router


def _wants_text(accept: str) -> bool:
    """Whether a scraper asks: it names text or OpenMetrics, and a program that wants JSON names that first."""
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    text = [kinds.index(kind) for kind in ("text/plain", "application/openmetrics-text") if kind in kinds]
    json = [kinds.index(kind) for kind in ("application/json",) if kind in kinds]
    return bool(text) and (not json or min(text) < min(json))


def _with_health(responses: dict[int | str, dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    """503 is the answer of a part that failed as well."""
    both = {**responses[503], "model": GCHealth, "description": "A part has failed, or no token is set."}
    return {**responses, 503: both}
