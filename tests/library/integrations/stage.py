"""The console's files before endpoints that answer from a scene: states that a real cycle passes too quickly, or never.

The scene is made of the plugin's own models, so that it cannot say what the plugin could not. What the plugin does say
is tried in test_console_story.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from s3gc.integrations.admin import models as m
from s3gc.integrations.admin.console import Console
from s3gc.results import ColumnCoverage, GCMetrics, GCResult, GuardReport, Outcome, RestoreResult

PREFIX = "/admin/s3gc"
TOKEN = "correct-horse-battery-staple"
OPERATION = "01JD9Z7Q4N5V8XKZ3M2C1B0A9S"
DIGEST = "9f2c" * 16
NOW = datetime.now(UTC).replace(microsecond=0)
#: Markup, a script's end, bidi overrides, controls, invisible letters, quotes, and 1,024 bytes without a place to break.
HOSTILE = (
    "uploads/<img src=x onerror=window.owned=1>.png",
    "uploads/</script><script>window.owned=1</script>",
    "uploads/invoice\u202egnp.exe",
    "uploads/tab\tnew\nline\x1b[31mred\x7f",
    "uploads/zero\u200bwidth\u2066isolate\u00a0space\u3164filler",
    "uploads/\"><svg onload=window.owned=1> '`${window.owned=1}`",
    "uploads/javascript:window.owned=1//%3Cscript%3E",
    "uploads/" + "x" * 1016,
    "uploads/مرحبا/שלום/日本語/𝓾𝓷𝓲.jpg",
)


def guards(*, tripped: bool) -> list[GuardReport]:
    return [
        GuardReport(
            guard="maxDeletePercent",
            tripped=tripped,
            value=41.2 if tripped else 3.1,
            limit=20,
            message="412 of 1,000 objects in scope are planned, 41.2 % of them; the limit is 20 %"
            if tripped
            else "",
            way_on="approve exactly this plan if the number is right" if tripped else "",
            waivable=tripped,
        ),
        GuardReport(guard="sources", tripped=False, subject="main"),
        GuardReport(guard="minReferences", tripped=False, subject="main", value=588, limit=1),
        GuardReport(
            guard="minResolvedPercent", tripped=False, subject="main.users.avatar", value=97.5, limit=50
        ),
        GuardReport(
            guard="minResolvedPercent", tripped=False, subject="main.posts.image", value=99.5, limit=50
        ),
        GuardReport(guard="maxDeleteObjects", tripped=False, value=412, limit=100000),
        GuardReport(guard="maxDeleteBytes", tripped=False, value=5.2e9, limit=1e12),
    ]


def result(operation_id: str = OPERATION, **changes: Any) -> GCResult:
    told: dict[str, Any] = {
        "operation_id": operation_id,
        "scope": "shop-media",
        "bucket": "shop-media",
        "mode": "execute",
        "outcome": Outcome.AWAITING_APPROVAL,
        "started_at": NOW - timedelta(hours=2),
        "completed_at": NOW - timedelta(hours=2) + timedelta(seconds=84),
        "duration_seconds": 84.2,
        "total_scanned": 1000,
        "total_bytes": 18_400_000_000,
        "candidates_found": 430,
        "planned_objects": 412,
        "verified_orphans": 412,
        "waiting_count": 18,
        "young_count": 31,
        "excluded_count": 12,
        "reclaimable_bytes": 5_200_000_000,
        "missing_objects": 3,
        "verification": "query",
        "verification_reason": "indexed lookups in two databases",
        "deletion": "versioned: delete markers",
        "plan_digest": DIGEST,
        "approval_expires_at": NOW + timedelta(hours=22),
        "guards": guards(tripped=True),
        "coverage": [
            ColumnCoverage(
                source="main", column="users.avatar", values=400, references=400, resolved=390, missing=10
            ),
            ColumnCoverage(
                source="main",
                column="posts.body",
                format="html",
                values=900,
                references=240,
                resolved=96,
                unparsed=12,
                foreign=83,
                undeclared_hosts={"cdn.example.net": 41},
                unparsed_samples=["<img src='\u202ex'>"],
            ),
        ],
        "phase_seconds": {"Preflight": 1.2, "Listing": 31, "Reading": 28, "Joining": 6, "Planning": 18},
        "requests": {"ListObjectsV2": 12, "GetObject": 3},
    }
    return GCResult(**(told | changes))


def line(of: GCResult, **changes: Any) -> m.GCOperationSummary:
    told: dict[str, Any] = {
        "operation_id": of.operation_id,
        "state": m.GCOperationState.FINISHED,
        "bucket": of.bucket,
        "mode": of.mode,
        "outcome": of.outcome,
        "started_at": of.started_at,
        "completed_at": of.completed_at,
        "journal": "complete",
        "duration_seconds": of.duration_seconds,
        "total_scanned": of.total_scanned,
        "candidates_found": of.candidates_found,
        "planned_objects": of.planned_objects,
        "verified_orphans": of.verified_orphans,
        "deleted_count": of.deleted_count,
        "backed_up_count": of.backed_up_count,
        "skipped_count": of.skipped_count,
        "missing_objects": of.missing_objects,
        "reclaimable_bytes": of.reclaimable_bytes,
        "plan_digest": of.plan_digest,
        "errors": len(of.errors),
    }
    return m.GCOperationSummary(**(told | changes))


def summary(operation_id: str = OPERATION) -> m.GCSummary:
    def bins(*values: tuple[str, int, int]) -> list[m.GCBin]:
        return [m.GCBin(label=label, objects=objects, bytes=size) for label, objects, size in values]

    return m.GCSummary(
        operation_id=operation_id,
        source="plan",
        objects=412,
        bytes=5_200_000_000,
        monthly=0.12,
        price_origin="list prices of us-east-1",
        by_prefix=bins(
            ("uploads/2024/", 220, 3_100_000_000),
            ("uploads/2025/", 120, 1_400_000_000),
            ("thumbs/<b>bold</b>\u202e/", 60, 600_000_000),
            ("everything else", 12, 100_000_000),
        ),
        by_age=bins(
            ("under a week", 0, 0),
            ("1–4 weeks", 12, 9),
            ("1–3 months", 40, 9),
            ("3–6 months", 90, 9),
            ("6–12 months", 130, 9),
            ("1–2 years", 110, 9),
            ("2–4 years", 30, 9),
            ("over 4 years", 0, 0),
        ),
        by_size=bins(
            ("empty", 0, 0),
            ("under 16 KiB", 60, 300_000),
            ("16–128 KiB", 100, 6_000_000),
            ("128 KiB–1 MiB", 140, 80_000_000),
            ("1–16 MiB", 92, 700_000_000),
            ("16–128 MiB", 20, 4_413_700_000),
            ("128 MiB–1 GiB", 0, 0),
            ("over 1 GiB", 0, 0),
        ),
        by_class=[
            m.GCBin(label="STANDARD", objects=380, bytes=4_700_000_000, monthly=0.11),
            m.GCBin(label="STANDARD_IA", objects=32, bytes=500_000_000, monthly=0.01),
        ],
        by_outcome=[],
        oldest=NOW - timedelta(days=1100),
        newest=NOW - timedelta(days=9),
        largest=[],
        samples=[],
    )


def plan_items() -> list[m.GCPlannedItem]:
    plain = [f"uploads/2024/{number:05d}-photo.jpg" for number in range(403)]
    return [
        m.GCPlannedItem(
            key=key,
            size=1_000 * (index + 1),
            etag=f"{index:032x}",
            last_modified=NOW - timedelta(days=30 + index),
            storage_class="STANDARD",
            first_unreferenced=NOW - timedelta(days=8),
            reason="no row names it",
        )
        for index, key in enumerate([*HOSTILE, *plain])
    ]


@dataclass
class Scene:
    """What the endpoints answer; a test changes it, and `tell` sends what an open console has to hear."""

    operations: list[m.GCOperationSummary] = field(default_factory=list)
    detail: dict[str, GCResult] = field(default_factory=dict)
    pending: m.GCPendingApproval | None = None
    running: m.GCRunning | None = None
    last_ended: m.GCEnded | None = None
    busy: str | None = None
    mode: str = "execute"
    problem: m.S3GCProblem | None = None
    problem_headers: dict[str, str] = field(default_factory=dict)
    restorable: bool = False
    approved: m.GCApproved | None = None
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    events: list[tuple[str, str]] = field(default_factory=list)
    hang_up: int = 0
    is_slow: bool = False
    planned: list[m.GCPlannedItem] = field(default_factory=plan_items)

    def waiting(self) -> Scene:
        """One operation whose plan waits for a person."""
        told = result()
        self.operations = [line(told)]
        self.detail = {told.operation_id: told}
        self.pending = m.GCPendingApproval(
            operation_id=told.operation_id,
            plan_digest=DIGEST,
            objects=told.planned_objects,
            bytes=told.reclaimable_bytes,
            expires_at=told.approval_expires_at,
            guards=[guard for guard in told.guards if guard.tripped],
        )
        return self

    def status(self) -> m.GCStatus:
        return m.GCStatus(
            version="0.1.0",
            policy="shop-media",
            bucket="shop-media",
            prefixes=["uploads/", "thumbs/"],
            mode=self.mode,
            approval="manual",
            retention_days=7,
            unreferenced_days=2,
            vault="s3://shop-media/.s3gc/",
            schedule=m.GCSchedule(
                cron="30 2 * * *",
                time_zone="UTC",
                next_run_at=NOW + timedelta(hours=9),
                last_slot=NOW - timedelta(hours=15),
            ),
            running=self.running,
            busy=self.busy,
            last_ended=self.last_ended,
            last_cycle=self.operations[0] if self.operations else None,
            pending_approval=self.pending,
        )

    def run(self, phase: str, **counts: int) -> None:
        """A cycle runs and is in `phase`."""
        started = self.running.started_at if self.running else datetime.now(UTC)
        self.running = m.GCRunning(
            kind=m.GCWorkKind.CYCLE,
            operation_id=OPERATION,
            mode="execute",
            started_at=started,
            progress=m.GCProgress(phase=phase, **counts),
        )
        self.tell("progress", m.GCRunState(running=self.running).model_dump_json())

    def tell(self, event: str, data: str | None = None) -> None:
        self.events.append((event, data if data is not None else self.status().model_dump_json()))


def application(stage: Stage) -> FastAPI:
    app = FastAPI()
    console = Console()

    @app.get(f"{PREFIX}/")
    async def page(request: Request) -> Response:
        return console.page(request)

    @app.get(f"{PREFIX}/console/{{name}}")
    async def file(request: Request, name: str) -> Response:
        return console.file(name, request)

    api = FastAPI()

    @api.middleware("http")
    async def guard(request: Request, call_next: Any) -> Response:
        scene = stage.scene
        given = request.headers.get("authorization", "")
        if scene.problem is not None:
            return _problem(scene.problem, scene.problem_headers)
        if given != f"Bearer {TOKEN}":
            return _problem(
                m.S3GCProblem(
                    type="urn:s3gc:forbidden",
                    title="Forbidden",
                    status=403,
                    detail="the token is not this server's",
                )
            )
        scene.asked.append(
            (request.method, request.url.path + ("?" + request.url.query if request.url.query else ""), None)
        )
        answer: Response = await call_next(request)
        return answer

    @api.get("/status")
    async def status() -> m.GCStatus:
        scene = stage.scene
        found = scene.status()
        while scene.is_slow:  # the answer is as old as the question
            await asyncio.sleep(0.02)
        return found

    @api.get("/metrics")
    async def metrics() -> GCMetrics:
        return GCMetrics(
            total_runs=len(stage.scene.operations),
            total_deleted=1830,
            total_backed_up=1830,
            total_restored=12,
            vault_size_bytes=7_300_000_000,
        )

    @api.get("/health")
    async def health() -> m.GCHealth:
        def part(name: str, state: Any = "ok", detail: str = "", ms: float | None = 12.0) -> m.GCComponent:
            return m.GCComponent(name=name, state=state, detail=detail, milliseconds=ms)

        return m.GCHealth(
            status="degraded",
            vault=part("vault", detail="s3://shop-media/.s3gc/"),
            bucket=part("shop-media", detail="versioned"),
            databases=[
                part("main", detail="postgresql://db/shop"),
                part("legacy", "failed", "no answer from mysql://old:3306/shop within 5 s", None),
            ],
            cdc=[part("change capture", "off", "not configured", None)],
            schedule=part("schedule", "unknown", "", None),
        )

    @api.get("/config")
    async def config() -> m.GCConfigView:
        return m.GCConfigView(
            settings={
                "bucket": "shop-media",
                "prefixes": ["uploads/", "thumbs/"],
                "secret_access_key": "********",
                "retention_days": 7,
                "limits": {"max_delete_percent": 20, "max_delete_objects": 100000},
                "schedule_cron": "30 2 * * *",
                "notify": None,
                "exclude": [],
            },
            databases=[
                m.GCDatabase(
                    name="main",
                    location="postgresql://db/shop",
                    tables=["users.avatar", "posts.body"],
                    queries=["SELECT key FROM exports"],
                    cdc=None,
                )
            ],
        )

    @api.get("/operations")
    async def operations(limit: int = 50, before: str | None = None) -> m.GCOperationList:
        found = stage.scene.operations
        start = 1 + next((i for i, each in enumerate(found) if each.operation_id == before), -1)
        page = found[start : start + limit]
        more = start + limit < len(found)
        return m.GCOperationList(items=page, next_before=page[-1].operation_id if more else None)

    @api.get("/operations/{op_id}", response_model=None)
    async def operation(op_id: str) -> m.GCOperationDetail | Response:
        found = next((each for each in stage.scene.operations if each.operation_id == op_id), None)
        if found is None:
            return _problem(
                m.S3GCProblem(
                    type="urn:s3gc:not-found", title="Not found", status=404, detail=f"no operation {op_id}"
                )
            )
        told = stage.scene.detail.get(op_id)
        approved = stage.scene.approved
        return m.GCOperationDetail(
            operation=found,
            result=told,
            groups=0,
            packs=3,
            held=False,
            approved_by=approved.by if approved else None,
            approved_at=approved.at if approved else None,
            approvable=told is not None and told.outcome == Outcome.AWAITING_APPROVAL and approved is None,
            why_not_approvable=None,
            restorable=stage.scene.restorable,
        )

    @api.get("/operations/{op_id}/plan")
    async def plan(op_id: str, limit: int = 50, after: str | None = None, prefix: str = "") -> m.GCPlanPage:
        told = stage.scene.detail.get(op_id)
        items = (
            sorted(stage.scene.planned, key=lambda item: item.key) if told and told.planned_objects else []
        )
        chosen = [
            each for each in items if each.key.startswith(prefix) and (after is None or each.key > after)
        ]
        more = len(chosen) > limit
        return m.GCPlanPage(
            operation_id=op_id,
            plan_digest=DIGEST,
            objects=len(items),
            bytes=5_200_000_000 if items else 0,
            items=chosen[:limit],
            next_after=chosen[limit - 1].key if more else None,
        )

    @api.get("/operations/{op_id}/summary")
    async def summed(op_id: str) -> m.GCSummary:
        return summary(op_id)

    @api.get("/operations/{op_id}/report")
    async def report(op_id: str) -> Response:
        return Response("<!doctype html><title>report</title>", media_type="text/html")

    @api.post("/operations/{op_id}/approve")
    async def approve(op_id: str, body: m.GCApproveRequest) -> m.GCApproved:
        scene = stage.scene
        scene.asked.append(("body", "approve", body))
        scene.approved = m.GCApproved(
            operation_id=op_id,
            plan_digest=body.plan_digest,
            objects=412,
            bytes=5_200_000_000,
            by=body.by or "console",
            at=NOW,
            not_waived=[],
        )
        scene.pending = None
        scene.tell("status")
        return scene.approved

    @api.post("/run", status_code=202)
    async def run(mode: str | None = None, operation_id: str | None = None) -> m.GCRunAccepted:
        stage.scene.run("Preflight")
        stage.scene.tell("status")
        return m.GCRunAccepted(operation_id=OPERATION, mode=mode or "execute", started_at=NOW, href="x")

    @api.post("/restore/{op_id}", response_model=None)
    async def restore(op_id: str, body: m.GCRestoreRequest, response: Response, wait: bool = True) -> Any:
        scene = stage.scene
        scene.asked.append(("body", "restore", body))
        done = RestoreResult(
            operation_id=op_id,
            dry_run=body.dry_run is not False,
            restored_count=410,
            skipped_count=2,
            restored_bytes=5_100_000_000,
            restored_keys=list(HOSTILE),
            skipped_keys=["a", "b"],
        )
        if done.dry_run:
            return done
        scene.last_ended = m.GCEnded(
            kind=m.GCWorkKind.RESTORE, operation_id=op_id, started_at=NOW, ended_at=NOW, restore=done
        )
        scene.tell("ended", scene.last_ended.model_dump_json())
        scene.tell("status")
        response.status_code = 202
        return m.GCRestoreAccepted(operation_id=op_id, started_at=NOW)

    @api.get("/explain")
    async def explain(key: str) -> m.GCExplanation:
        return m.GCExplanation(
            key=key,
            bucket="shop-media",
            exists=True,
            would_go=False,
            sentence=f"{key} is kept: users.avatar names it",
            reasons=["users.avatar names it", "it is younger than 7 days"],
            size=48213,
            etag="9a0364b9e99bb480dd25e1f0284c8555",
            last_modified=NOW - timedelta(days=3),
            storage_class="STANDARD",
            age_days=3,
            retention_days=7,
            in_scope=True,
            excluded_by=None,
            is_reserved=False,
            problem=None,
            references=[
                m.GCNamedBy(
                    source="main", column="users.avatar", value=f"https://cdn.example.com/{key}", prefix=None
                )
            ],
            held_until=None,
            held_because=None,
            first_listed=NOW - timedelta(days=3),
            first_unreferenced=None,
            unreferenced_days=2,
            ripe_at=None,
            history=[m.GCHistoryEntry(operation_id=OPERATION, action="restored", at=NOW, version_id=None)],
        )

    @api.get("/events")
    async def events(request: Request) -> Response:
        scene = stage.scene

        async def stream() -> AsyncIterator[str]:
            sent, hang_up = len(scene.events), scene.hang_up
            yield f"event: status\ndata: {scene.status().model_dump_json()}\n\n"
            while stage.scene is scene and scene.hang_up == hang_up and not stage.stopping:
                while sent < len(scene.events):
                    event, data = scene.events[sent]
                    sent += 1
                    yield f"event: {event}\ndata: {data}\n\n"
                await asyncio.sleep(0.02)

        return StreamingResponse(stream(), media_type="text/event-stream")

    app.mount(PREFIX, api)
    return app


def _problem(problem: m.S3GCProblem, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(
        problem.model_dump(mode="json", exclude_none=True),
        problem.status,
        headers=headers,
        media_type="application/problem+json",
    )


class Stage:
    """The server, in a thread of the test; `scene` is what it shows now."""

    def __init__(self) -> None:
        self.scene = Scene()
        self.stopping = False
        self._server = uvicorn.Server(
            uvicorn.Config(application(self), host="127.0.0.1", port=0, log_level="warning", lifespan="off")
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    @property
    def url(self) -> str:
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}{PREFIX}/"


@contextlib.contextmanager
def staged() -> Iterator[Stage]:
    stage = Stage()
    stage._thread.start()
    while not stage._server.started:
        if not stage._thread.is_alive():
            raise RuntimeError("the stage did not start")
        threading.Event().wait(0.01)
    try:
        yield stage
    finally:
        stage.stopping = True
        stage._server.should_exit = True
        stage._thread.join(10)
