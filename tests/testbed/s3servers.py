"""MinIO and versitygw as objects: an endpoint, credentials, buckets. `services` gathers what tests import."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.testbed import tools
from tests.testbed.processes import Home, Process, free_port, not_ours

if TYPE_CHECKING:
    from botocore.loaders import Loader
    from mypy_boto3_s3 import S3Client


@dataclass
class S3Server:
    """An S3 server: where it is, its root credentials. `process` is None where the environment names it."""

    name: str
    endpoint: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"
    process: Process | None = None
    data: Path | None = None
    buckets: list[str] = field(default_factory=list)  # made by make_bucket

    @classmethod
    def from_environment(cls, name: str) -> S3Server | None:
        prefix = f"S3GC_TEST_{name.upper()}_"
        endpoint = os.environ.get(f"{prefix}ENDPOINT")
        if not endpoint:
            return None
        missing = [n for n in ("ACCESS_KEY", "SECRET_KEY") if not os.environ.get(prefix + n)]
        if missing:
            raise RuntimeError(
                f"{prefix}ENDPOINT is set, but {', '.join(prefix + n for n in missing)} is not"
            )
        return cls(
            name, endpoint.rstrip("/"), os.environ[f"{prefix}ACCESS_KEY"], os.environ[f"{prefix}SECRET_KEY"]
        )

    @property
    def environment(self) -> dict[str, str]:
        """The AWS variables with which any client reaches this server."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_REGION": self.region,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
        }

    def _own(self) -> Process:
        if self.process is None:
            raise not_ours(f"S3GC_TEST_{self.name.upper()}_ENDPOINT")
        return self.process

    def kill(self) -> None:
        self._own().kill()

    def start(self) -> None:
        self._own().start()

    def restart(self) -> None:
        self._own().restart()

    def close(self) -> None:
        """Stop ours; empty and remove the test buckets of somebody else's."""
        if self.process is not None:
            self.process.stop()
        else:
            for bucket in self.buckets:
                remove_bucket(self, bucket)


def let_time_pass(server: S3Server, bucket: str) -> None:
    """Wait until the server's clock shows a later second than that of the bucket's newest object.

    A server's Date has whole seconds, and an object is judged only when it is older than what that shows.
    """
    client = s3_client(server)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    newest = max((item["LastModified"] for page in pages for item in page.get("Contents", ())), default=None)
    while newest is not None:
        headers = client.head_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPHeaders"]
        if parsedate_to_datetime(headers["date"]) > newest:
            return
        time.sleep(0.05)


def _answers(server: S3Server) -> Callable[[], bool]:
    """Whether the server lists its buckets with these credentials: the one check that proves it all."""

    def ready() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", urlsplit(server.endpoint).port or 80), timeout=1):
                pass
            s3_client(server, attempts=1, timeout_seconds=2).list_buckets()
        except Exception:
            return False
        return True

    return ready


def start_minio(home: Home, name: str = "minio", data: Path | None = None) -> S3Server:
    """MinIO on one temporary folder, or on `data`, which is kept."""
    port, console = free_port(), free_port()
    folder = data or home.folder(f"{name}-data")
    server = S3Server(
        "minio", f"http://127.0.0.1:{port}", "root" + secrets.token_hex(6), secrets.token_hex(16), data=folder
    )
    server.process = Process(
        home,
        name,
        [
            str(tools.binary("minio")),
            "server",
            "--quiet",
            "--address",
            f"127.0.0.1:{port}",
            "--console-address",
            f"127.0.0.1:{console}",
            str(folder),
        ],
        _answers(server),
        environment={
            "MINIO_ROOT_USER": server.access_key,
            "MINIO_ROOT_PASSWORD": server.secret_key,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "HOME": str(home.path),
        },
    )
    server.process.start()
    return server


def start_versitygw(home: Home, name: str = "versitygw") -> S3Server:
    """versitygw over a temporary folder (which must carry extended attributes), with versioning available."""
    port = free_port()
    folder, versions = home.folder(f"{name}-data"), home.folder(f"{name}-versions")
    server = S3Server(
        "versitygw",
        f"http://127.0.0.1:{port}",
        "root" + secrets.token_hex(6),
        secrets.token_hex(16),
        data=folder,
    )
    server.process = Process(
        home,
        name,
        [
            str(tools.binary("versitygw")),
            "--quiet",
            "--keep-alive",
            "--port",
            f"127.0.0.1:{port}",
            "posix",
            "--versioning-dir",
            str(versions),
            str(folder),
        ],
        _answers(server),
        environment={"ROOT_ACCESS_KEY_ID": server.access_key, "ROOT_SECRET_ACCESS_KEY": server.secret_key},
    )
    server.process.start()
    return server


def s3_client(server: S3Server, *, attempts: int = 3, timeout_seconds: float = 30) -> S3Client:
    """A boto3 client of `server`: path style, and nothing of the machine's own configuration."""
    import boto3
    import botocore.session
    from botocore.config import Config

    inner = botocore.session.Session()
    inner.register_component("data_loader", _service_models())
    session = boto3.session.Session(
        botocore_session=inner,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name=server.region,
    )
    config = Config(
        s3={"addressing_style": "path"},
        retries={"max_attempts": attempts, "mode": "standard"},
        proxies={},
        connect_timeout=timeout_seconds,
        read_timeout=timeout_seconds,
        max_pool_connections=64,
    )
    return session.client("s3", endpoint_url=server.endpoint, config=config)


@functools.cache
def _service_models() -> Loader:
    """botocore's description of S3, parsed once: a client of one's own then costs a tenth of the 60 ms."""
    from botocore.loaders import create_loader

    return create_loader()


def make_bucket(server: S3Server, versioning: bool = False, lock: bool = False) -> str:
    """Make a bucket with a name of its own and return the name. `lock` (Object Lock) includes versioning."""
    client = s3_client(server)
    name = f"t-{secrets.token_hex(8)}"
    if lock:
        client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    else:
        client.create_bucket(Bucket=name)
    server.buckets.append(name)
    if versioning:
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def remove_bucket(server: S3Server, name: str) -> None:
    """Remove a test bucket and all in it; what retention protects stays, without an error."""
    client = s3_client(server)
    with contextlib.suppress(Exception):
        for page in client.get_paginator("list_object_versions").paginate(Bucket=name):
            for version in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                with contextlib.suppress(Exception):
                    client.delete_object(
                        Bucket=name,
                        Key=version["Key"],
                        VersionId=version["VersionId"],
                        BypassGovernanceRetention=True,
                    )
        client.delete_bucket(Bucket=name)
