"""One cycle as a story: lock, recover, preflight, list, read, join, heal, plan, guard, sweep, check, result.

The order is the design's, and the safety argument rests on it: objects are listed *before* references are read, so an
object that is new to the references is too young for the listing, and everything that is swept is verified, journaled
and checked again by `sweep`. An error before the sweep deletes nothing and is raised; from the sweep on there is a
result.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import aiosqlite
import pyarrow as pa

from s3gc.backup.retention import expire
from s3gc.backup.settle import close_abandoned, settle, tally
from s3gc.config import Approval, GCMode, S3GCConfig, Versions
from s3gc.cycle.facts import CycleFacts
from s3gc.cycle.follow import begin_following, end_following
from s3gc.cycle.start import OpenSource, choose_operation, open_sources
from s3gc.exceptions import ConfigurationError, RefusedError, S3GCError
from s3gc.inventory.listing import Inventory, take_inventory
from s3gc.plan import guards
from s3gc.plan.approving import PLAN_DAMAGED, READ_BY, read_by
from s3gc.plan.baselines import load_baselines, update_baselines
from s3gc.plan.join import Joined, find_candidates
from s3gc.plan.maturity import ripe_since
from s3gc.plan.planfile import PlanSummary, intersect, read_plan, summarise, write_plan
from s3gc.plan.undeclared import find_undeclared
from s3gc.references.cdc.following import Following
from s3gc.references.reader import ReadColumn, read_references
from s3gc.report.write import write_report
from s3gc.results import GCResult, Outcome, Progress
from s3gc.state import GCState
from s3gc.store.bucket import VersioningStatus
from s3gc.store.clock import StoreClock
from s3gc.store.probe import Capabilities, probe
from s3gc.sweep.check import check_operation
from s3gc.sweep.delete import Method, choose_method, foreseen
from s3gc.sweep.heal import heal
from s3gc.sweep.purge import check_purge, purge_earlier
from s3gc.sweep.purge_recover import close_purges, open_purges, recover_purges
from s3gc.sweep.recover import (
    close_operation,
    open_operations,
    refuse_lost_records,
    uncover_newer_versions,
)
from s3gc.sweep.sweep import SweepContext, sweep
from s3gc.sweep.verify import Verifier
from s3gc.vault.catalog import index_operation, open_catalog
from s3gc.vault.claim import claim, note_deleting, refuse_older_vault
from s3gc.vault.lock import ScopeLock, hold_scope
from s3gc.vault.operations import Operation
from s3gc.vault.ownership import claimed_scope, own_scope
from s3gc.vault.purges import PurgeJournal
from s3gc.vault.records import PlannedObject
from s3gc.vault.slots import Slot, take_slot
from s3gc.vault.state import ScopeState

__all__ = ["run_gc_cycle"]

log = logging.getLogger(__name__)

#: After a cancellation or the deadline the check may still take this long for its barrier; beyond it the journal
#: stays open.
STOPPED_BARRIER_SECONDS = 20.0
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})


async def run_gc_cycle(
    config: S3GCConfig,
    state: GCState,
    *,
    operation_id: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    slot: Slot | None = None,
) -> GCResult:
    """Run one cycle and return what it found and did.

    With `operation_id` that operation is resumed: an approved plan, or one that was cut off. Without it, an approved
    operation of this scope that is young enough is resumed in execute mode. A cycle of a scheduled time has its `slot`,
    and raises SlotTakenError where another process had it. Raises for errors before the sweep
    (ConfigurationError, LockedError, RefusedError, SourceError, StoreError, VaultError): nothing was deleted then.
    Cancelling ends after the current group, checks what was deleted, and raises CancelledError.
    """
    if config.mode is GCMode.EXECUTE and not config.has_source:
        raise ConfigurationError(
            f"mode is execute, but no source says what references bucket {config.bucket!r}: every object is "
            "unverifiable and nothing can be deleted. Give tables with database_url, or sources"
        )
    vault = state["vault"]
    scope = await claimed_scope(vault.storage, config)
    async with hold_scope(vault, scope, "cycle") as lock:
        if slot is not None:
            await take_slot(vault.storage, scope, slot, lock)
        state["scope"] = await own_scope(
            vault.storage, scope, config, executing=config.mode is GCMode.EXECUTE
        )
        cycle = _Cycle(config, state, progress or (lambda _: None))
        try:
            return await cycle.run(lock, operation_id)
        finally:
            await cycle.close()


class _Cycle:
    def __init__(self, config: S3GCConfig, state: GCState, progress: Callable[[Progress], None]) -> None:
        self.config = config
        self.vault, self.bucket, self.scope = state["vault"], state["bucket"], state["scope"]
        self.catalog_path = state["vault_db_path"]
        self.remembered = ScopeState(self.vault, self.scope)
        self.tell = progress
        self.began = time.monotonic()
        self.clock = StoreClock.local()
        self.started_at = self.clock.now()
        self.executing = config.mode is GCMode.EXECUTE
        self.facts = CycleFacts()
        self.recovered: list[Operation] = []
        self.opened: list[OpenSource] = []
        self.followings: dict[str, Following] = {}
        self.capabilities: Capabilities | None = None
        self.method: Method | None = None
        self.foreseen = ""  # what an execute would meet, where this is none
        self.verifier: Verifier = Verifier([])
        self.stop = asyncio.Event()
        self.has_open_purge = False
        self.refusal: RefusedError | None = None  # raised once what earlier cycles deleted is healed
        if config.work_dir is not None:
            Path(config.work_dir).mkdir(parents=True, exist_ok=True)
        self.work = Path(tempfile.mkdtemp(prefix="s3gc-cycle-", dir=config.work_dir))

    async def close(self) -> None:
        await end_following(self.followings)
        for one in self.opened:
            with contextlib.suppress(S3GCError, OSError):
                await one.source.close()
        await asyncio.to_thread(shutil.rmtree, self.work, ignore_errors=True)

    # --- the story

    async def run(self, lock: ScopeLock, operation_id: str | None) -> GCResult:
        if self.executing:
            last = await claim(self.bucket, self.vault.id, self.scope)
            await refuse_older_vault(self.bucket, self.vault, self.scope, last)
        with contextlib.suppress(S3GCError):  # the step that cannot do without the store says what is wrong
            self.clock = await StoreClock.of(self.bucket)
            self.started_at = self.clock.now()
        started = await choose_operation(
            self.vault, self.scope, self.config, started_at=self.started_at, operation_id=operation_id
        )
        operation, approved, resumed = started.operation, started.approved, started.resumed
        self.tell = _naming(self.tell, operation.id)
        try:
            with self._phase("Preflight"):
                await self._open_sources()
                await self._recover(operation, resumed=resumed)
                await self._preflight_store()
            inventory = await self._list()
            await self._follow(operation)
            columns = await self._read()
            joined = await self._join(inventory, columns)
            await self._heal(columns)
            if self.refusal is not None:
                raise self.refusal
            plan = await self._plan(operation, joined, resumed=resumed)
            await self._guard(operation, joined, plan, approved=approved, resumed=resumed)
            if ended := self._ends_before_sweep(plan, approved=approved):
                return await self._finish(operation, lock, ended)
        except asyncio.CancelledError:
            await self._failed(operation, "cancelled before the sweep; nothing was deleted")
            raise
        except S3GCError as error:
            await self._failed(operation, error.message, refused=isinstance(error, RefusedError))
            raise
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            # The vault's, the store's and the databases' own are told apart already: this is the work folder.
            full = S3GCError(
                f"the work folder {self.work.parent} cannot be used ({error.strerror or error}); nothing was deleted. "
                "Free space there, or set work_dir to a folder on a larger disk",
                details={"folder": str(self.work.parent), "errno": error.errno},
            )
            await self._failed(operation, full.message)
            raise full from error
        return await self._sweep_to_the_end(operation, lock, plan)

    async def _open_sources(self) -> None:
        self.tell(Progress("Preflight"))
        self.opened = await open_sources(self.config, self.bucket, executing=self.executing)
        self.facts.opened = self.opened
        self.verifier = await Verifier.begin([(one.source, one.preflight) for one in self.opened])

    async def _recover(self, current: Operation, *, resumed: bool) -> None:
        """Put on record what killed runs did, and check what they deleted; see `sweep.recover`."""
        versioning = (await self.bucket.versioning()).status if self.executing else "Enabled"
        if self.executing:
            await refuse_lost_records(self.vault, self.scope)
        for operation in await open_operations(self.vault, self.scope):
            is_current = operation.id == current.id
            if not self.executing:
                self.facts.errors.append(
                    f"operation {operation.id} was cut off while deleting; run a cycle in execute mode to check and "
                    "close it"
                )
                continue
            self.tell(Progress("Recovering"))
            if versioning != "Off":
                await uncover_newer_versions(
                    self.bucket, self.vault, self.scope, operation, versioning=versioning
                )
            if is_current:
                await settle(self.bucket, operation, versioning=versioning)
                continue  # its own check at the end covers its whole journal
            result = await close_operation(
                self.bucket,
                self.vault,
                operation,
                self.verifier,
                versioning=versioning,
                create_only="honoured",
                barrier_timeout_seconds=self.config.barrier_timeout_seconds,
            )
            self.recovered.append(operation)
            self.facts.recovered.restored += result.restored
            self.facts.recovered.verified &= result.verified
            self.facts.errors += result.errors
        self.recovered += await close_abandoned(self.vault, self.scope, except_operation=current.id)
        if resumed:
            self.facts.before = await tally(current)
        for operation in await open_purges(self.vault, self.scope):
            if not self.executing:
                self.facts.errors.append(
                    f"operation {operation.id} was cut off while purging; run a cycle in execute mode to close it"
                )
                continue
            self.tell(Progress("Recovering"))
            try:
                await recover_purges(
                    self.bucket,
                    self.vault,
                    operation,
                    concurrency=self.config.concurrency,
                    is_resumed=operation.id == current.id,
                )
                if operation.id == current.id:
                    self.facts.purged = await PurgeJournal(operation).total()
            except S3GCError as error:
                # What is purged is in the vault, and no deletion depends on it; only further purges must wait.
                self.has_open_purge = True
                self.facts.errors.append(f"the purge of operation {operation.id} stays open: {error.message}")

    async def _preflight_store(self) -> None:
        if not self.executing:
            self.foreseen = await foreseen(self.bucket, self.config)
            return
        if doubt := self.clock.doubt:
            self.refusal = RefusedError(f"bucket {self.config.bucket!r}: {doubt}", details={"guard": "clock"})
            return
        self.capabilities = await probe(self.bucket)
        try:
            self.method = choose_method(self.capabilities, self.config)
        except RefusedError as refusal:
            # A bucket that cannot be swept any more (versioning was suspended) may still need what was taken from it.
            records = await self.vault.operations(scope_id=self.scope.id)
            if all(record.journal == "none" for record in records):
                raise
            self.refusal = refusal
            return
        check_purge(self.capabilities, self.config)

    async def _list(self) -> Inventory:
        with self._phase("Listing"):
            inventory = await take_inventory(
                self.bucket,
                prefixes=self.config.effective_prefixes,
                work=self._folder("inventory"),
                concurrency=min(self.config.concurrency, 8),
                progress=lambda count: self.tell(Progress("Listing", listed=count)),
            )
        self.facts.inventory = inventory
        return inventory

    async def _follow(self, operation: Operation) -> None:
        # Before the reading: what is written from now on is in the stream, what was written before is read.
        if self.config.mode is not GCMode.DRY_RUN and not await operation.journal_groups():
            with self._phase("Reading"):
                self.followings = await begin_following(self.opened, self._folder("changes"))
            self.verifier.follow(self.followings)

    async def _read(self) -> list[ReadColumn]:
        # After the listing, and only then: see the module's docstring.
        with self._phase("Reading"):
            return await read_references(
                [one.source for one in self.opened],
                [one.preflight for one in self.opened],
                self._folder("references"),
                progress=lambda count: self.tell(Progress("Reading", references=count)),
            )

    async def _join(self, inventory: Inventory, columns: Sequence[ReadColumn]) -> Joined:
        work = self._folder("join")
        state, holds = work / "state.parquet", work / "holds.parquet"
        has_state = await self.remembered.fetch_maturity(state)
        has_holds = await self.remembered.fetch_holds(holds)
        self.tell(Progress("Joining", listed=inventory.objects))
        with self._phase("Joining"):
            joined = await find_candidates(
                inventory,
                columns,
                config=self.config,
                work=work,
                state=state if has_state else None,
                holds=holds if has_holds else None,
            )
        self.facts.joined = joined
        return joined

    async def _heal(self, columns: Sequence[ReadColumn]) -> None:
        # Before the guards: a wrong plan must not keep away what an earlier one took.
        self.tell(Progress("Healing"))
        with self._phase("Healing"):
            versioning: VersioningStatus = (
                (await self.bucket.versioning()).status if self.executing else "Off"
            )
            self.facts.healed = await heal(
                self.bucket if self.executing else None,
                self.vault,
                self.scope,
                columns,
                versioning=versioning,
                create_only="honoured",
            )
        self.facts.errors += self.facts.healed.errors

    async def _plan(self, operation: Operation, joined: Joined, *, resumed: bool) -> PlanSummary:
        self.tell(Progress("Planning", candidates=joined.counts.candidates))
        work, limit = self._folder("plan"), self.config.memory_limit_mb
        out = work / "plan.parquet"
        with self._phase("Planning"):
            if resumed:
                stored = work / "stored.parquet"
                await operation.fetch_plan(stored)
                digest = await self._believed(operation, stored)
                plan = await asyncio.to_thread(
                    intersect, stored, [joined.candidates], out, work=work, memory_limit_mb=limit
                )
                plan = PlanSummary(plan.path, plan.objects, plan.bytes, digest)
            else:
                ripe = ripe_since(joined.t0, self.config.unreferenced_days)
                plan = await asyncio.to_thread(
                    write_plan, [joined.candidates], out, work=work, memory_limit_mb=limit, ripe_since=ripe
                )
                await operation.write_plan(out)
                extra = {
                    "plan_digest": plan.digest,
                    "planned_at": joined.t0.isoformat(),
                    READ_BY: read_by(self.config),
                }
                await operation.update(extra={**(await operation.record()).extra, **extra})
        self.facts.plan = plan
        return plan

    async def _believed(self, operation: Operation, stored: Path) -> str:
        """The digest of the stored plan. RefusedError unless it is the one that was planned, and the next cycle plans
        anew: an approval waives caps for the plan that a person saw, not for whatever lies in its place."""
        try:
            digest = (await asyncio.to_thread(summarise, stored)).digest
            problem = f"its digest is {digest}"
        except (S3GCError, pa.ArrowException, OSError) as error:
            digest, problem = "", f"it cannot be read: {error}"
        record = await operation.record()
        if digest and digest == record.extra.get("plan_digest"):
            return digest
        await operation.update(extra={**record.extra, PLAN_DAMAGED: True})
        raise RefusedError(
            f"the stored plan of operation {operation.id} is not the one that was planned ({problem}). It was damaged, "
            "or whoever may write to the vault changed it; the next cycle makes a new plan",
            details={"guard": "planDigest", "operation": operation.id},
        )

    async def _guard(
        self, operation: Operation, joined: Joined, plan: PlanSummary, *, approved: bool, resumed: bool
    ) -> None:
        limits = self.config.limits
        baselines = load_baselines(await self.remembered.baselines())
        reports = [guards.no_source_guard(bool(self.opened))] if not self.opened else []
        if self.opened:
            names = [one.source.name for one in self.opened]
            reports += guards.reference_guards(joined.coverage, limits, sources=names)
            reports += guards.coverage_guards(joined.coverage, limits, baselines)
            hits = await find_undeclared(
                [one.source for one in self.opened],
                [one.preflight for one in self.opened],
                plan.path,
                self._folder("undeclared"),
                config=self.config,
            )
            reports += guards.undeclared_guard(hits)
        record = await operation.record()
        planned_at = datetime.fromisoformat(str(record.extra["planned_at"])) if resumed else joined.t0
        if resumed:
            reports.append(guards.plan_age_guard(planned_at, joined.t0, limits))
        facts = guards.PlanFacts(objects=plan.objects, bytes=plan.bytes, scope_objects=joined.counts.scanned)
        reports += guards.cap_guards(facts, limits)
        self.facts.reports = guards.apply_approval(reports, approved=approved)
        self.facts.approval_expires_at = planned_at + timedelta(hours=limits.max_plan_age_hours)
        if self.opened and guards.trust_passed(self.facts.reports):
            await self.remembered.save_maturity(joined.state)
            await self.remembered.save_baselines(update_baselines(joined.coverage, operation_id=operation.id))

    def _ends_before_sweep(self, plan: PlanSummary, *, approved: bool) -> Outcome | None:
        if guards.refusals(self.facts.reports) and self.opened:
            return Outcome.REFUSED
        if self.config.mode is GCMode.DRY_RUN or not self.opened:
            return Outcome.SUCCEEDED
        if self.executing and self.config.approval is Approval.MANUAL and not approved and plan.objects:
            return Outcome.AWAITING_APPROVAL
        return None

    async def _sweep_to_the_end(self, operation: Operation, lock: ScopeLock, plan: PlanSummary) -> GCResult:
        task = asyncio.create_task(self._sweep_and_check(operation, lock, plan), name=f"sweep {operation.id}")
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            # The group in hand is finished and what was deleted is checked: only then may the task end.
            self.stop.set()
            while not task.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({task})
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error from None
            raise

    async def _sweep_and_check(self, operation: Operation, lock: ScopeLock, plan: PlanSummary) -> GCResult:
        deadline = None
        if self.config.deadline_seconds is not None:
            deadline = self.began + self.config.deadline_seconds
        context = SweepContext(
            config=self.config,
            bucket=self.bucket,
            vault=self.vault,
            scope=self.scope,
            operation=operation,
            verifier=self.verifier,
            lock=lock,
            method=self.method,
            capabilities=self.capabilities,
            stop=self.stop,
            deadline=deadline,
            progress=self.tell,
        )
        swept = self.facts.swept
        try:
            if self.executing and plan.objects:
                await note_deleting(self.bucket, self.vault.id, self.scope, operation.id)
            await sweep(context, _batches(plan.path, 1000), plan.objects, swept)
        except Exception as error:  # noqa: BLE001  whatever it was: what is deleted must still be checked
            swept.stopped = "error"
            swept.errors.append(
                error.message
                if isinstance(error, S3GCError)
                else f"unexpected {type(error).__name__}: {error}"
            )
        self.facts.seconds.update(swept.seconds)
        if self.executing:
            await self._check(operation)
            await self._purge(context)
        return await self._finish(operation, lock, Outcome.SUCCEEDED)

    async def _check(self, operation: Operation) -> None:
        self.tell(Progress("Checking", deleted=self.facts.swept.deleted, total=self.facts.swept.deleted))
        timeout = self.config.barrier_timeout_seconds
        # Whoever set the deadline ends the process soon after it, as whoever asked to stop does.
        hurried = self.stop.is_set() or self.facts.swept.stopped == "deadline"
        with self._phase("Checking"):
            # Asked anew: it may have been switched while the sweep ran.
            versioning = (await self.bucket.versioning()).status
            covered = await self._uncover(operation, versioning)
            self.facts.checked = await check_operation(
                self.bucket,
                self.vault,
                operation,
                self.verifier,
                versioning=versioning,
                create_only=self.capabilities.create_only_put if self.capabilities else "unknown",
                barrier_timeout_seconds=min(timeout, STOPPED_BARRIER_SECONDS) if hurried else timeout,
                progress=lambda count: self.tell(
                    Progress("Checking", deleted=count, total=self.facts.swept.deleted)
                ),
            )
            if covered:
                self.facts.checked.verified = False  # the journal stays open: recovery looks again
                self.facts.checked.errors.append(covered)
            if await operation.journal_groups() and self.facts.checked.verified:
                await operation.write_manifest()
                await operation.update(journal="closed")

    async def _purge(self, context: SweepContext) -> None:
        """Free what earlier cycles hid, if the policy says so and nothing about this cycle is in doubt."""
        facts = self.facts
        is_wanted = self.config.versions is Versions.PURGE
        is_versioned = self.capabilities is not None and self.capabilities.versioning.status == "Enabled"
        is_in_doubt = (
            not facts.checked.verified
            or facts.swept.stopped
            or facts.healed.failed
            or self.stop.is_set()
            or self.has_open_purge
        )
        if is_wanted and is_versioned and not is_in_doubt:
            self.tell(Progress("Purging"))
            with self._phase("Purging"):
                try:
                    await purge_earlier(context, referenced=facts.healed.late, result=facts.purge)
                except S3GCError as error:
                    facts.purge.errors.append(f"the purge ended early: {error.message}")
                except Exception as error:  # noqa: BLE001  the sweep's result must not be lost with it
                    facts.purge.errors.append(f"the purge ended early: {type(error).__name__}: {error}")
        if (await context.operation.record()).extra.get("purge"):
            facts.purged = await PurgeJournal(context.operation).total()

    async def _uncover(self, operation: Operation, versioning: VersioningStatus) -> str:
        """Look below the markers that the sweep could not prove, as recovery would. Returns why that failed, or ""."""
        if not self.facts.swept.unproven or versioning == "Off":
            return ""
        try:
            await uncover_newer_versions(
                self.bucket, self.vault, self.scope, operation, versioning=versioning
            )
        except S3GCError as error:
            return f"a delete marker may still hide a newer version, and the next cycle looks again: {error.message}"
        return ""

    # --- the end

    async def _finish(self, operation: Operation, lock: ScopeLock, outcome: Outcome) -> GCResult:
        swept, checked = self.facts.swept, self.facts.checked
        errors = [*self.facts.errors, *swept.errors, *checked.errors, *self.facts.purge.errors]
        if swept.stopped and not swept.errors:
            errors.append(f"the sweep ended early: {swept.stopped}; the next cycle carries on")
        if outcome is Outcome.SUCCEEDED and (errors or checked.late or swept.stopped):
            outcome = Outcome.PARTIALLY_FAILED if self.config.mode is not GCMode.DRY_RUN else outcome
        result = self._result(operation, outcome, errors)
        await operation.write_result(result)
        where = await write_report(
            operation, result, memory_limit_mb=self.config.memory_limit_mb, work=self._folder("report")
        )
        if where is not None:
            result = result.model_copy(update={"report": where})
            await operation.write_result(result)
        await operation.update(outcome=str(outcome), completed_at=result.completed_at)
        if self.executing:
            catalog = await open_catalog(self.catalog_path)
            try:
                await close_purges(operation)
                changed = {operation.id, *(o.id for o in self.recovered), *self.facts.purge.operations}
                for operation_id in sorted(changed):
                    await index_operation(catalog, self.vault.operation(operation_id))
                await self._expire(lock, operation, catalog)
            finally:
                await catalog.close()
        return result

    async def _expire(self, lock: ScopeLock, operation: Operation, catalog: aiosqlite.Connection) -> None:
        # Last of all, and never the reason why a cycle fails: what is old stays a little longer.
        try:
            await expire(
                self.vault,
                self.config,
                now=await self.bucket.server_time(),
                scope_id=self.scope.id,
                lock=lock,
                keep=frozenset({operation.id}),
                vault_db=catalog,
            )
        except S3GCError as error:
            log.warning("old operations were not expired: %s", error.message)

    def _result(self, operation: Operation, outcome: Outcome, errors: list[str]) -> GCResult:
        return self.facts.result(
            operation_id=operation.id,
            scope_id=self.scope.id,
            config=self.config,
            outcome=outcome,
            errors=errors,
            started_at=self.started_at,
            completed_at=self.clock.now(),
            seconds=time.monotonic() - self.began,
            deletion=str(self.method or self.foreseen),
            verifier=self.verifier,
            requests=self.bucket.requests,
        )

    async def _failed(self, operation: Operation, message: str, *, refused: bool = False) -> None:
        outcome = Outcome.REFUSED if refused else Outcome.FAILED
        with contextlib.suppress(S3GCError):  # the error that brought us here is the one that counts
            await operation.write_result(self._result(operation, outcome, [*self.facts.errors, message]))
            await operation.update(outcome=str(outcome), completed_at=self.clock.now())

    # --- small things

    @contextlib.contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.facts.seconds[name] = self.facts.seconds.get(name, 0.0) + time.monotonic() - began

    def _folder(self, name: str) -> Path:
        folder = self.work / name
        folder.mkdir(exist_ok=True)
        return folder


def _naming(tell: Callable[[Progress], None], operation_id: str) -> Callable[[Progress], None]:
    """`tell` with the operation's id in every report of progress, so that a log says whose it is."""
    return lambda progress: tell(replace(progress, operation_id=operation_id))


async def _batches(plan: Path, size: int) -> AsyncIterator[list[PlannedObject]]:
    """Read a plan without blocking the loop."""
    reader = read_plan(plan, size)
    while (batch := await asyncio.to_thread(next, reader, None)) is not None:
        yield batch
