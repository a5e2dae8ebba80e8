"""What commands need of the engine: a cycle with its progress, an open vault, an operation by the name
people use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from s3gc.exceptions import ConfigurationError, VaultError

if TYPE_CHECKING:
    from s3gc.config import S3GCConfig
    from s3gc.results import GCResult, Outcome
    from s3gc.vault.operations import Operation, OperationRecord
    from s3gc.vault.vault import Vault

__all__ = ["exit_code_of", "find_operation", "open_vault", "run_cycle"]


def exit_code_of(outcome: Outcome) -> int:
    """0 for success and for a plan that waits for a person, 3 for a guard's no, 4 for a part that failed."""
    return {"Succeeded": 0, "AwaitingApproval": 0, "Refused": 3, "PartiallyFailed": 4}.get(outcome, 1)


async def run_cycle(config: S3GCConfig, *, operation_id: str | None = None, quiet: bool = False) -> GCResult:
    """Run one cycle and return its result, showing progress unless `quiet`."""
    from s3gc.cli.progress import reporting
    from s3gc.cycle import run_gc_cycle
    from s3gc.state import initialize_gc_state, shutdown_gc_state

    state = await initialize_gc_state(config)
    try:
        with reporting(quiet=quiet) as progress:
            return await run_gc_cycle(config, state, operation_id=operation_id, progress=progress)
    finally:
        await shutdown_gc_state(state)


@asynccontextmanager
async def open_vault(config: S3GCConfig, *, read_only: bool = True) -> AsyncIterator[Vault]:
    """Open the vault; a missing one is an error, it is never made by asking about it."""
    from s3gc.vault.vault import Vault

    vault = await Vault.open(config, read_only=read_only)
    try:
        yield vault
    finally:
        await vault.close()


async def find_operation(
    vault: Vault, wanted: str | None, *, of: S3GCConfig, with_deletions: bool = False
) -> tuple[Operation, OperationRecord]:
    """The operation that a person means: its id, or the end or the beginning of it; None or "latest": the newest.

    Where a vault keeps several policies, the newest is that of the policy `of`: nobody must approve or hold another's
    by saying "latest". Raises VaultError when there is none, ConfigurationError when several match.
    """
    from s3gc.cli.settings import ANY_BUCKET

    if wanted is None or wanted.lower() == "latest":
        for record in await vault.operations():
            if record.problem or (with_deletions and record.journal == "none"):
                continue
            if _is_of(record, of):
                return vault.operation(record.id), record
        what = "operation that deleted anything" if with_deletions else "operation"
        whose = "" if of.bucket == ANY_BUCKET else f" of policy {of.policy_name}"
        raise VaultError(f"the vault {vault.location} has no {what}{whose} yet")
    name = wanted.upper()
    matches = [
        found
        for found in await vault.operation_ids()
        if found == name or found.startswith(name) or found.endswith(name)
    ]
    if not matches:
        raise VaultError(
            f"the vault {vault.location} has no operation {wanted}; `s3gc operations` lists them"
        )
    if len(matches) > 1 and name not in matches:
        raise ConfigurationError(
            f"{wanted} could be {len(matches)} operations: {', '.join(matches[:4])}; write more of it"
        )
    operation = vault.operation(name if name in matches else matches[0])
    try:
        return operation, await operation.record()
    except FileNotFoundError:
        raise VaultError(f"operation {operation.id} has no record in the vault {vault.location}") from None


def _is_of(record: OperationRecord, policy: S3GCConfig) -> bool:
    """Whether the policy's scope made it; without a policy's own name, whether it is of its bucket, if it has one."""
    from s3gc.cli.settings import ANY_BUCKET
    from s3gc.vault.scopes import scope_id

    if policy.bucket == ANY_BUCKET:
        return True
    if policy.name:
        return record.scope == scope_id(policy.policy_name, policy.bucket)
    return record.bucket == policy.bucket
