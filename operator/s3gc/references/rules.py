"""The rules that a policy's values are read by: one place that turns a configuration into them.

Cycles, `s3gc explain` and `s3gc keys` must never read a value differently, or the answer to "why is it kept" would be
about another program.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from s3gc.config import S3GCConfig
from s3gc.references.types import ReferenceRules

__all__ = ["reference_rules"]


def reference_rules(
    config: S3GCConfig,
    endpoint: str | None,
    *,
    derivatives: tuple[str, ...] = (),
    key_prefixes: tuple[str, ...] = (),
) -> ReferenceRules:
    """Return what an extractor must know about the bucket; `endpoint` is the store's address as it is really used."""
    hosts = {urlsplit(url).hostname for url in (endpoint, config.endpoint_url) if url}
    return ReferenceRules(
        bucket=config.bucket,
        endpoint_hosts=frozenset(
            host.lower() for host in hosts if host and not host.endswith("amazonaws.com")
        ),
        base_urls=tuple((base.url, base.key_prefix) for base in config.base_urls),
        key_prefixes=key_prefixes,
        foreign_hosts=frozenset(config.foreign_hosts),
        derivatives=derivatives,
    )
