"""Credentials that a platform hands to a workload: web identity (IRSA) by STS, and a container's own endpoint (ECS, EKS
pod identity). The services that hand them out are small servers on loopback; the bucket that must be reached is real.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from tests.library.store.conftest import OpenBucket
from tests.testbed.services import S3Server

from s3gc.exceptions import ConfigurationError
from s3gc.store.bucket import Bucket

_ASSUMED = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{key}</AccessKeyId>
<SecretAccessKey>{secret}</SecretAccessKey><SessionToken></SessionToken><Expiration>{until}</Expiration></Credentials>
</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""
_DENIED = """<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
<Code>AccessDenied</Code><Message>Not authorized to perform sts:AssumeRoleWithWebIdentity</Message></Error>
</ErrorResponse>"""


@asynccontextmanager
async def serving(handler: object) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handler)  # type: ignore[arg-type]
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)


def later() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    path = tmp_path / "token"
    path.write_text("the-service-account's-token")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(path))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/shop-media-gc")
    return path.read_text()


async def test_a_service_account_s_web_identity(
    minio: S3Server, open_bucket: OpenBucket, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    made = await open_bucket(minio)
    without_keys(monkeypatch)
    asked: list[str] = []

    async def sts(request: web.Request) -> web.Response:
        given = await request.post()
        asked.append(f"{given['Action']} {given['RoleArn']} {given['WebIdentityToken']}")
        body = _ASSUMED.format(key=minio.access_key, secret=minio.secret_key, until=later())
        return web.Response(text=body, content_type="text/xml")

    async with serving(sts) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        async with await Bucket.open(made.name, endpoint_url=minio.endpoint) as bucket:
            await bucket.server_time()
    assert asked == [f"AssumeRoleWithWebIdentity arn:aws:iam::123456789012:role/shop-media-gc {token}"]


async def test_a_role_that_cannot_be_assumed_is_one_clear_error_without_the_token(
    minio: S3Server, open_bucket: OpenBucket, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    made = await open_bucket(minio)
    without_keys(monkeypatch)

    async def sts(_: web.Request) -> web.Response:
        return web.Response(status=403, text=_DENIED, content_type="text/xml")

    async with serving(sts) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        with pytest.raises(ConfigurationError, match="AssumeRoleWithWebIdentity") as caught:
            await Bucket.open(made.name, endpoint_url=minio.endpoint)
    assert token not in str(caught.value)


async def test_a_container_s_own_credentials(
    minio: S3Server, open_bucket: OpenBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await open_bucket(minio)
    without_keys(monkeypatch)
    asked: list[str | None] = []

    async def agent(request: web.Request) -> web.Response:
        asked.append(request.headers.get("Authorization"))
        return web.json_response(
            {
                "AccessKeyId": minio.access_key,
                "SecretAccessKey": minio.secret_key,
                "Token": "",
                "Expiration": later(),
            }
        )

    async with serving(agent) as url:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/v1/credentials")
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pod-identity")
        async with await Bucket.open(made.name, endpoint_url=minio.endpoint) as bucket:
            await bucket.server_time()
    assert asked
    assert set(asked) == {"pod-identity"}
