"""The window shrinks when the store says so, grows again, never loses a place, and keeps the budget."""

from __future__ import annotations

import asyncio
import random
import time

from s3gc.store.limiter import Limiter


async def test_no_more_than_the_window_run_at_once_whatever_is_cancelled() -> None:
    limiter = Limiter(5)
    draw = random.Random(7)
    running = highest = 0

    async def work() -> None:
        nonlocal running, highest
        await limiter.acquire()
        running += 1
        highest = max(highest, running)
        try:
            await asyncio.sleep(draw.random() * 0.005)
            if draw.random() < 0.1:
                limiter.slow_down()
            else:
                limiter.succeeded()
        finally:
            running -= 1
            limiter.release()

    tasks = [asyncio.create_task(work()) for _ in range(300)]
    for task in draw.sample(tasks, 100):
        await asyncio.sleep(0.0005)
        task.cancel()
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
    assert highest <= 5
    assert limiter.in_flight == 0
    await asyncio.wait_for(limiter.acquire(), 30)


def test_slow_down_halves_once_a_second_and_successes_win_it_back() -> None:
    now = [0.0]
    limiter = Limiter(32, clock=lambda: now[0])
    for _ in range(10):
        limiter.slow_down()  # one overload answers many requests
    assert limiter.window == 16
    for second in range(1, 8):
        now[0] = float(second)
        limiter.slow_down()
    assert limiter.window == 1
    for _ in range(2000):
        limiter.succeeded()
    assert limiter.window == 32


async def test_the_budget_of_requests_a_second_is_kept() -> None:
    limiter = Limiter(64, requests_per_second=100)
    started = time.monotonic()

    async def one() -> None:
        await limiter.acquire()
        limiter.release()

    await asyncio.gather(*(one() for _ in range(41)))
    assert 0.39 <= time.monotonic() - started < 20
