"""Measurements beside peers, on real servers, in one run: `python -m benchmarks` (see docs/performance.md).

Every contender is a process of its own and is measured as one, start-up and imports included, so that an s3gc that
imports too much shows. Numbers that are not from the same run are never compared.
"""
