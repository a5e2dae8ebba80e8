"""`s3gc vault rename` and `s3gc vault retire`: which policy owns what in a vault, changed by a person.

Both hold the policy's scope while they do it, so no cycle of it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from s3gc.cli.options import Flags, Output
from s3gc.cli.options import command as shared_command

if TYPE_CHECKING:
    from s3gc.config import S3GCConfig
    from s3gc.vault.scopes import Scope

__all__ = ["rename", "retire"]


@shared_command("vault")
def rename(
    flags: Flags,
    old: Annotated[str, typer.Argument(metavar="OLD", help="The policy's name as the vault has it.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Its name from now on: namespace.name.")],
) -> None:
    """Give a policy a new name, and keep everything that the vault remembers about it.

    Do it after changing the name in the policy, before its next cycle; a namespace alone is found by itself.
    """
    from s3gc.cli.runtime import run_async
    from s3gc.cli.settings import vault_policy

    config = vault_policy(flags)
    scope, _ = run_async(lambda: _change_scope(config, old, new))
    _say_scope(flags, scope, f"policy {old} of bucket {scope.bucket} is called {new} from now on")


@shared_command("vault")
def retire(
    flags: Flags,
    name: Annotated[str, typer.Argument(metavar="POLICY", help="Its name as the vault has it.")],
) -> None:
    """Let a policy that nobody runs any more own nothing, so that another one may have its prefixes.

    Its history and its backups stay, and can be restored.
    """
    from s3gc.cli.runtime import run_async
    from s3gc.cli.settings import vault_policy
    from s3gc.vault.claim import CLAIMS_PREFIX

    config = vault_policy(flags)
    scope, vault_id = run_async(lambda: _change_scope(config, name, None))
    _say_scope(
        flags,
        scope,
        f"policy {name} owns nothing any more. If it ever executed, delete its claim in the bucket as well: "
        f"s3://{scope.bucket}/{CLAIMS_PREFIX}{vault_id}/{scope.id}.json",
    )


async def _change_scope(config: S3GCConfig, name: str, new: str | None) -> tuple[Scope, str]:
    """Rename the policy's scope, or retire it, while nothing else holds it."""
    from s3gc.cli.engine import open_vault
    from s3gc.cli.settings import ANY_BUCKET
    from s3gc.exceptions import ConfigurationError
    from s3gc.vault.lock import hold_scope
    from s3gc.vault.ownership import rename_scope, retire_scope

    async with open_vault(config, read_only=False) as vault:
        known = [scope for scope in await vault.scopes() if not scope.retired]
        found = [
            scope
            for scope in known
            if name in (scope.name, scope.id) and config.bucket in (ANY_BUCKET, scope.bucket)
        ]
        if not found:
            names = ", ".join(sorted({scope.name for scope in known})) or "none"
            raise ConfigurationError(
                f"the vault {vault.location} has no policy {name!r}; it has {names}. `s3gc vault status` shows them"
            )
        if len(found) > 1:
            raise ConfigurationError(
                f"{name!r} is the name of {len(found)} policies in the vault {vault.location}: "
                f"{', '.join(f'{scope.id} (bucket {scope.bucket})' for scope in found)}. Say which by its id"
            )
        async with hold_scope(vault, found[0]):
            if new is not None:
                return await rename_scope(vault.storage, found[0], new), vault.id
            for record in await vault.operations(scope_id=found[0].id):
                if record.journal == "open":
                    raise ConfigurationError(
                        f"operation {record.id} of policy {name!r} was cut off while deleting, and only a cycle of "
                        "that policy checks it and closes it. Run one in execute mode first"
                    )
            await retire_scope(vault.storage, found[0])
            return found[0], vault.id


def _say_scope(flags: Flags, scope: Scope, sentence: str) -> None:
    from s3gc.cli.output import console, emit, form

    how = form(flags.output)
    if how is Output.TABLE:
        console().print(sentence, soft_wrap=True)
    else:
        emit({"scope": scope.id, "policy": scope.name, "bucket": scope.bucket}, how)
