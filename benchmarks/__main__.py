"""Run benchmarks: `python -m benchmarks run` (what `make bench` does), one by name, or `large`.

    python -m benchmarks run [--full] [--scale 0.1]
    python -m benchmarks listing --keys 1000000 --runs 3
    python -m benchmarks marking --objects 1000000 --runs 3
    python -m benchmarks sweeping --orphans 20000 --size 8192 --runs 1
    python -m benchmarks restoring --objects 20000 --size 8192 --runs 1
    python -m benchmarks verifying --rows 5000000 --runs 3
    python -m benchmarks large --objects 10000000 --limit-mb 1024

Sizes given here are each benchmark's own. `run` takes them so that all end within about ten minutes on two cores;
`--full` takes the full sizes, `--scale` multiplies either.
"""

from __future__ import annotations

import argparse
import inspect
import sys
import time
from types import ModuleType

from benchmarks import large, listing, marking, restoring, sweeping, verifying

BENCHMARKS: dict[str, ModuleType] = {
    m.NAME: m for m in (listing, marking, sweeping, restoring, verifying, large)
}

#: What `run` runs, and the sizes that fit into ten minutes. `large` is on its own.
SHORT: dict[str, dict[str, int]] = {
    "listing": {"keys": 1_000_000, "runs": 3},
    "marking": {"objects": 1_000_000, "runs": 3},
    "sweeping": {"orphans": 3_000, "runs": 1},
    "restoring": {"objects": 3_000, "runs": 1},
    "verifying": {"rows": 5_000_000, "runs": 3},
}


def _sizes(name: str) -> dict[str, int]:
    """A benchmark's options and their full sizes: the parameters of its `measure`."""
    return {p.name: p.default for p in inspect.signature(BENCHMARKS[name].measure).parameters.values()}


def _run(names: dict[str, dict[str, int]], scale: float) -> int:
    failed = []
    for name, sizes in names.items():
        scaled = {
            k: v if k in ("runs", "size", "limit_mb") else max(1, int(v * scale)) for k, v in sizes.items()
        }
        started = time.monotonic()
        try:
            BENCHMARKS[name].measure(**scaled).finish()
        except Exception as error:
            failed.append(name)
            print(f"\n## {name} failed: {error}", file=sys.stderr)
        print(f"({name} took {time.monotonic() - started:.0f} s)", flush=True)
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    everything = verbs.add_parser("run", help="all but `large`")
    everything.add_argument("--full", action="store_true", help="the full sizes")
    everything.add_argument("--scale", type=float, default=1.0, help="multiply every size")
    for name in BENCHMARKS:
        one = verbs.add_parser(name, help=(BENCHMARKS[name].__doc__ or "").partition("\n")[0])
        one.add_argument("--scale", type=float, default=1.0, help="multiply every size")
        for option, default in _sizes(name).items():
            one.add_argument(
                f"--{option.replace('_', '-')}", type=int, default=default, help=f"default {default:,}"
            )
    options = vars(parser.parse_args())
    verb, scale = options.pop("verb"), options.pop("scale")
    if verb == "run":
        names = {name: _sizes(name) if options["full"] else sizes for name, sizes in SHORT.items()}
        return _run(names, scale)
    return _run({verb: options}, scale)


if __name__ == "__main__":
    sys.exit(main())
