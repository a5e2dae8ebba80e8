"""The IAM policies of examples/iam, tried: a cycle of their mode succeeds with them, and with less it does not.

MinIO issues credentials that a policy narrows (STS AssumeRole with a session policy), as AWS does.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from tests.library.cycle.world import World
from tests.testbed.services import Postgres, S3Server, make_bucket

from s3gc import initialize_gc_state, shutdown_gc_state
from s3gc.backup.restore import restore_operation
from s3gc.config import S3GCConfig
from s3gc.exceptions import S3GCError
from s3gc.results import Outcome, RestoreResult

FOLDER = Path(__file__).parents[3] / "examples" / "iam"
Policy = dict[str, Any]

#: MinIO has no ACLs, and refuses a policy that names them.
_UNKNOWN_TO_MINIO = ("s3:GetObjectAcl", "s3:GetObjectVersionAcl")


def _policy(name: str, bucket: str, vault: str) -> Policy:
    text = (FOLDER / name).read_text().replace("shop-media", bucket).replace("shop-vault", vault)
    found: Policy = json.loads(text)
    for action in _UNKNOWN_TO_MINIO:
        found = _without(found, action)
    return found


def _without(policy: Policy, action: str) -> Policy:
    narrowed = copy.deepcopy(policy)
    for statement in narrowed["Statement"]:
        statement["Action"] = [each for each in statement["Action"] if each != action]
    narrowed["Statement"] = [each for each in narrowed["Statement"] if each["Action"]]
    return narrowed


def _use(server: S3Server, monkeypatch: pytest.MonkeyPatch, which: str, policy: Policy) -> None:
    """Let `which` (BUCKET or VAULT) be reached by credentials that may do only what `policy` says."""
    client = boto3.client(
        "sts",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name=server.region,
    )
    given = client.assume_role(
        RoleArn="arn:aws:iam::000000000000:role/s3gc",
        RoleSessionName="s3gc",
        Policy=json.dumps(policy, separators=(",", ":")),
    )["Credentials"]
    monkeypatch.setenv(f"S3GC_{which}_AWS_ACCESS_KEY_ID", given["AccessKeyId"])
    monkeypatch.setenv(f"S3GC_{which}_AWS_SECRET_ACCESS_KEY", given["SecretAccessKey"])
    monkeypatch.setenv(f"S3GC_{which}_AWS_SESSION_TOKEN", given["SessionToken"])


async def _restore(world: World, vault: str, operation_id: str) -> RestoreResult:
    config = _config(world, "execute", vault)
    state = await initialize_gc_state(config)
    try:
        return await restore_operation(config, state, None, operation_id, dry_run=False)
    finally:
        await shutdown_gc_state(state)


async def _world(minio: S3Server, postgres: Postgres, tmp_path: Path, versioning: bool) -> World:
    world = await World(minio, await postgres.fresh_database(), tmp_path / "vault", versioning).begin()
    await world.upload(
        {f"k/{number}": b"body %d" % number for number in range(6)}, Tagging="a=b", ContentType="image/png"
    )
    await world.reference(f"k/{number}" for number in range(4))
    return world


def _config(world: World, mode: str, vault: str) -> S3GCConfig:
    return world.config(
        mode=mode,
        vault_path=f"s3://{vault}/media",
        vault_endpoint_url=world.server.endpoint,
        vault_path_style=True,
        **({} if world.versioning else {"deletion": {"condition": "best_effort"}}),
    )


def _least(world: World, vault: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what examples/iam says for this mode, for the bucket and for the vault."""
    name = "bucket-execute.json" if mode == "execute" else "bucket-read.json"
    _use(world.server, monkeypatch, "BUCKET", _policy(name, world.bucket, vault))
    _use(world.server, monkeypatch, "VAULT", _policy("vault.json", world.bucket, vault))


@pytest.mark.parametrize("mode", ["dry_run", "audit_only"])
async def test_looking_needs_no_more_than_its_policy(
    mode: str, minio: S3Server, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, vault = await _world(minio, postgres, tmp_path, versioning=True), make_bucket(minio)
    _least(world, vault, mode, monkeypatch)
    result = await world.run(_config(world, mode, vault))
    assert result.outcome is Outcome.SUCCEEDED
    assert result.verified_orphans == 2
    assert len(world.present()) == 6


@pytest.mark.parametrize("versioning", [True, False], ids=["versioned", "unversioned"])
async def test_execute_and_restore_need_no_more_than_their_policy(
    versioning: bool, minio: S3Server, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, vault = await _world(minio, postgres, tmp_path, versioning), make_bucket(minio)
    _least(world, vault, "execute", monkeypatch)
    result = await world.run(_config(world, "execute", vault))
    assert result.outcome is Outcome.SUCCEEDED
    assert result.deleted_count == 2
    assert set(world.present()) == {f"k/{number}" for number in range(4)}
    restored = await _restore(world, vault, result.operation_id)
    assert (len(restored.restored_keys), restored.failed_keys) == (2, {})
    assert world.present() == world.bodies
    tags = world.client.get_object_tagging(Bucket=world.bucket, Key="k/5")["TagSet"]
    assert tags == [{"Key": "a", "Value": "b"}]


#: What MinIO asks for as AWS does. It lets ListBucketVersions pass as ListBucket, and GetObjectVersion as GetObject.
ENFORCED = (
    "s3:ListBucket",
    "s3:GetBucketVersioning",
    "s3:GetBucketObjectLockConfiguration",
    "s3:GetObjectTagging",
    "s3:DeleteObject",
    "s3:DeleteObjectVersion",
    "s3:PutObject",
)


async def test_with_any_right_less_execute_deletes_nothing(
    minio: S3Server, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, vault = await _world(minio, postgres, tmp_path, versioning=True), make_bucket(minio)
    policy = _policy("bucket-execute.json", world.bucket, vault)
    _least(world, vault, "execute", monkeypatch)
    for action in ENFORCED:
        _use(minio, monkeypatch, "BUCKET", _without(policy, action))
        try:
            result = await world.run(_config(world, "execute", vault))
        except S3GCError as error:
            said = str(error)
        else:
            assert (result.deleted_count, result.skipped_count) == (0, 2), action
            said = action  # each object was left alone, with the reason
        assert action in said or "may not remove a delete marker" in said
        assert world.present() == world.bodies, action


async def test_with_any_right_less_on_the_vault_execute_deletes_nothing(
    minio: S3Server, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, vault = await _world(minio, postgres, tmp_path, versioning=True), make_bucket(minio)
    policy = _policy("vault.json", world.bucket, vault)
    _least(world, vault, "execute", monkeypatch)
    for action in ("s3:ListBucket", "s3:GetObject", "s3:PutObject"):
        _use(minio, monkeypatch, "VAULT", _without(policy, action))
        with pytest.raises(S3GCError):
            await world.run(_config(world, "execute", vault))
        assert world.present() == world.bodies, action
