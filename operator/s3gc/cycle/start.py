"""What a cycle begins with: the operation it works on, and every database it must be able to ask.

Both are decisions about trust. An approval counts for exactly the plan it names. A source that is declared and cannot
be read is never left out: what only it references would look like an orphan.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from ulid import ULID

from s3gc.config import GCMode, S3GCConfig, SourceConfig
from s3gc.cycle.standing import stronger
from s3gc.exceptions import ConfigurationError, RefusedError, S3GCError
from s3gc.plan.approving import PLAN_DAMAGED, READ_BY, read_by
from s3gc.references.cdc.types import Capture
from s3gc.references.rules import reference_rules
from s3gc.references.sources import open_source
from s3gc.references.types import ReferenceRules, Source, SourcePreflight
from s3gc.results import Outcome
from s3gc.store.bucket import Bucket
from s3gc.vault.operations import Operation, OperationRecord
from s3gc.vault.vault import Scope, Vault

__all__ = ["OpenSource", "Started", "choose_operation", "open_sources"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Started:
    """The operation to run, whether its stored plan is approved, and whether it is resumed."""

    operation: Operation
    approved: bool = False
    resumed: bool = False


async def choose_operation(
    vault: Vault, scope: Scope, config: S3GCConfig, *, started_at: datetime, operation_id: str | None
) -> Started:
    """Return the operation with `operation_id`, or an approved young one (execute only), or a new one.

    Raises ConfigurationError for an id that the vault does not have, or that has no plan to resume, and RefusedError
    where this policy does not read what the plan was judged by.
    """
    if operation_id is not None:
        operation = vault.operation(operation_id)
        if not await operation.exists():
            raise ConfigurationError(
                f"there is no operation {operation_id!r} in vault {vault.location}; `s3gc operations` lists them"
            )
        if (record := await operation.record()).scope != scope.id:
            # Another policy's plan was judged by other databases than those of this one.
            raise ConfigurationError(
                f"operation {operation_id!r} is of scope {record.scope!r} (bucket {record.bucket!r}), and this policy "
                f"is scope {scope.id!r}; resume it with its own policy"
            )
        if not await operation.plan_exists():
            raise ConfigurationError(f"operation {operation_id!r} has no plan to resume; start a new cycle")
        if not _is_read_alike(record, config):
            raise RefusedError(
                f"the plan of operation {operation_id} was judged by other tables, formats, addresses or databases "
                "than this policy reads now, so neither it nor its approval counts any more. Run a cycle without it "
                "and look at the new plan",
                details={"guard": "approval", "operation": operation_id},
            )
        return Started(operation, approved=await _is_approved(operation), resumed=True)
    if config.mode is GCMode.EXECUTE and (
        approved := await _youngest_approved(vault, scope, config, started_at)
    ):
        return Started(approved, approved=True, resumed=True)
    operation = vault.operation(await _next_id(vault))
    await operation.create(
        OperationRecord(
            id=operation.id, scope=scope.id, bucket=config.bucket, mode=config.mode, started_at=started_at
        )
    )
    return Started(operation)


async def _next_id(vault: Vault) -> str:
    """An id after every other one, also where this machine's clock is behind the one that made the last: healing takes
    the newest operation's copy of a key for what was there last, and an id is what says which is newest."""
    fresh = ULID()
    newest = next(iter(await vault.operation_ids()), "")
    if str(fresh) <= newest:
        milliseconds = int.from_bytes(bytes(ULID.from_str(newest))[:6], "big") + 1
        fresh = ULID(milliseconds.to_bytes(6, "big") + bytes(fresh)[6:])
    return str(fresh)


async def _youngest_approved(
    vault: Vault, scope: Scope, config: S3GCConfig, now: datetime
) -> Operation | None:
    oldest = now - timedelta(hours=config.limits.max_plan_age_hours)
    for record in await vault.operations(scope_id=scope.id):  # newest first
        if record.started_at < oldest:
            return None
        if record.outcome in (Outcome.AWAITING_APPROVAL, Outcome.REFUSED):
            operation = vault.operation(record.id)
            if not await operation.plan_exists() or not await _is_approved(operation):
                continue
            if record.extra.get(PLAN_DAMAGED) or not _is_read_alike(record, config):
                log.warning(
                    "the approved plan of %s is not used: %s; a new one is made",
                    record.id,
                    "its file in the vault was changed"
                    if record.extra.get(PLAN_DAMAGED)
                    else "the policy reads otherwise than when it was made",
                )
                continue
            return operation
    return None


def _is_read_alike(record: OperationRecord, config: S3GCConfig) -> bool:
    return record.extra.get(READ_BY) in (None, read_by(config))


async def _is_approved(operation: Operation) -> bool:
    approval = await operation.approval()
    return approval is not None and approval.digest == (await operation.record()).extra.get("plan_digest")


@dataclass(frozen=True, slots=True)
class OpenSource:
    """A database that can be read. `capture` is checked and not begun; None where the policy asks for none.

    `next_step` says what would make verification stronger there, "" where nothing would.
    """

    source: Source
    preflight: SourcePreflight
    capture: Capture | None = None
    next_step: str = ""


async def open_sources(config: S3GCConfig, bucket: Bucket, *, executing: bool) -> list[OpenSource]:
    """Open and preflight every declared source; none at all where none can be read (everything is unverifiable then).

    All or nothing: with one source readable and another not, what only the other one references would be taken for
    orphans, so that is a ConfigurationError in every mode. Raises every problem at once, as the class of the worst.
    """
    declared = config.effective_sources
    readable = [source for source in declared if source.is_readable]
    if not readable:
        return []
    problems: list[S3GCError] = [_unreadable(source) for source in declared if not source.is_readable]
    opened: list[OpenSource] = []
    for source_config in readable:
        try:
            rules = reference_rules(config, bucket.endpoint, derivatives=source_config.derivatives)
            opened.append(await _open(source_config, rules, executing))
        except S3GCError as error:
            problems.append(error)
    if not problems:
        return opened
    for one in opened:
        with contextlib.suppress(S3GCError, OSError):
            await one.source.close()
    if len(problems) == 1:
        raise problems[0]
    worst = next((p for p in problems if not isinstance(p, ConfigurationError)), problems[0])
    raise type(worst)("\n".join(problem.message for problem in problems))


def _unreadable(source: SourceConfig) -> ConfigurationError:
    if source.url is None:
        what = "has no database URL; set its url (S3GC_SOURCE_<n>_URL for a policy file)"
    else:
        what = "names neither tables nor queries; declare what it references, or remove it"
    return ConfigurationError(
        f"source {source.name!r} {what}. Other sources can be read, but what only this one references would look "
        "like orphans, so nothing is planned"
    )


async def _open(config: SourceConfig, rules: ReferenceRules, executing: bool) -> OpenSource:
    source = await open_source(config, rules)
    try:
        preflight = await source.preflight(execute=executing)
        if executing and not preflight.barrier:
            raise ConfigurationError(
                f"source {config.name!r} ({config.location}): s3gc cannot see when writers are done, so a deletion "
                f"could not be checked. {preflight.barrier_missing}"
            )
        # Configured and not to be had is an error in every mode: who asked for it must not believe that it is there.
        capture = await source.capture() if config.cdc is not None else None
        next_step = await stronger(config, source, preflight, capture)
    except BaseException:
        with contextlib.suppress(S3GCError, OSError):
            await source.close()
        raise
    return OpenSource(source, preflight, capture, next_step)
