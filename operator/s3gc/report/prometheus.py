"""The vault's numbers in Prometheus' text format, for a scrape, the node exporter's textfile collector or a push."""

from __future__ import annotations

from collections.abc import Mapping

from s3gc.results import GCMetrics

__all__ = ["prometheus_text"]


def prometheus_text(
    metrics: GCMetrics, policy: str, bucket: str, *, more: Mapping[str, tuple[str, float]] | None = None
) -> str:
    """Return the metrics of one policy; `more` are further gauges: name -> (what it is, its value)."""
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()
    labels = {"policy": policy, "bucket": bucket}
    last_run = metrics.last_run_at.timestamp() if metrics.last_run_at else 0.0
    gauges: dict[str, tuple[str, float]] = {
        "s3gc_vault_cycles": ("Cycles that the vault remembers.", metrics.total_runs),
        "s3gc_vault_last_cycle_timestamp_seconds": ("When the last cycle began.", last_run),
        "s3gc_vault_objects_deleted": ("Objects deleted.", metrics.total_deleted),
        "s3gc_vault_objects_backed_up": ("Objects backed up.", metrics.total_backed_up),
        "s3gc_vault_objects_restored": ("Objects restored.", metrics.total_restored),
        "s3gc_vault_reclaimed_bytes": ("Bytes freed.", metrics.reclaimed_bytes),
        "s3gc_vault_size_bytes": ("Bytes in the vault.", metrics.vault_size_bytes),
        "s3gc_vault_compression_ratio": ("Original bytes per stored byte.", metrics.avg_compression_ratio),
        **(more or {}),
    }
    for name, (what, value) in gauges.items():
        Gauge(name, what, list(labels), registry=registry).labels(**labels).set(value)
    return generate_latest(registry).decode()
