"""What this process runs in the background: at most one cycle and one restore, each ended in good order.

A task belongs to the process and not to the request that started it: whoever asked may go away. The scope's lock
decides between processes; here it is only told what another one does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

import aiosqlite

from s3gc.backup.restore import restore_operation
from s3gc.config import GCMode
from s3gc.cycle import run_gc_cycle
from s3gc.exceptions import LockedError, S3GCError, SlotTakenError
from s3gc.integrations.admin import problems
from s3gc.integrations.admin.models import (
    GCEnded,
    GCProgress,
    GCRestoreRequest,
    GCRunning,
    GCWorkKind,
)
from s3gc.integrations.admin.runtime import Runtime
from s3gc.results import GCResult, Progress, RestoreResult
from s3gc.vault.doing import Doing, read_doing, write_doing
from s3gc.vault.lock import look_at_lock
from s3gc.vault.slots import Slot

__all__ = ["Runs", "Work"]

log = logging.getLogger(__name__)

Trigger = Literal["request", "schedule"]

#: How often other processes are told how far a cycle is; an S3 vault takes a request for it.
_TELL_SECONDS, _TELL_S3_SECONDS = 1.0, 5.0
_STARTING = Progress("Starting")


@dataclass(slots=True)
class Work:
    """A cycle or a restore that runs here. `named` is set once its operation is known, or it has ended."""

    kind: GCWorkKind
    mode: GCMode | None
    trigger: Trigger
    operation_id: str | None = None
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    progress: Progress = _STARTING
    named: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    result: GCResult | None = None
    restore: RestoreResult | None = None
    error: BaseException | None = None

    def note(self, progress: Progress) -> None:
        self.progress = progress
        if progress.operation_id and not self.named.is_set():
            self.operation_id = progress.operation_id
            self.named.set()

    @property
    def was_kept_out(self) -> bool:
        """Whether another process had the scope, or the slot, before it could begin."""
        return (
            isinstance(self.error, LockedError)
            and self.kind is GCWorkKind.CYCLE
            and self.operation_id is None
        )

    @property
    def running(self) -> GCRunning:
        return GCRunning(
            kind=self.kind,
            operation_id=self.operation_id,
            mode=self.mode.value if self.mode is not None else None,
            trigger=self.trigger,
            started_at=self.started_at,
            progress=shown(self.progress),
        )

    def ended(self) -> GCEnded:
        return GCEnded(
            kind=self.kind,
            operation_id=self.operation_id,
            started_at=self.started_at,
            ended_at=datetime.now(UTC),
            outcome=self.result.outcome if self.result is not None else None,
            restore=self.restore,
            problem=problems.problem_of(self.error, self.operation_id) if self.error is not None else None,
        )


def shown(progress: Progress) -> GCProgress:
    return GCProgress(
        phase=progress.phase,
        listed=progress.listed,
        references=progress.references,
        candidates=progress.candidates,
        backed_up=progress.backed_up,
        deleted=progress.deleted,
        restored=progress.restored,
        total=progress.total,
    )


class Runs:
    """`ended` counts what ended here, `last` is the last of it."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.cycle: Work | None = None
        self.restore: Work | None = None
        self.last: GCEnded | None = None
        self.ended = 0

    # --- starting

    async def start_cycle(
        self,
        *,
        mode: GCMode | None = None,
        operation_id: str | None = None,
        trigger: Trigger = "request",
        slot: Slot | None = None,
    ) -> Work:
        """Start a cycle and return it once its operation is known. Raises the problem that keeps it from starting: what
        runs already (409), here or in another process, or what a cycle needs and has not got."""
        if self._runtime.is_stopping:
            raise problems.stopping()
        if (running := self.cycle) is not None:
            await running.named.wait()
            raise problems.busy("a cycle is running; wait until it has ended", running.operation_id)
        work = Work(GCWorkKind.CYCLE, mode or self._runtime.config.mode, trigger)
        self.cycle = work
        self._start(work, self._run_cycle(work, operation_id, slot))
        await work.named.wait()
        if work.operation_id is None and work.error is not None:
            if isinstance(work.error, LockedError) and not isinstance(work.error, SlotTakenError):
                raise await self._held_elsewhere(work.error)
            raise work.error
        return work

    async def start_restore(self, operation_id: str, wanted: GCRestoreRequest) -> Work:
        """Start a restore in the background. Raises ProblemError (409) while another one runs here."""
        if self._runtime.is_stopping:
            raise problems.stopping()
        if self.restore is not None:
            raise problems.busy("a restore is running; wait until it has ended", self.restore.operation_id)
        work = Work(GCWorkKind.RESTORE, None, "request", operation_id)
        work.progress = Progress("Restoring")
        work.named.set()
        self.restore = work
        self._start(work, self._run_restore(work, operation_id, wanted))
        return work

    async def wait(self, work: Work) -> None:
        """Wait for the end; raises what ended it, and the problem `stopping` when the application does."""
        if work.task is not None:
            await asyncio.wait({work.task})
        if work.error is not None:
            raise work.error

    def _start(self, work: Work, body: Coroutine[Any, Any, None]) -> None:
        work.task = asyncio.create_task(self._supervised(work, body), name=f"s3gc {work.kind}")

    async def _supervised(self, work: Work, body: Coroutine[Any, Any, None]) -> None:
        telling = asyncio.create_task(self._tell_others(work), name="s3gc progress")
        try:
            await body
        except asyncio.CancelledError:
            # Only `stop` cancels: it has ended in good order, and whoever waits for it hears why.
            work.error = problems.stopping()
            log.warning("the %s of operation %s ended with the application", work.kind, work.operation_id)
        except Exception as error:
            work.error = error
            if work.was_kept_out:
                log.info("no %s began: %s", work.kind, error)
            elif isinstance(error, S3GCError | problems.ProblemError):
                log.warning("the %s ended: %s", work.kind, error)
            else:
                log.exception("the %s ended", work.kind)
        finally:
            telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await telling
            self._ended(work)

    def _ended(self, work: Work) -> None:
        if work is self.cycle:
            self.cycle = None
        if work is self.restore:
            self.restore = None
        if not work.was_kept_out:  # else nothing began here
            self.last = work.ended()
            self.ended += 1
        self._runtime.something_ended()
        work.named.set()

    # --- running

    async def _run_cycle(self, work: Work, operation_id: str | None, slot: Slot | None) -> None:
        state = await self._runtime.state()
        config = self._runtime.config
        if work.mode is not None and work.mode is not config.mode:
            config = config.with_updates(mode=work.mode)
        try:
            async with asyncio.timeout(config.deadline_seconds) as deadline:
                work.result = await run_gc_cycle(
                    config, state, operation_id=operation_id, progress=work.note, slot=slot
                )
        except TimeoutError:
            if not deadline.expired():
                raise
            # It ended in good order, and its result is in the vault like any other.
            if work.operation_id is not None:
                work.result = await state["vault"].operation(work.operation_id).result()
            if work.result is None:
                raise S3GCError("the deadline passed before the cycle had a result") from None

    async def _run_restore(self, work: Work, operation_id: str, wanted: GCRestoreRequest) -> None:
        work.restore = await self.restored(operation_id, wanted, work)

    async def restored(
        self, operation_id: str, wanted: GCRestoreRequest, work: Work | None = None
    ) -> RestoreResult:
        """Restore, or say what would be, by `wanted`; `work` is told the progress."""
        state = await self._runtime.state()
        async with aiosqlite.connect(state["vault_db_path"], timeout=30) as vault_db:
            return await restore_operation(
                self._runtime.config,
                state,
                vault_db,
                operation_id,
                dry_run=wanted.dry_run is not False,
                skip_existing=wanted.skip_existing is not False,
                keys=wanted.keys,
                prefixes=wanted.prefixes,
                progress=work.note if work is not None else None,
            )

    # --- other processes

    async def _tell_others(self, work: Work) -> None:
        """Write how far it is for the other workers, whenever it changed. Nothing depends on it."""
        state = await self._quietly_state()
        if state is None:
            return
        every = _TELL_S3_SECONDS if state["vault_path"].startswith("s3://") else _TELL_SECONDS
        told: Progress | None = None
        while True:
            # Before the first progress the scope is not held, and what another process says there must stay.
            if work.progress is not told and work.progress.phase != _STARTING.phase:
                told = work.progress
                mode = work.mode.value if work.mode is not None else ""
                progress = replace(told, operation_id=work.operation_id or "")
                doing = Doing(str(work.kind), mode, work.trigger, work.started_at, progress)
                try:
                    await write_doing(state["vault"].storage, state["scope"], doing)
                except (S3GCError, OSError) as error:
                    log.debug("the other workers could not be told how far the %s is: %s", work.kind, error)
            await asyncio.sleep(every if told is not None else 0.1)

    async def _quietly_state(self) -> Any:
        try:
            return await self._runtime.state()
        except Exception:  # noqa: BLE001  the work itself fails by it, and says so
            return None

    async def running(self) -> tuple[GCRunning | None, str | None]:
        """What runs here, or in another process as far as it says; and who else holds the scope, for people."""
        here = self.cycle or self.restore
        if here is not None:
            return here.running, None
        state = await self._runtime.state()
        storage, scope = state["vault"].storage, state["scope"]
        lock = await look_at_lock(storage, scope)
        if lock is None:
            return None, None
        doing = await read_doing(storage, scope, lock)
        if doing is None:
            return None, lock.shown
        mode = GCMode(doing.mode).value if doing.mode in set(GCMode) else None
        return GCRunning(
            kind=GCWorkKind.RESTORE if doing.kind == "restore" else GCWorkKind.CYCLE,
            operation_id=doing.progress.operation_id or None,
            mode=mode,
            trigger="schedule" if doing.trigger == "schedule" else "request",
            started_at=doing.started_at,
            progress=shown(doing.progress),
            here=False,
        ), lock.shown

    async def _held_elsewhere(self, error: LockedError) -> problems.ProblemError:
        """The 409 for what another process does, with its operation where that can be told."""
        try:
            running, _ = await self.running()
            operation_id = running.operation_id if running is not None else await self._unfinished()
        except (S3GCError, OSError):
            operation_id = None
        return problems.busy(error.message, operation_id)

    async def _unfinished(self) -> str | None:
        """The newest operation of this scope that has no end: what the command line or an operator runs."""
        state = await self._runtime.state()
        for record in await state["vault"].operations(scope_id=state["scope"].id):
            if record.outcome is None and not record.problem:
                return record.id
        return None

    # --- ending

    async def stop(self) -> None:
        """End what runs: a cycle after its group and with its bounded check, a restore where it is."""
        tasks = {work.task for work in (self.cycle, self.restore) if work is not None and work.task}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
