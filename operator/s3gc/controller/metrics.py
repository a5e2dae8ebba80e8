"""Metrics of the operator. Gauges are read from the statuses when they are asked for, so that a restart loses none.

Counters count a Job once, when its result is written into a status; a new process begins them at nought, as
Prometheus expects. The registry is the operator's own: nothing here is global.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from s3gc.controller.conditions import by_type
from s3gc.controller.observe import JobView
from s3gc.controller.resources import GCObject, RestoreObject
from s3gc.controller.statuses import Cycle, GCRestoreStatus
from s3gc.schedule import ScheduleError, Timetable

__all__ = ["Meters"]

_DURATIONS = (1, 5, 15, 60, 300, 900, 1800, 3600, 2 * 3600, 4 * 3600, 8 * 3600, 24 * 3600)
_LABELS = ("namespace", "name")
_ACTIONS = {
    "scanned": "total_scanned",
    "orphaned": "candidates_found",
    "backed_up": "backed_up_count",
    "deleted": "deleted_count",
    "skipped": "skipped_count",
    "healed": "healed_count",
}


class Meters:
    """What is counted, and what is read from the policies as they are now."""

    def __init__(self, policies: Callable[[], Iterable[GCObject]], *, version: str) -> None:
        self.registry = CollectorRegistry()
        self._cycles = Counter(
            "s3gc_cycles", "Cycles that ended.", [*_LABELS, "outcome"], registry=self.registry
        )
        self._duration = Histogram(
            "s3gc_cycle_duration_seconds",
            "How long cycles took.",
            _LABELS,
            buckets=_DURATIONS,
            registry=self.registry,
        )
        self._objects = Counter(
            "s3gc_objects", "Objects by what cycles did.", [*_LABELS, "action"], registry=self.registry
        )
        self._bytes = Counter("s3gc_deleted_bytes", "Bytes freed.", _LABELS, registry=self.registry)
        self._late = Counter(
            "s3gc_late_references",
            "Objects that came to be referenced while they were deleted, and were restored.",
            _LABELS,
            registry=self.registry,
        )
        self._restores = Counter(
            "s3gc_restores", "GCRestores that ended.", ["namespace", "outcome"], registry=self.registry
        )
        self._reconcile = Histogram(
            "s3gc_reconcile_duration_seconds",
            "How long looking at one object took.",
            ["kind", "result"],
            buckets=(0.005, 0.02, 0.1, 0.5, 2, 10, 60),
            registry=self.registry,
        )
        self.registry.register(_Now(policies, version))

    def cycle_ended(self, gc: GCObject, cycle: Cycle, job: JobView | None) -> None:
        """Count a cycle; `job` is None where it is gone."""
        names = (gc.meta.namespace, gc.meta.name)
        self._cycles.labels(*names, str(cycle.outcome)).inc()
        if job is not None:
            self._duration.labels(*names).observe(cycle.duration_seconds)
        for action, field in _ACTIONS.items():
            self._objects.labels(*names, action).inc(getattr(cycle, field))
        self._bytes.labels(*names).inc(cycle.reclaimed_bytes)
        self._late.labels(*names).inc(cycle.late_references)

    def restore_ended(self, restore: RestoreObject, status: GCRestoreStatus) -> None:
        succeeded = by_type(status.conditions)["Succeeded"]
        outcome = "Succeeded" if succeeded.status == "True" else succeeded.reason
        self._restores.labels(restore.meta.namespace, outcome).inc()

    def looked(self, kind: str, result: str, seconds: float) -> None:
        """`result` is ok, error or gone."""
        self._reconcile.labels(kind, result).observe(seconds)

    def forget(self, namespace: str, name: str) -> None:
        """Drop the series of a policy that is gone: a name that comes again is another one."""
        for family in (self._cycles, self._duration, self._objects, self._bytes, self._late):
            for metric in [*family.collect()]:
                for values in {_series(sample.labels) for sample in metric.samples}:
                    if values[:2] == (namespace, name):
                        family.remove(*values)

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)


def _series(found: dict[str, str]) -> tuple[str, ...]:
    """The values of a series' own labels, in their order; a histogram's `le` is none of them."""
    return tuple(found[name] for name in (*_LABELS, "outcome", "action") if name in found)


class _Now(Collector):
    """Gauges, from the policies and their statuses as they are when somebody asks."""

    def __init__(self, policies: Callable[[], Iterable[GCObject]], version: str) -> None:
        self._policies = policies
        self._version = version

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("s3gc_build_info", "Version of the operator.", labels=["version"])
        build.add_metric([self._version], 1)
        yield build
        gauges = {
            name: GaugeMetricFamily(name, what, labels=_LABELS)
            for name, what in (
                ("s3gc_last_success_timestamp_seconds", "When a cycle succeeded last."),
                ("s3gc_schedule_expected_interval_seconds", "Time between the next two scheduled cycles."),
                ("s3gc_next_run_timestamp_seconds", "When the next cycle is due."),
                ("s3gc_reclaimable_bytes", "Size of the last plan."),
                ("s3gc_vault_size_bytes", "Bytes in the vault."),
                ("s3gc_missing_objects", "References whose object is missing, in the last cycle."),
                (
                    "s3gc_capture_lag_bytes",
                    "The most of its log that a database kept for change capture, in the last cycle.",
                ),
                ("s3gc_suspended", "Whether the schedule is suspended."),
                (
                    "s3gc_stalled",
                    "Whether a person has to act: a spec that cannot be used, scopes that overlap.",
                ),
                ("s3gc_pending_approval", "Whether a plan waits for a person."),
            )
        }
        for gc in self._policies():
            for name, value in _values(gc):
                gauges[name].add_metric([gc.meta.namespace, gc.meta.name], value)
        yield from gauges.values()


def _values(gc: GCObject) -> Iterator[tuple[str, float]]:
    status, spec = gc.status, gc.spec
    if status.last_success_time is not None:
        yield "s3gc_last_success_timestamp_seconds", status.last_success_time.timestamp()
    if status.next_schedule_time is not None:
        yield "s3gc_next_run_timestamp_seconds", status.next_schedule_time.timestamp()
        if spec is not None and spec.schedule is not None:
            interval = _interval(spec.schedule, spec.time_zone, status.next_schedule_time)
            if interval is not None:
                yield "s3gc_schedule_expected_interval_seconds", interval
    if status.last_cycle is not None:
        yield "s3gc_reclaimable_bytes", status.last_cycle.reclaimable_bytes
        yield "s3gc_missing_objects", status.last_cycle.missing_objects
        if lags := [one.lag_bytes for one in status.last_cycle.sources if one.lag_bytes is not None]:
            yield "s3gc_capture_lag_bytes", max(lags)
    if status.metrics is not None:
        yield "s3gc_vault_size_bytes", status.metrics.vault_size_bytes
    yield "s3gc_suspended", float(spec is not None and spec.suspend)
    yield "s3gc_stalled", float("Stalled" in by_type(status.conditions))
    yield "s3gc_pending_approval", float(status.pending_approval is not None)


@lru_cache(maxsize=8192)
def _interval(schedule: str, zone: str, upcoming: datetime) -> float | None:
    try:
        return (Timetable(schedule, zone).after(upcoming) - upcoming).total_seconds()
    except (ScheduleError, StopIteration):
        return None
