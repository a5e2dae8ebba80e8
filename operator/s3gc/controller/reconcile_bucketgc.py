"""One look at a BucketGC: what ended is taken in, what runs is looked at, what is due is started, what is true is said.

Level-triggered: nothing depends on which event led here, or whether one did. Every step can be repeated; a Job's
name is its decision's, the result of a Job is taken in with the status that says so, and only what the status has
is deleted.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from s3gc.controller.acting import Actor, JobRefused
from s3gc.controller.conditions import Trouble
from s3gc.controller.decide import (
    Hold,
    Start,
    in_the_way,
    remembered,
    to_account,
    to_prune,
    wanted_cycle,
)
from s3gc.controller.events import Event, cycle_events
from s3gc.controller.jobs import MAX_POLICY_BYTES, JobSettings, cycle_job, cycle_job_name, policy_json
from s3gc.controller.metrics import Meters
from s3gc.controller.observe import JobState, JobView, Trigger
from s3gc.controller.readings import CycleReading, gone_cycle, read_cycle, read_log
from s3gc.controller.resources import GCObject
from s3gc.controller.restores import has_ended
from s3gc.controller.status import active_of, said_of, take_in, with_conditions, without_old_approval
from s3gc.controller.statuses import BucketGCStatus, Cycle, PendingApproval, cut
from s3gc.controller.vaults import describe_overlap, vault_id
from s3gc.schedule import ScheduleError, Timetable, Verdict, judge

__all__ = ["BucketGCReconciler"]

log = logging.getLogger(__name__)

#: While a cycle waits for pods that end, which no watch of ours shows.
_HELD_SECONDS = 15
#: While something is in the way that may pass by itself.
_TROUBLE_SECONDS = 60
#: So long a pod may take to find its place before anybody is told.
_SETTLING_SECONDS = 15
#: Why there is no pod after so long is a question for a person: a quota, a policy of the namespace.
_NO_POD_SECONDS = 60


@dataclass(slots=True)
class _Look:
    """What one look has found so far."""

    now: datetime
    status: BucketGCStatus
    ended: list[tuple[JobView | None, CycleReading]] = field(default_factory=list)
    trouble: Trouble | None = None
    hold: Hold | None = None
    pod_trouble: str | None = None
    too_late: datetime | None = None
    again_at: datetime | None = None

    def again(self, moment: datetime | None) -> None:
        """Look again at `moment` at the latest."""
        if moment is not None and (self.again_at is None or moment < self.again_at):
            self.again_at = moment


class BucketGCReconciler:
    def __init__(
        self, actor: Actor, settings: JobSettings, meters: Meters, *, progress_seconds: float = 30
    ) -> None:
        self._actor = actor
        self._cache = actor.cache
        self._settings = settings
        self._meters = meters
        self._progress_seconds = progress_seconds
        self._polled: dict[str, tuple[datetime, JobState]] = {}

    async def look(self, gc: GCObject) -> datetime | None:
        """Reconcile `gc` and return when to look again, None for whenever something changes."""
        look = _Look(now=self._actor.now(), status=without_old_approval(gc.status, self._actor.now()))
        await self._take_in_what_ended(gc, look)
        await self._look_at_what_runs(gc, look)
        look.trouble = self._trouble(gc)
        await self._start_what_is_due(gc, look)
        await self._say(gc, look)
        await self._prune(gc, look.status)
        if look.status.pending_approval is not None:
            look.again(look.status.pending_approval.expires_at)
        return look.again_at

    # --- what ended

    async def _take_in_what_ended(self, gc: GCObject, look: _Look) -> None:
        jobs = self._cache.jobs_of(gc.meta.uid)
        for job in to_account(jobs, look.status):
            pods, _ = await self._actor.pods(job)
            reading = read_cycle(job, pods, await self._actor.log_of(job, pods))
            look.status = take_in(look.status, reading, job.created)
            look.ended.append((job, reading))
            self._polled.pop(job.uid, None)
        active = look.status.active
        if active is None or any(job.uid == active.job_uid for job in jobs):
            return
        if not await self._actor.is_gone(gc.meta.namespace, active.job_name, active.job_uid):
            look.again(look.now)  # it is there, the watch was behind; the cache has it now
            return
        reading = CycleReading(
            gone_cycle(active.job_name, active.job_uid, active.start_time, look.now.replace(microsecond=0))
        )
        look.status = take_in(look.status, reading, active.start_time)
        look.ended.append((None, reading))

    # --- what runs

    async def _look_at_what_runs(self, gc: GCObject, look: _Look) -> None:
        running = [job for job in self._cache.jobs_of(gc.meta.uid) if not job.is_finished]
        if not running:
            return
        job = running[0]
        polled, state = self._polled.get(job.uid, (None, None))
        due = None if polled is None else polled + timedelta(seconds=self._progress_seconds)
        if due is not None and due > look.now and state is job.state:
            before = look.status.active
            message = before.message if before is not None and before.job_uid == job.uid else None
            look.pod_trouble = message if job.state is JobState.PENDING else None
            look.status = look.status.model_copy(
                update={"active": active_of(before, job, None, look.pod_trouble)}
            )
            look.again(due)
            return
        pods, trouble = await self._actor.pods(job)
        if not pods and look.now - job.created > timedelta(seconds=_NO_POD_SECONDS):
            trouble = f"it has no pod; `kubectl describe job {job.name}` says why"
        if look.now - job.created < timedelta(seconds=min(_SETTLING_SECONDS, self._progress_seconds)):
            trouble = None  # a node that comes, an image that is pulled: it may pass by itself
        text = await self._actor.log_of(job, pods) if job.state is JobState.RUNNING else ""
        look.pod_trouble = trouble
        look.status = look.status.model_copy(
            update={"active": active_of(look.status.active, job, read_log(text), trouble)}
        )
        self._polled[job.uid] = (look.now, job.state)
        look.again(look.now + timedelta(seconds=self._progress_seconds))

    # --- what is due

    def _trouble(self, gc: GCObject) -> Trouble | None:
        if gc.spec is None:
            return Trouble("InvalidSpec", cut("; ".join(gc.problems)))
        overlap = describe_overlap(gc, self._cache.same_bucket(gc))
        if overlap is not None:
            return Trouble("ScopeOverlap", cut(overlap))
        size = len(policy_json(gc).encode())
        if size > MAX_POLICY_BYTES:
            return Trouble(
                "PolicyTooLarge",
                f"the policy has {size:,} bytes, and a process takes no more than {MAX_POLICY_BYTES:,}: "
                "divide it, or use fewer and shorter prefixes, queries and lists",
            )
        return None

    async def _start_what_is_due(self, gc: GCObject, look: _Look) -> None:
        verdict = self._judge(gc, look)
        if verdict is not None:
            look.status = look.status.model_copy(update={"next_schedule_time": verdict.promised})
            if verdict.due is None:
                look.again(verdict.promised)
        if look.trouble is not None or gc.spec is None:
            return
        start = self._wanted(gc, verdict, look)
        if start is None:
            return
        vault = vault_id(gc.spec, gc.meta.namespace)
        async with self._actor.vault_lock(vault):
            look.hold = in_the_way(
                start,
                running=[job for job in self._cache.jobs_of(gc.meta.uid) if job.holds_its_vault],
                vault_taken_by=self._actor.vault_taken_by(vault, besides=gc.meta.uid),
                restore_waits=self._waiting_restore(vault),
            )
            if look.hold is None and (pods := await self._actor.pods_at_work(vault)) is not None:
                look.hold = Hold(start.trigger, "WaitingForVault", f"the vault is used by {pods}")
            if look.hold is None:
                await self._start(gc, start, verdict, look)
            else:
                look.again(look.now + timedelta(seconds=_HELD_SECONDS))

    def _wanted(self, gc: GCObject, verdict: Verdict | None, look: _Look) -> Start | None:
        """The cycle to start.

        One whose Job is there already was started in a life before this one, which ended before it could say so.
        """
        there = {job.name for job in self._cache.jobs_of(gc.meta.uid)}
        while (start := wanted_cycle(gc, look.status, now=look.now, verdict=verdict)) is not None:
            name = cycle_job_name(gc.meta.name, start.trigger, at=start.scheduled_at, token=start.token)
            if name not in there:
                return start
            self._note(gc, start, verdict, look)
            if start.trigger is Trigger.SCHEDULE:
                return None
        return None

    def _judge(self, gc: GCObject, look: _Look) -> Verdict | None:
        spec = gc.spec
        if spec is None or spec.schedule is None:
            look.status = look.status.model_copy(update={"next_schedule_time": None})
            return None
        try:
            timetable = Timetable(spec.schedule, spec.time_zone)
        except ScheduleError as error:
            look.trouble = look.trouble or Trouble("InvalidSpec", f"spec.schedule: {error}")
            return None
        verdict = judge(
            look.now,
            timetable,
            promised=look.status.next_schedule_time,
            created=gc.meta.created if look.status.observed_generation is None else None,
            deadline_seconds=spec.starting_deadline_seconds,
            suspended=spec.suspend or look.trouble is not None,
        )
        look.too_late = verdict.too_late
        return verdict

    def _waiting_restore(self, vault: str) -> str | None:
        """A GCRestore of this vault that has not ended, nor waits for a person."""
        for restore in self._cache.restores_of(self._cache.policies_of_vault(vault)):
            stalled = any(each.type == "Stalled" for each in restore.status.conditions)
            if not has_ended(restore.status) and not restore.meta.is_deleting and not stalled:
                return f"{restore.meta.namespace}/{restore.meta.name}"
        return None

    async def _start(self, gc: GCObject, start: Start, verdict: Verdict | None, look: _Look) -> None:
        body = cycle_job(
            gc,
            self._settings,
            now=look.now,
            trigger=start.trigger,
            scheduled_at=start.scheduled_at,
            token=start.token,
        )
        try:
            job = await self._actor.ensure_job(body)
        except JobRefused as refused:
            look.trouble = refused.trouble
            look.again(look.now + timedelta(seconds=_TROUBLE_SECONDS))
            return
        self._note(gc, start, verdict, look)
        if job.is_finished:
            look.again(look.now)  # it was there already, from a moment that we do not remember
        else:
            active = active_of(look.status.active, job, None, None)
            look.status = look.status.model_copy(update={"active": active})
            look.again(look.now + timedelta(seconds=self._progress_seconds))

    def _note(self, gc: GCObject, start: Start, verdict: Verdict | None, look: _Look) -> None:
        """The cycle was started: what asked for it is done."""
        changes: dict[str, object] = {}
        if start.trigger is Trigger.REQUEST:
            changes["last_handled_run_request"] = remembered(start.token)
        elif start.trigger is Trigger.APPROVAL:
            changes["last_handled_approval"] = remembered(gc.approve or "")
        elif verdict is not None:
            changes["last_schedule_time"] = start.scheduled_at
            changes["next_schedule_time"] = verdict.upcoming
            look.again(verdict.upcoming)
        look.status = look.status.model_copy(update=changes)

    # --- what is said

    async def _say(self, gc: GCObject, look: _Look) -> None:
        said = said_of(gc, look.status, trouble=look.trouble, hold=look.hold, pod_trouble=look.pod_trouble)
        look.status = with_conditions(look.status, said, generation=gc.meta.generation, now=look.now)
        if look.status != gc.status:
            await self._actor.save(gc, look.status)
        for job, reading in look.ended:
            self._meters.cycle_ended(gc, reading.cycle, job)
        await self._actor.tell(gc, self._events(gc, look))

    def _events(self, gc: GCObject, look: _Look) -> Sequence[Event]:
        ended: list[tuple[Cycle, PendingApproval | None]] = [
            (reading.cycle, reading.pending) for _, reading in look.ended
        ]
        return [*cycle_events(gc.status, look.status, ended=ended, too_late=look.too_late)]

    # --- what is old

    async def _prune(self, gc: GCObject, status: BucketGCStatus) -> None:
        """Delete finished Jobs beyond the limits. What is not in the status, which was written just now, is kept."""
        if gc.spec is None or gc.meta.is_deleting:
            return
        jobs = self._cache.jobs_of(gc.meta.uid)
        surplus = to_prune(
            jobs,
            successful=gc.spec.successful_jobs_history_limit,
            failed=gc.spec.failed_jobs_history_limit,
            keep=[job.uid for job in to_account(jobs, status)],
        )
        for job in surplus:
            await self._actor.kube.delete_job(job)
