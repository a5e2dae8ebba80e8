"""Which scope a policy is, and the change of what it owns: by a cycle or by a person, never by looking.

A policy finds its scope by its name and bucket. Whoever only looks may also find it by less (without the namespace, or
by the bucket alone where that says which), because nothing depends on it. Whoever is about to own objects may not: two
policies taken for one would never be refused as overlapping, and each would delete what only the other's database
references. So a cycle takes a scope over under a name with another namespace only when everything else says that it is
the same policy: bucket, store, databases and what is read in them. And policies that nobody named all have their
bucket's name: two applications that share a bucket and a vault are told apart by their databases.
"""

from __future__ import annotations

from dataclasses import replace

from s3gc.config import S3GCConfig, SourceConfig
from s3gc.exceptions import ConfigurationError, RefusedError, VaultCorruptedError
from s3gc.store.types import Storage
from s3gc.vault import layout
from s3gc.vault.files import read_or_none
from s3gc.vault.scopes import Scope, differ_in_namespace, find_overlap, scope_id, widened

__all__ = ["claimed_scope", "load_scopes", "own_scope", "rename_scope", "retire_scope", "seen_scope"]


async def load_scopes(storage: Storage, *, strict: bool = True) -> list[Scope]:
    """Every scope of the vault, by id. `strict`: VaultCorruptedError for a scope.json that cannot be read; else it is
    left out, for readers that must work in a damaged vault."""
    paths = [file.path async for file in storage.list(layout.SCOPES) if file.path.endswith("/scope.json")]
    found: list[Scope] = []
    for path in sorted(paths):
        data = await read_or_none(storage, path)
        if data is None:
            continue
        try:
            found.append(Scope.from_json(data))
        except (ValueError, KeyError, TypeError) as error:
            if not strict:
                continue
            raise VaultCorruptedError(
                f"{path} of the vault {storage.location} is damaged ({error}). Without it nobody can tell which "
                "prefixes that scope owns, so no cycle starts; restores work. Bring it back from a copy, or remove it: "
                "the next cycle of that policy writes it anew (after a rename, only a copy helps)",
                details={"path": path},
            ) from None
    return found


async def seen_scope(storage: Storage, config: S3GCConfig) -> Scope:
    """The scope to look into for this policy, as the vault knows it, or as its first cycle would make it.

    Reads only, and works where a scope.json is damaged.
    """
    wanted = _wanted(config)
    scopes = [scope for scope in await load_scopes(storage, strict=False) if scope.bucket == wanted.bucket]
    if (exact := _named(scopes, wanted, named=bool(config.name))) is not None:
        return exact
    owners = [scope for scope in scopes if not scope.retired]
    kin = [scope for scope in owners if config.name and differ_in_namespace(scope.name, wanted.name)]
    if len(kin) == 1:
        return kin[0]
    if not config.name and len(owners) == 1:
        return owners[0]  # nobody said which policy, and the bucket has one
    return _fresh(wanted, scopes)


async def claimed_scope(storage: Storage, config: S3GCConfig) -> Scope:
    """The scope whose lock a cycle of this policy must hold; nothing is written before it does.

    Raises VaultCorruptedError for a scope.json that cannot be read.
    """
    return _claimed(await load_scopes(storage), _wanted(config), named=bool(config.name))


async def own_scope(storage: Storage, held: Scope, config: S3GCConfig, *, executing: bool) -> Scope:
    """Record what this policy owns, under the lock of `held` (of `claimed_scope`), and return it.

    Only an execute may let go of prefixes: a dry run with fewer of them must not open the rest to another policy.
    Raises RefusedError (guard "overlap") when another scope of the bucket in this vault could hold the same object,
    and for a scope that was renamed meanwhile.
    """
    scopes = await load_scopes(storage)
    wanted = _wanted(config)
    now = _claimed(scopes, wanted, named=bool(config.name))
    if now.id != held.id:
        raise RefusedError(
            f"the scopes of the vault {storage.location} were changed while this cycle began (policy "
            f"{wanted.name!r} is now scope {now.id!r}). Nothing was done; run it again",
            details={"guard": "overlap", "scope": held.id},
        )
    ours = replace(wanted, id=now.id)
    known = next((scope for scope in scopes if scope.id == ours.id), None)
    record = ours
    if known is not None and not executing and not known.retired:
        prefixes, excluded = widened(known, ours)
        record = replace(ours, prefixes=prefixes, exclude_prefixes=excluded)
    path = layout.scope_path(ours.id, "scope.json")
    # Written first and compared afterwards, so that of two policies that start together at least one sees the
    # other; the one that is refused takes its change back. Nobody else writes this file: we hold the scope.
    if known is None:
        await storage.create(path, record.to_json())
    elif record != known:
        await storage.write(path, record.to_json())
    if (other := _overlapping(await load_scopes(storage), ours)) is None:
        return ours
    if known is None:
        await storage.delete(path)
    elif record != known:
        await storage.write(path, known.to_json())
    if other.name == ours.name:
        raise RefusedError(
            f"the vault {storage.location} knows {other.shown} of bucket {ours.bucket!r} by what {_databases(other)} "
            f"references, and this one, which has no name either, reads {_databases(ours)}. Two applications that "
            "share a bucket must not own the same objects: give each a name (`name`) and prefixes of its own. If this "
            "is the same application whose database has another address now, give it a name and tell the vault: "
            f"`s3gc vault rename {other.name} NAME --bucket {ours.bucket}`",
            details={"guard": "overlap", "scope": ours.id, "other": other.id},
        )
    raise RefusedError(
        f"{ours.shown} and {other.shown} of the vault {storage.location} overlap in bucket {ours.bucket!r}: each would "
        "delete what only the other's database references. Give one of them other prefixes. If both are one policy "
        f"that has a new name: `s3gc vault rename {other.name} {ours.name}`; if nobody runs {other.name!r} any more: "
        f"`s3gc vault retire {other.name}`",
        details={"guard": "overlap", "scope": ours.id, "other": other.id},
    )


async def rename_scope(storage: Storage, scope: Scope, name: str) -> Scope:
    """Let the policy be called `name`; its id, and with it all that it remembers, stays.

    Call it under the scope's lock. Raises ConfigurationError when the bucket has a policy of that name.
    """
    if any(each.name == name and each.bucket == scope.bucket for each in await load_scopes(storage)):
        raise ConfigurationError(
            f"the vault {storage.location} has a policy {name!r} of bucket {scope.bucket!r} already; a policy keeps "
            "its own history. Choose another name"
        )
    renamed = replace(scope, name=name)
    await storage.write(layout.scope_path(scope.id, "scope.json"), renamed.to_json())
    return renamed


async def retire_scope(storage: Storage, scope: Scope) -> None:
    """Let a scope own nothing any more; its history, holds and backups stay. Its next cycle brings it back. Call it
    under the scope's lock, and not while a journal of it is open: nobody else would check those deletions."""
    await storage.write(layout.scope_path(scope.id, "scope.json"), replace(scope, retired=True).to_json())


def _claimed(scopes: list[Scope], wanted: Scope, *, named: bool) -> Scope:
    ours = [scope for scope in scopes if scope.bucket == wanted.bucket]
    if (exact := _named(ours, wanted, named=named)) is not None:
        return exact
    same = [scope for scope in ours if named and _is_the_same_policy(scope, wanted)]
    return same[0] if len(same) == 1 else _fresh(wanted, scopes)


def _is_the_same_policy(scope: Scope, wanted: Scope) -> bool:
    """Whether a manifest that got, or lost, its namespace is this one. Any doubt says no, and a person renames it."""
    return (
        not scope.retired
        and differ_in_namespace(scope.name, wanted.name)
        and scope.endpoint_url == wanted.endpoint_url
        and bool(wanted.sources)
        and scope.sources == wanted.sources
    )


def _named(scopes: list[Scope], wanted: Scope, *, named: bool) -> Scope | None:
    """The scope of that name. A name that nobody gave says nothing: whoever shares no database with it is another."""
    same = [s for s in scopes if s.name == wanted.name and (named or not _are_strangers(s, wanted))]
    same.sort(key=lambda scope: scope.retired)
    return same[0] if same else None


def _are_strangers(scope: Scope, wanted: Scope) -> bool:
    known, ours = _addresses(scope), _addresses(wanted)
    return bool(known and ours) and known.isdisjoint(ours)


def _addresses(scope: Scope) -> set[str]:
    """The databases that are read, by their addresses, as `_described` writes them."""
    return {source.partition(": ")[0] for source in scope.sources if "://" in source}


def _databases(scope: Scope) -> str:
    return ", ".join(sorted(_addresses(scope)))


def _fresh(wanted: Scope, scopes: list[Scope]) -> Scope:
    """`wanted` with an id of its own: a policy that was renamed keeps the id that its old name would give."""
    taken = {scope.id for scope in scopes}
    number, chosen = 1, wanted.id
    while chosen in taken:
        number += 1
        chosen = f"{wanted.id}-{number}"
    return replace(wanted, id=chosen)


def _overlapping(scopes: list[Scope], ours: Scope) -> Scope | None:
    for scope in scopes:
        if scope.id == ours.id or scope.retired or scope.bucket != ours.bucket:
            continue
        if scope.endpoint_url != ours.endpoint_url:
            continue  # the same name at another store; where it is another spelling, the claim sees it
        if find_overlap(ours.prefixes, ours.exclude_prefixes, scope.prefixes, scope.exclude_prefixes):
            return scope
    return None


def _wanted(config: S3GCConfig) -> Scope:
    return Scope(
        id=scope_id(config.policy_name, config.bucket),
        name=config.policy_name,
        bucket=config.bucket,
        endpoint_url=config.endpoint_url,
        prefixes=config.effective_prefixes,
        exclude_prefixes=tuple(config.exclude_prefixes),
        sources=tuple(sorted(_described(source) for source in config.effective_sources)),
    )


def _described(source: SourceConfig) -> str:
    """A database and what is read in it, for people and to compare; never a credential."""
    names = [table.table for table in source.tables] + [f"query {query.name}" for query in source.queries]
    where = source.location
    if source.url is not None:
        where = f"{source.dialect}{where[where.index('://') :]}"
    return f"{where}: {', '.join(sorted(names)) or 'nothing'}"
