"""Each thing that a person can get wrong is one sentence that says what, where and what to do."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.library.store.conftest import FAST, OpenBucket
from tests.stub.server import error, start_stub
from tests.testbed.services import S3Server

from s3gc.backup.fetching import _AclPolicy
from s3gc.exceptions import AccessDeniedError, ConfigurationError, StoreError
from s3gc.store.bucket import Bucket
from s3gc.store.errors import ArchivedError


async def test_wrong_secret(s3: S3Server, open_bucket: OpenBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await open_bucket(s3)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret-hunter2")
    bucket = await Bucket.open(made.name, endpoint_url=s3.endpoint, retry=FAST)
    with pytest.raises(ConfigurationError, match="secret access key does not belong") as caught:
        await bucket.server_time()
    assert "hunter2" not in str(caught.value)
    assert s3.endpoint in str(caught.value)
    with pytest.raises(ConfigurationError):
        await bucket.head("k")
    await bucket.close()


async def test_unknown_access_key(
    s3: S3Server, open_bucket: OpenBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await open_bucket(s3)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "NOBODY")
    bucket = await Bucket.open(made.name, endpoint_url=s3.endpoint, retry=FAST)
    with pytest.raises(ConfigurationError, match="access key id is not known"):
        await bucket.server_time()
    await bucket.close()


async def test_unknown_bucket_names_the_endpoint(s3: S3Server, open_bucket: OpenBucket) -> None:
    bucket = await open_bucket(s3, name="no-such-bucket-here")
    with pytest.raises(ConfigurationError, match=f"'no-such-bucket-here' does not exist at {s3.endpoint}"):
        await bucket.server_time()
    with pytest.raises(ConfigurationError, match="does not exist"):
        await bucket.versioning()


async def test_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match="no usable credentials.*S3GC_BUCKET_AWS_"):
        await Bucket.open("b-ucket", endpoint_url="http://127.0.0.1:1")


async def test_half_of_the_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3GC_BUCKET_AWS_ACCESS_KEY_ID", "a")
    with pytest.raises(ConfigurationError, match="set both or neither"):
        await Bucket.open("b-ucket", endpoint_url="http://127.0.0.1:1")


async def test_an_unknown_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ConfigurationError, match="nobody"):
        await Bucket.open("b-ucket")


async def test_prefixed_credentials_win(
    s3: S3Server, open_bucket: OpenBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await open_bucket(s3)
    monkeypatch.setenv("S3GC_BUCKET_AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("S3GC_BUCKET_AWS_SECRET_ACCESS_KEY", s3.secret_key)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "wrong")
    async with await Bucket.open(made.name, endpoint_url=s3.endpoint) as bucket:
        await bucket.server_time()


async def test_a_profile_with_its_own_endpoint_and_keys(
    minio: S3Server, open_bucket: OpenBucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = await open_bucket(minio)
    config, secrets = tmp_path / "config", tmp_path / "credentials"
    config.write_text(f"[profile shop]\nregion = eu-central-1\nendpoint_url = {minio.endpoint}\n")
    secrets.write_text(
        f"[shop]\naws_access_key_id={minio.access_key}\naws_secret_access_key={minio.secret_key}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(secrets))
    monkeypatch.setenv("AWS_PROFILE", "shop")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    async with await Bucket.open(made.name, region=None) as bucket:
        assert bucket.region == "eu-central-1"
        assert bucket.endpoint == minio.endpoint


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
async def test_the_endpoint_of_the_environment_is_honoured(
    minio: S3Server, open_bucket: OpenBucket, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    made = await open_bucket(minio)
    monkeypatch.setenv(variable, minio.endpoint)
    async with await Bucket.open(made.name) as bucket:
        assert bucket.endpoint == minio.endpoint
        await bucket.server_time()


async def test_dynamic_credentials_are_refreshed_as_they_expire(
    minio: S3Server, open_bucket: OpenBucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # credential_process is the one dynamic provider that needs no other server: it is asked again as keys expire.
    made = await open_bucket(minio)
    counter = tmp_path / "asked"
    script = tmp_path / "keys.sh"
    script.write_text(
        "#!/bin/sh\n"
        f"echo x >> {counter}\n"
        f'printf \'{{"Version": 1, "AccessKeyId": "{minio.access_key}", "SecretAccessKey": "{minio.secret_key}", '
        '"Expiration": "\'"$(date -u -d "+5 seconds" +%Y-%m-%dT%H:%M:%SZ)"\'"}\'\n'
    )
    script.chmod(0o755)
    config = tmp_path / "config"
    config.write_text(f"[profile dynamic]\ncredential_process = {script}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "dynamic")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    async with await Bucket.open(made.name, endpoint_url=minio.endpoint) as bucket:
        await bucket.server_time()
        asked = len(counter.read_text().split())
        await asyncio.sleep(0.1)
        await bucket.server_time()  # within the time before expiry in which a refresh is mandatory
        assert len(counter.read_text().split()) > asked


@pytest.mark.parametrize(
    ("call", "method", "action"),
    [
        (lambda b: b.server_time(), None, None),
        (lambda b: b.common_prefixes(), "GET", "s3:ListBucket"),
        (lambda b: b.head("k"), "HEAD", "s3:GetObject"),
        (lambda b: b.head("k", version_id="v"), "HEAD", "s3:GetObjectVersion"),
        (lambda b: b.put("k", b"", size=0), "PUT", "s3:PutObject"),
        (lambda b: b.delete("k"), "DELETE", "s3:DeleteObject"),
        (lambda b: b.delete("k", version_id="v"), "DELETE", "s3:DeleteObjectVersion"),
        (lambda b: b.versions("k"), "GET", "s3:ListBucketVersions"),
        (lambda b: b.tags("k"), "GET", "s3:GetObjectTagging"),
        (lambda b: b.acl("k"), "GET", "s3:GetObjectAcl"),
        (lambda b: b.versioning(), "GET", "s3:GetBucketVersioning"),
        (lambda b: b.lock_configuration(), "GET", "s3:GetBucketObjectLockConfiguration"),
        (lambda b: b.create_multipart("k"), "POST", "s3:PutObject"),
    ],
)
async def test_every_denial_names_its_action(
    call: Callable[[Bucket], object], method: str | None, action: str | None, open_bucket: OpenBucket
) -> None:
    async with start_stub(["k"]) as stub:
        bucket = await open_bucket(stub)
        stub.answer(
            403, body=b"" if method == "HEAD" else error("AccessDenied", "Access Denied."), method=method
        )
        if action is None:
            await call(bucket)  # type: ignore[misc]  # the time is told even to those who may not list everything
            return
        with pytest.raises(AccessDeniedError, match=f"^{action} was denied") as caught:
            await call(bucket)  # type: ignore[misc]
        assert caught.value.details["action"] == action
        assert caught.value.details["status"] == 403
        assert len(stub.requests) == 1


async def test_a_denied_head_is_never_taken_for_missing(open_bucket: OpenBucket) -> None:
    async with start_stub(["k"]) as stub:
        bucket = await open_bucket(stub)
        stub.answer(403, method="HEAD")
        with pytest.raises(
            AccessDeniedError, match="or the object is missing and s3:ListBucket is not allowed"
        ):
            await bucket.head("k")


async def test_another_region_is_named(open_bucket: OpenBucket) -> None:
    async with start_stub(["k"]) as stub:
        bucket = await open_bucket(stub)
        answers = [
            (301, {"x-amz-bucket-region": "eu-west-3"}, error("PermanentRedirect")),
            (400, {}, error("AuthorizationHeaderMalformed", extra="<Region>eu-west-3</Region>")),
        ]
        for status, headers, body in answers:
            stub.answer(status, headers=headers, body=body)
            with pytest.raises(ConfigurationError, match="set the region to 'eu-west-3'"):
                await bucket.server_time()


async def test_a_proxys_404_is_not_taken_for_a_missing_object(open_bucket: OpenBucket) -> None:
    async with start_stub(["k"]) as stub:
        bucket = await open_bucket(stub)
        stub.answer(404, headers={"Content-Type": "text/html"}, body=b"<html>404 not found</html>")
        with pytest.raises(StoreError, match="404"):
            async with bucket.get("k"):
                pass


async def test_an_archived_object_says_so(open_bucket: OpenBucket) -> None:
    async with start_stub(["k"]) as stub:
        bucket = await open_bucket(stub)
        stub.answer(403, body=error("InvalidObjectState"))
        with pytest.raises(ArchivedError, match="archived"):
            async with bucket.get("k"):
                pass


async def test_stores_without_a_feature_have_none(open_bucket: OpenBucket) -> None:
    async with start_stub(["k"]) as stub:
        bucket = await open_bucket(stub)
        for status in (501, 400, 404):
            stub.answer(status, body=error("NotImplemented"), times=4)
            assert await bucket.tags("k") is None
            assert await bucket.acl("k") is None
            assert (await bucket.versioning()).status == "Off"
            assert not (await bucket.lock_configuration()).enabled


async def test_an_acl_that_grants_others_is_kept(open_bucket: OpenBucket) -> None:
    def acl(grants: str) -> bytes:
        return (
            '<AccessControlPolicy xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Owner><ID>me</ID></Owner>'
            f"<AccessControlList>{grants}</AccessControlList></AccessControlPolicy>"
        ).encode()

    mine = (
        '<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser"><ID>me</ID>'
        "</Grantee><Permission>FULL_CONTROL</Permission></Grant>"
    )
    public = (
        '<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="Group">'
        "<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee><Permission>READ</Permission></Grant>"
    )
    async with start_stub(["k"]) as stub:
        bucket = await open_bucket(stub)
        stub.answer(200, body=acl(mine))
        assert await bucket.acl("k") is None
        stub.answer(200, body=acl(mine + public))
        assert "AllUsers" in (await bucket.acl("k") or "")
        # However many private objects come first, a public one is seen (Ceph, Spaces, Wasabi).
        policy = _AclPolicy(bucket)
        stub.answer(200, body=acl(mine), times=10)
        assert [await policy.read("k", None) for _ in range(10)] == [None] * 10
        stub.answer(200, body=acl(mine + public))
        assert "AllUsers" in (await policy.read("k", None) or "")
        # Where there are none, only the first are asked.
        for answer in (
            (501, error("NotImplemented")),
            (200, acl(mine).replace(b"<ID>me</ID>", b"<ID></ID>")),
        ):
            policy = _AclPolicy(bucket)
            before = bucket.requests["GetObjectAcl"]
            stub.answer(answer[0], body=answer[1], times=3)
            assert [await policy.read("k", None) for _ in range(10)] == [None] * 10
            assert bucket.requests["GetObjectAcl"] == before + 3


def _certificate(folder: Path) -> tuple[Path, Path]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stub")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "cert.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate_file, key_file


async def test_tls_that_is_not_trusted_is_said_and_a_ca_bundle_makes_it_so(
    open_bucket: OpenBucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    certificate, key = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with start_stub(["k"], tls=context) as stub:
        bucket = await open_bucket(stub)
        with pytest.raises(ConfigurationError, match="No trusted TLS connection.*self.signed.*AWS_CA_BUNDLE"):
            await bucket.server_time()
        assert stub.requests == []
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        bucket = await open_bucket(stub)
        await bucket.server_time()
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "missing.pem"))
        with pytest.raises(ConfigurationError, match="CA bundle.*missing.pem"):
            await open_bucket(stub)


async def test_https_to_a_server_that_speaks_http_is_said(open_bucket: OpenBucket) -> None:
    async with start_stub(["k"]) as stub:
        stub.endpoint = stub.endpoint.replace("http://", "https://")
        bucket = await open_bucket(stub)
        with pytest.raises((ConfigurationError, StoreError), match=r"TLS|whole answer"):
            await bucket.server_time()


async def test_a_proxy_is_used_and_no_proxy_is_respected(
    open_bucket: OpenBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start_stub(["k"]) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.endpoint)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "")
        outside = await open_bucket(proxy, name="bucket-far-away")
        await outside.close()
        bucket = await Bucket.open("far-away", endpoint_url="http://s3.example:9000", retry=FAST)
        with pytest.raises(ConfigurationError):  # the stub knows no such bucket: the request reached it
            await bucket.server_time()
        assert proxy.requests[-1].target.startswith("http://s3.example:9000/far-away?")
        await bucket.close()
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "127.0.0.1")
        async with start_stub(["k"]) as stub:
            direct = await open_bucket(stub)
            await direct.server_time()
            assert len(stub.requests) == 1
