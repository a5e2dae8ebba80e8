"""Runs one cycle in a process of its own, so that a test can kill it: ``python -m tests.library.cycle.runner CONFIG``.

CONFIG is JSON: the keywords of `create_config`. Prints the result as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys

from s3gc import create_config, initialize_gc_state, run_gc_cycle, shutdown_gc_state


async def main(text: str) -> None:
    config = create_config(**json.loads(text))
    state = await initialize_gc_state(config)
    try:
        print((await run_gc_cycle(config, state)).model_dump_json())
    finally:
        await shutdown_gc_state(state)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
