"""What commands need of the engine: a cycle with its progress, an open vault, an operation by the name
people use."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from s3gc.exceptions import (
    ConfigurationError,
    RefusedError,
    S3GCError,
    SourceError,
    StoreError,
    VaultError,
)

if TYPE_CHECKING:
    from s3gc.cli.termination import LastWords
    from s3gc.config import S3GCConfig
    from s3gc.results import GCMetrics, GCResult, Outcome, Progress
    from s3gc.state import GCState
    from s3gc.vault.operations import Operation, OperationRecord
    from s3gc.vault.vault import Vault

#: For the numbers of the vault, which are read from every operation's result.
_METRICS_SECONDS = 60.0

__all__ = ["exit_code_of", "find_operation", "find_operation_id", "open_vault", "run_cycle"]


def exit_code_of(outcome: Outcome) -> int:
    """0 for success and for a plan that waits for a person, 3 for a guard's no, 4 for a part that failed."""
    return {"Succeeded": 0, "AwaitingApproval": 0, "Refused": 3, "PartiallyFailed": 4}.get(outcome, 1)


async def run_cycle(
    config: S3GCConfig,
    *,
    operation_id: str | None = None,
    approve: str | None = None,
    quiet: bool = False,
    words: LastWords | None = None,
) -> GCResult:
    """Run one cycle and return its result, showing progress unless `quiet`.

    `approve` is the digest of a plan to approve and to resume. `words` are told the result, also that of a cycle that
    was stopped, and the vault's numbers. At `deadline_seconds` the cycle ends in good order, wherever it is.
    """
    from s3gc.cli.progress import reporting
    from s3gc.cycle import run_gc_cycle
    from s3gc.state import initialize_gc_state, shutdown_gc_state

    began = datetime.now(UTC)
    running = ""

    def note(progress: Progress) -> None:
        nonlocal running
        running = progress.operation_id or running
        show(progress)

    state = await initialize_gc_state(config)
    try:
        if operation_id is not None:
            operation_id = await find_operation_id(state["vault"], operation_id, of=config)
        if approve is not None:
            operation_id = await approve_plan(state, approve)
        try:
            with reporting(quiet=quiet) as show:
                async with asyncio.timeout(config.deadline_seconds) as deadline:
                    result = await run_gc_cycle(config, state, operation_id=operation_id, progress=note)
        except (StoreError, SourceError, VaultError) as error:
            if not await _deleted_nothing(state, running):
                raise
            # Whoever is called at night wants to know that first.
            end = "" if error.message.endswith((".", "?")) else "."
            raise type(error)(
                f"{error.message}{end} This run deleted nothing", details=error.details
            ) from error
        except TimeoutError:
            if not deadline.expired():
                raise
            left = await _result_of(state, running, began)
            if left is None:
                raise S3GCError(
                    f"the deadline of {config.deadline_seconds:.0f} s passed before the cycle had begun"
                ) from None
            result = left
        except asyncio.CancelledError:
            # It has ended in good order and left its result in the vault; the task may still do this much.
            if words is not None and (stopped := await _result_of(state, running, began)) is not None:
                words.cycle(stopped)
            raise
        if words is not None and words.are_wanted:
            words.cycle(result, await _metrics(config, state))
        return result
    finally:
        await shutdown_gc_state(state)


async def approve_plan(state: GCState, digest: str) -> str:
    """Approve the plan with this digest, as somebody did who may write annotations; return its operation.

    Raises RefusedError when no operation of this policy has that plan.
    """
    vault, scope = state["vault"], state["scope"]
    for record in await vault.operations(scope_id=scope.id):  # newest first
        if record.extra.get("plan_digest") == digest:
            operation = vault.operation(record.id)
            await operation.approve(digest, f"s3gc.dev/approve of {scope.name}")
            return operation.id
    raise RefusedError(
        f"no operation of policy {scope.name} has a plan with the digest {digest}; `s3gc operations` lists them",
        details={"guard": "approval", "plan_digest": digest},
    )


async def _deleted_nothing(state: GCState, operation_id: str) -> bool:
    """Whether the vault says so; False in any doubt."""
    if not operation_id:
        return False
    try:
        return (await state["vault"].operation(operation_id).record()).journal == "none"
    except (S3GCError, OSError):
        return False


async def _result_of(state: GCState, operation_id: str, began: datetime) -> GCResult | None:
    """What the cycle that was ended here left in the vault; None where it left nothing."""
    if not operation_id:
        return None
    try:
        result = await state["vault"].operation(operation_id).result()
    except S3GCError:
        return None
    is_ours = result is not None and result.completed_at is not None and result.completed_at >= began
    return result if is_ours else None


async def _metrics(config: S3GCConfig, state: GCState) -> GCMetrics | None:
    """The vault's numbers; None where they take too long, as they are no reason to fail."""
    from s3gc.state import get_metrics

    try:
        async with asyncio.timeout(_METRICS_SECONDS):
            return await get_metrics(config, state)
    except (S3GCError, TimeoutError):
        return None


@asynccontextmanager
async def open_vault(config: S3GCConfig, *, read_only: bool = True) -> AsyncIterator[Vault]:
    """Open the vault; a missing one is an error, it is never made by asking about it."""
    from s3gc.vault.vault import Vault

    vault = await Vault.open(config, read_only=read_only, create=False)
    try:
        yield vault
    finally:
        await vault.close()


async def find_operation(
    vault: Vault, wanted: str | None, *, of: S3GCConfig
) -> tuple[Operation, OperationRecord]:
    """The operation that a person means, and its record; see `find_operation_id`. Raises VaultError for a record that
    cannot be read."""
    operation = vault.operation(await find_operation_id(vault, wanted, of=of))
    try:
        return operation, await operation.record()
    except FileNotFoundError:
        raise VaultError(
            f"operation {operation.id} has lost its operation.json in the vault {vault.location}. What it deleted can "
            f"be restored all the same: s3gc restore {operation.id}; `s3gc vault verify` says what else is damaged"
        ) from None


async def find_operation_id(
    vault: Vault, wanted: str | None, *, of: S3GCConfig, with_deletions: bool = False
) -> str:
    """The id of the operation that a person means by it, or by the end or the beginning of it; None or "latest" is the
    newest.

    Where a vault keeps several policies, the newest is that of the policy `of`: nobody must approve or hold another's
    by saying "latest". Raises ConfigurationError when there is none, or when several match.
    """
    from s3gc.cli.settings import ANY_BUCKET

    if wanted is None or wanted.lower() == "latest":
        is_ours = await _of_policy(vault, of)
        for record in await vault.operations():
            if record.problem:
                # Taking the one before it in its place would show, or restore, another night's work.
                raise VaultError(
                    f"the newest operation, {record.id}, cannot be read: {record.problem}. Say which operation by its "
                    "id; `s3gc operations` lists them"
                )
            if is_ours(record) and not (with_deletions and record.journal == "none"):
                return record.id
        whose = "" if of.bucket == ANY_BUCKET else f" of policy {of.policy_name}"
        if with_deletions:
            raise ConfigurationError(
                f"nothing to restore: no operation{whose} in the vault {vault.location} has deleted anything",
                details={"reason": "NothingToRestore"},
            )
        raise ConfigurationError(f"the vault {vault.location} has no operation{whose} yet")
    name = wanted.upper()
    known = await vault.operation_ids()
    matches = [found for found in known if found.startswith(name) or found.endswith(name)]
    if not matches:
        raise ConfigurationError(
            f"the vault {vault.location} has no operation {wanted} ({_nearest(name, known)}); "
            "`s3gc operations` lists them. What is older than the vault's retention has expired",
            details={"operation_id": wanted},
        )
    if len(matches) > 1 and name not in matches:
        raise ConfigurationError(
            f"{wanted} could be {len(matches)} operations: {', '.join(matches[:4])}; write more of it"
        )
    return name if name in matches else matches[0]


def _nearest(wanted: str, known: Sequence[str]) -> str:
    """Which it may have been; the last letters are those that people read out."""
    ends = {each[-len(wanted) :]: each for each in known}
    close = difflib.get_close_matches(wanted, ends, 3, 0.6)
    if close:
        return f"nearest: {', '.join(ends[end] for end in close)}"
    return f"the newest: {', '.join(known[:3])}" if known else "it has none at all"


async def _of_policy(vault: Vault, policy: S3GCConfig) -> Callable[[OperationRecord], bool]:
    """Whether an operation is the policy's; without a name of its own, whether it is of its bucket, if it has one."""
    from s3gc.cli.settings import ANY_BUCKET

    if policy.bucket == ANY_BUCKET:
        return lambda record: True
    if not policy.name:
        return lambda record: record.bucket == policy.bucket
    scope = await vault.scope(policy)
    return lambda record: record.scope == scope.id
