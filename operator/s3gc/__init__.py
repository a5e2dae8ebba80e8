"""s3gc: the garbage collector for S3 buckets whose truth is in a database.

Finds the objects that no database row references, backs them up, deletes them, and can bring every one back. The names
below are the public library; everything else may change.
"""

from s3gc.builder import create_config
from s3gc.config import S3GCConfig
from s3gc.cycle import get_metrics, run_gc_cycle
from s3gc.results import GCMetrics, GCResult, RestoreResult
from s3gc.state import GCState, initialize_gc_state, shutdown_gc_state

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
