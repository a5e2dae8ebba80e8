"""Where a vault lives, from its location: a folder or `s3://bucket/prefix`, behind one interface."""

from __future__ import annotations

import re
from pathlib import Path

from s3gc.exceptions import ConfigurationError, StoreError, VaultError
from s3gc.store.bucket import Bucket, RetryPolicy
from s3gc.store.folder import FolderStorage
from s3gc.store.s3storage import S3Storage
from s3gc.store.types import Storage

__all__ = ["FolderStorage", "S3Storage", "open_storage"]

_S3 = re.compile(r"s3://([^/]+)/?(.*)", re.DOTALL)


async def open_storage(
    location: str,
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    path_style: bool | None = None,
    storage_class: str | None = None,
    kms_key_id: str | None = None,
    credentials_prefix: str = "S3GC_VAULT_",
    create: bool = True,
    retry: RetryPolicy | None = None,
) -> Storage:
    """Open the vault's storage at `location`; close it when done.

    With `create` the folder is made, or the store's conditional writes are proven (VaultError when they are
    not). Without it nothing is written: for reading a vault that exists, also with a role that may only read.
    """
    match = _S3.fullmatch(location)
    if match is None:
        if "://" in location:
            raise ConfigurationError(f"{location!r} is no vault: give a folder or s3://bucket/prefix.")
        return await FolderStorage.open(Path(location), create=create)
    name, prefix = match.groups()
    prefix = prefix.strip("/")
    bucket = await Bucket.open(
        name, region=region, endpoint_url=endpoint_url, path_style=path_style,
        credentials_prefix=credentials_prefix, concurrency=16, retry=retry,
    )  # fmt: skip
    headers: dict[str, str] = {}
    if storage_class:
        headers["x-amz-storage-class"] = storage_class
    if kms_key_id:
        headers["x-amz-server-side-encryption"] = "aws:kms"
        headers["x-amz-server-side-encryption-aws-kms-key-id"] = kms_key_id
    storage = S3Storage(bucket, f"{prefix}/" if prefix else "", headers)
    try:
        if create:
            await storage.probe()
        else:
            await _reach(storage)
    except BaseException:
        await storage.close()
        raise
    return storage


async def _reach(storage: S3Storage) -> None:
    try:
        await storage.bucket.server_time()
    except (ConfigurationError, StoreError) as error:
        raise VaultError(
            f"The vault {storage.location!r} cannot be used: {error.message}", details=error.details
        ) from error
