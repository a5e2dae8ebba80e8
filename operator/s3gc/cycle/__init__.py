"""One run: mark (list, read, join), judge (guards, plan), sweep (back up, verify, delete, check).

`story` is the order of the steps, `start` what a run begins with, `facts` what it knows and the result made of it.
"""

from s3gc.cycle.story import run_gc_cycle

__all__ = ["run_gc_cycle"]
