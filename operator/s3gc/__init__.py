"""s3gc: the garbage collector for S3 buckets whose truth is in a database.

Finds the objects that no database row references, backs them up, deletes them, and can bring every one back.
The names below are the public library; everything else may change. Each is imported when it is first used:
the command line must not load a database engine to print its help.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from s3gc.builder import create_config
    from s3gc.config import S3GCConfig
    from s3gc.cycle import run_gc_cycle
    from s3gc.results import GCMetrics, GCResult, RestoreResult
    from s3gc.state import GCState, get_metrics, initialize_gc_state, shutdown_gc_state

__version__ = "0.1.0"

__all__ = [
    "GCMetrics",
    "GCResult",
    "GCState",
    "RestoreResult",
    "S3GCConfig",
    "create_config",
    "get_metrics",
    "initialize_gc_state",
    "run_gc_cycle",
    "shutdown_gc_state",
]

_HOMES = {
    "GCMetrics": "results",
    "GCResult": "results",
    "GCState": "state",
    "RestoreResult": "results",
    "S3GCConfig": "config",
    "create_config": "builder",
    "get_metrics": "state",
    "initialize_gc_state": "state",
    "run_gc_cycle": "cycle",
    "shutdown_gc_state": "state",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"s3gc.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
