"""What the endpoints answer about the policy as a whole, put together from the plugin's rooms."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from pydantic import JsonValue

from s3gc.config import S3GCConfig, SourceConfig
from s3gc.cycle.explaining import explain_key
from s3gc.exceptions import StoreError, redact
from s3gc.integrations.admin import history, problems
from s3gc.integrations.admin.events import Events
from s3gc.integrations.admin.models import (
    GCConfigView,
    GCDatabase,
    GCExplanation,
    GCStatus,
)
from s3gc.integrations.admin.outcomes import Outcomes
from s3gc.integrations.admin.plans import Summaries
from s3gc.integrations.admin.runs import Runs
from s3gc.integrations.admin.runtime import Runtime
from s3gc.integrations.admin.scheduler import Scheduler
from s3gc.report.prometheus import prometheus_text
from s3gc.vault.files import read_or_none

__all__ = ["Answers"]


class Answers:
    """The rooms of one plugin, and what needs several of them."""

    def __init__(self, runtime: Runtime, runs: Runs, scheduler: Scheduler) -> None:
        self.runtime, self.runs, self.scheduler = runtime, runs, scheduler
        self.summaries = Summaries(runtime)
        self.outcomes = Outcomes()
        self.events = Events(runtime, runs, self.status)

    @property
    def config(self) -> S3GCConfig:
        return self.runtime.config

    async def running_id(self) -> str | None:
        """The operation that runs now, in any worker process that says so."""
        running, _ = await self.runs.running()
        return running.operation_id if running is not None and running.kind == "cycle" else None

    async def status(self) -> GCStatus:
        config = self.config
        state = await self.runtime.state()
        running, busy = await self.runs.running()
        running_id = running.operation_id if running is not None and running.kind == "cycle" else None
        return GCStatus(
            version=_version(),
            policy=config.policy_name,
            bucket=config.bucket,
            prefixes=list(config.effective_prefixes),
            mode=config.mode.value,
            approval=config.approval.value,
            retention_days=config.retention_days,
            unreferenced_days=config.unreferenced_days,
            vault=state["vault_path"],
            schedule=await self.scheduler.view(),
            running=running,
            busy=busy,
            last_ended=self.runs.last,
            last_cycle=await history.last_cycle(self.runtime, running_id),
            pending_approval=await history.pending_approval(self.runtime),
        )

    async def prometheus(self) -> str:
        """The vault's numbers, and of this moment: whether a cycle runs, and when the next is due."""
        metrics = await self.runtime.metrics()
        running, _ = await self.runs.running()
        last = await history.last_cycle(self.runtime, None)
        more = {
            "s3gc_running": ("Whether a cycle or a restore runs.", float(running is not None)),
            "s3gc_pending_approval": (
                "Whether a plan waits for a person.",
                float(await history.pending_approval(self.runtime) is not None),
            ),
        }
        if (schedule := await self.scheduler.view()) is not None:
            due = schedule.next_run_at.timestamp()
            more["s3gc_next_run_timestamp_seconds"] = ("When the next cycle is due.", due)
        if last is not None:
            succeeded = float(last.outcome in ("Succeeded", "AwaitingApproval"))
            more["s3gc_last_cycle_succeeded"] = ("Whether the last cycle succeeded.", succeeded)
            more["s3gc_reclaimable_bytes"] = ("Size of the last plan.", float(last.reclaimable_bytes or 0))
        return prometheus_text(metrics, self.config.policy_name, self.config.bucket, more=more)

    async def explain(self, key: str) -> GCExplanation:
        state = await self.runtime.state()
        try:
            found = await explain_key(self.config, key, bucket=state["bucket"], vault=state["vault"])
        except StoreError as error:
            if error.details.get("status") != 400:
                raise
            # A key that it cannot have (too long, or with a part that it forbids), told from a store that is away.
            raise problems.made(
                "no-such-key", 404, f"the store does not take this for a key: {error.message}"
            ) from None
        return GCExplanation.model_validate(found.to_json())

    async def restorable(self, operation_id: str) -> None:
        """Raise ProblemError (404) unless the operation is this policy's."""
        await history.find(self.runtime, operation_id)

    async def report(self, operation_id: str) -> bytes:
        operation, _ = await history.find(self.runtime, operation_id)
        page = await read_or_none(operation.storage, operation.path("report.html"))
        if page is None:
            raise problems.made(
                "not-found", 404, f"operation {operation_id} left no report", operation_id=operation_id
            )
        return page

    def config_view(self) -> GCConfigView:
        settings: dict[str, JsonValue] = self.config.model_dump(mode="json")
        return GCConfigView(
            settings={name: _redacted(value) for name, value in settings.items()},
            databases=[_database(source) for source in self.config.effective_sources],
        )


def _database(source: SourceConfig) -> GCDatabase:
    return GCDatabase(
        name=source.name,
        location=source.location,
        tables=[
            f"{table.table}: {', '.join(column.label for column in table.columns)}" for table in source.tables
        ],
        queries=[query.name for query in source.queries],
        cdc=str(source.cdc.backend) if source.cdc is not None else None,
    )


def _redacted(value: JsonValue) -> JsonValue:
    """Secrets are asterisks already; this is for a password that somebody wrote where none belongs."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, list):
        return [_redacted(item) for item in value]
    if isinstance(value, dict):
        return {name: _redacted(item) for name, item in value.items()}
    return value


def _version() -> str:
    try:
        return version("s3gc")
    except PackageNotFoundError:  # run from a source tree that nobody installed
        return "unknown"
