"""The operator: BucketGC and GCRestore, reconciled by launching Jobs and reading what they say.

Pure modules decide (`schedule`, `decide`, `jobs`, `conditions`, `status`), one module talks to the API
server (`kube`), and only `handlers` and `app` know kopf. See docs/operator-internals.md.
"""
