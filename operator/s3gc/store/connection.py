"""Where a bucket is and who we are there, as AWS's own configuration says: endpoint, region, CA, proxy,
credentials.

botocore decides all of it (profiles, `AWS_ENDPOINT_URL_S3`, dual-stack and FIPS settings, addressing style,
web identity, container and instance roles), so that s3gc finds what every other AWS tool on that machine
finds. Only the decision is taken from it; the requests are ours (`transport`). Credentials refresh by
themselves before they expire.
"""

from __future__ import annotations

import asyncio
import functools
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiobotocore.session
import botocore.loaders
import botocore.session
from aiobotocore.credentials import AioCredentials
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.utils import get_environ_proxies

from s3gc.exceptions import ConfigurationError, host_of, redact
from s3gc.store.signing import Credentials

__all__ = ["CredentialsSource", "Endpoint", "resolve_credentials", "resolve_endpoint"]

CredentialsSource = Callable[[], Awaitable[Credentials]]

#: How long one refresh of credentials (STS, the container's or instance's metadata service) may take.
CREDENTIALS_TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests for one bucket go.

    `base` is scheme and host[:port] as sent; `path` what stands before the key ("" or "/bucket"), already
    encoded; `name` is the endpoint for people, never with credentials. `proxy` is a URL or None.
    """

    base: str
    host: str
    path: str
    name: str
    region: str
    tls: ssl.SSLContext | None
    proxy: str | None


async def resolve_endpoint(
    bucket: str, *, region: str | None, endpoint_url: str | None, path_style: bool | None
) -> Endpoint:
    """Resolve as botocore would. Raises ConfigurationError for a profile, region, CA file or endpoint that is
    unusable.
    """
    try:
        # botocore reads and compiles its service model here: blocking work (0.1 s the first time), hence a thread.
        return await asyncio.to_thread(_resolve, bucket, region, endpoint_url, path_style)
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(
            f"The endpoint of bucket {bucket!r} cannot be determined: {redact(str(error))}. "
            "Check the region, the endpoint and AWS_PROFILE.",
            details={"bucket": bucket},
        ) from error


def _resolve(bucket: str, region: str | None, endpoint_url: str | None, path_style: bool | None) -> Endpoint:
    session = botocore.session.Session()
    session.register_component("data_loader", _service_models(session.get_config_variable("data_path")))
    chosen = region or os.environ.get("AWS_REGION") or session.get_config_variable("region") or "us-east-1"
    style = {} if path_style is None else {"addressing_style": "path" if path_style else "virtual"}
    settings: Any = {**style, "us_east_1_regional_endpoint": "regional"}
    client: Any = session.create_client(
        "s3",
        region_name=chosen,
        endpoint_url=endpoint_url,
        # Nothing is sent with these: the URL is taken, the signature thrown away.
        aws_access_key_id="resolution",
        aws_secret_access_key="only",  # noqa: S106  (not a password: see above)
        config=Config(s3=settings, signature_version="s3v4"),
    )
    url = client.generate_presigned_url("head_bucket", Params={"Bucket": bucket})
    parts = urlsplit(url)
    host = parts.netloc.lower().removesuffix({"http": ":80", "https": ":443"}.get(parts.scheme, ":"))
    base = f"{parts.scheme}://{host}"
    bundle = session.get_config_variable("ca_bundle")
    return Endpoint(
        base=base,
        host=host,
        path=parts.path.rstrip("/"),
        name=host_of(endpoint_url or str(client.meta.endpoint_url)).rstrip("/"),
        region=str(client.meta.region_name),
        tls=_tls(bundle) if parts.scheme == "https" else None,
        proxy=_proxy(base),
    )


@functools.lru_cache(maxsize=1)
def _service_models(data_path: str | None) -> botocore.loaders.Loader:
    """botocore's descriptions of the services, parsed once a process: files of the installed package, which say
    nothing of where a bucket is. Profiles and environment are read anew for each bucket.
    """
    return botocore.loaders.create_loader(data_path)


def _tls(bundle: str | None) -> ssl.SSLContext:
    """The system's authorities, or exactly those of AWS_CA_BUNDLE / `ca_bundle` (a file or a folder) where it
    is set.
    """
    if not bundle:
        context = ssl.create_default_context()
        if not context.cert_store_stats()["x509_ca"]:
            # A slim image without ca-certificates: the authorities that botocore itself would use.
            from botocore.httpsession import where

            context.load_verify_locations(cafile=where())
        return context
    path = Path(bundle).expanduser()
    try:
        return ssl.create_default_context(
            cafile=str(path) if not path.is_dir() else None, capath=str(path) if path.is_dir() else None
        )
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"The CA bundle {bundle!r} (AWS_CA_BUNDLE or `ca_bundle` of the profile) cannot be used: {error}."
        ) from error


def _proxy(base: str) -> str | None:
    """HTTP(S)_PROXY for this one host, NO_PROXY respected. aiohttp's own `trust_env` would read ~/.netrc as
    well.
    """
    proxies: dict[str, str] = get_environ_proxies(base)
    scheme = base.partition("://")[0]
    proxy = proxies.get(scheme) or proxies.get("all")
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy}"
    return proxy or None


async def resolve_credentials(
    prefix: str, bucket: str, *, environment: Mapping[str, str] | None = None
) -> CredentialsSource:
    """Return a source of current credentials for `bucket`.

    `<prefix>AWS_ACCESS_KEY_ID` (with `_SECRET_ACCESS_KEY`, `_SESSION_TOKEN`) wins where it is set, so that
    one process can hold different keys for the bucket and the vault; else botocore's chain.
    ConfigurationError when there are none.
    """
    environment = os.environ if environment is None else environment
    key = environment.get(f"{prefix}AWS_ACCESS_KEY_ID")
    if key:
        secret = environment.get(f"{prefix}AWS_SECRET_ACCESS_KEY")
        if not secret:
            raise ConfigurationError(
                f"{prefix}AWS_ACCESS_KEY_ID is set, but {prefix}AWS_SECRET_ACCESS_KEY is not: set both or neither."
            )
        fixed = Credentials(key, secret, environment.get(f"{prefix}AWS_SESSION_TOKEN") or None)

        async def constant() -> Credentials:
            return fixed

        return constant
    session = aiobotocore.session.get_session()
    try:
        async with asyncio.timeout(CREDENTIALS_TIMEOUT_SECONDS):
            found = await session.get_credentials()
    except (BotoCoreError, ClientError, TimeoutError, OSError) as error:
        raise _no_credentials(bucket, prefix, redact(str(error)) or "timed out") from error
    if found is None:
        raise _no_credentials(bucket, prefix, "none were found")

    async def refreshed() -> Credentials:
        try:
            async with asyncio.timeout(CREDENTIALS_TIMEOUT_SECONDS):
                frozen = await found.get_frozen_credentials()
        except (BotoCoreError, ClientError, TimeoutError, OSError) as error:
            raise _no_credentials(bucket, prefix, redact(str(error)) or "timed out") from error
        return Credentials(frozen.access_key or "", frozen.secret_key or "", frozen.token or None)

    now = await refreshed()  # a role that cannot be assumed is said now, not at the thousandth object
    if type(found) is not AioCredentials:  # a role, web identity, a container: they change under way
        return refreshed

    async def unchanging() -> Credentials:
        return now

    return unchanging


def _no_credentials(bucket: str, prefix: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"There are no usable credentials for bucket {bucket!r}: {why}. Set AWS_ACCESS_KEY_ID and "
        f"AWS_SECRET_ACCESS_KEY (or {prefix}AWS_…), a profile, or a role for this workload.",
        details={"bucket": bucket},
    )
