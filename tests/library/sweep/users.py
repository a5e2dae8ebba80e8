"""Users of MinIO with exactly the policy that a test names, as a platform engineer would make them.

MinIO's security token service gives temporary credentials under an inline policy; what that policy does not allow is
denied by the real server.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import boto3
from tests.testbed.services import S3Server

#: ``act_as(server, *statements)``: from here on the test's environment holds such a user's credentials.
Act = Callable[..., None]


def allow(bucket: str, *actions: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": _resources(bucket, ("*",))}


def deny(bucket: str, action: str, *keys: str) -> dict[str, Any]:
    """Deny `action` on these keys (``*`` matches any characters); without keys on the bucket and everything in it."""
    return {"Effect": "Deny", "Action": [action], "Resource": _resources(bucket, keys)}


def _resources(bucket: str, keys: tuple[str, ...]) -> list[str]:
    whole = [] if keys and keys != ("*",) else [f"arn:aws:s3:::{bucket}"]
    return whole + [f"arn:aws:s3:::{bucket}/{key}" for key in keys or ("*",)]


def temporary_user(server: S3Server, *statements: dict[str, Any]) -> dict[str, str]:
    """The environment of a user under a policy of `statements`."""
    sts = boto3.client(
        "sts",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name=server.region,
    )
    answer = sts.assume_role(
        RoleArn="arn:aws:iam::000000000000:role/none",
        RoleSessionName="test",
        Policy=json.dumps({"Version": "2012-10-17", "Statement": list(statements)}),
    )["Credentials"]
    return {
        "AWS_ACCESS_KEY_ID": answer["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": answer["SecretAccessKey"],
        "AWS_SESSION_TOKEN": answer["SessionToken"],
    }
