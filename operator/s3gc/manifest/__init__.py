"""What the manifests `BucketGC` and `GCRestore` may say: models, bounded as a CustomResourceDefinition must be.

They are the one truth: `s3gc run -f`, `S3GC_POLICY`, the controller and the CRDs under ``crds/`` read these
models and no others. They stand beside `config`: a manifest has what only Kubernetes needs (secrets by
reference, the Job's pod), its own spelling (camelCase, `DryRun`) and two defaults of its own; `policy`
turns one into the other. The models carry structure, bounds and descriptions, so that a structural schema
can be made of them (`controller.crd`); what a template or a host may contain is judged by `config`, once,
for every face of s3gc.
"""

from s3gc.manifest.base import API_VERSION, GROUP, VERSION, camel
from s3gc.manifest.bucket import BaseURLSpec, BucketSpec
from s3gc.manifest.bucketgc import BucketGC, BucketGCSpec, DeletionSpec, LimitsSpec, Metadata
from s3gc.manifest.gcrestore import GCRestore, GCRestoreSpec, TargetSpec
from s3gc.manifest.job import EngineSpec, JobSpec
from s3gc.manifest.references import ReferenceSpec
from s3gc.manifest.vault import VaultS3Spec, VaultSpec

__all__ = [
    "API_VERSION",
    "GROUP",
    "VERSION",
    "BaseURLSpec",
    "BucketGC",
    "BucketGCSpec",
    "BucketSpec",
    "DeletionSpec",
    "EngineSpec",
    "GCRestore",
    "GCRestoreSpec",
    "JobSpec",
    "LimitsSpec",
    "Metadata",
    "ReferenceSpec",
    "TargetSpec",
    "VaultS3Spec",
    "VaultSpec",
    "camel",
]
