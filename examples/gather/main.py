"""Asks many sources at once, a few at a time, and does not wait for the slow ones.

Typed and ``async``. The sources are imitated (each answers after the given time), so that the example needs no
network: put your HTTP or database client into ``_ask``.
"""

import asyncio
import time
from typing import Any

SOURCES_MAX = 100
CONCURRENCY_MAX = 32


async def gather(delays_ms: list[int], concurrency: int = 4, timeout_ms: int = 1000) -> dict[str, Any]:
    """Asks one source per delay, at most ``concurrency`` at once, and gives up on the rest at ``timeout_ms``."""
    if not 1 <= concurrency <= CONCURRENCY_MAX or len(delays_ms) > SOURCES_MAX:
        raise ValueError(f"concurrency is 1 to {CONCURRENCY_MAX}, delays_ms has at most {SOURCES_MAX} entries")
    started = time.monotonic()
    gate = _Gate(concurrency)
    tasks = [asyncio.create_task(_ask(gate, index, delay_ms)) for index, delay_ms in enumerate(delays_ms)]
    answers: list[str | None] = []
    if tasks:
        done, late = await asyncio.wait(tasks, timeout=timeout_ms / 1000)
        for task in late:
            task.cancel()
        # Nothing runs on after the answer.
        await asyncio.gather(*late, return_exceptions=True)
        answers = [task.result() if task in done else None for task in tasks]
    return {
        "answers": answers,
        "late": answers.count(None),
        "most_at_once": gate.most,
        "took_ms": round((time.monotonic() - started) * 1000),
    }


class _Gate:
    """A semaphore that remembers how many were inside at once."""

    def __init__(self, places: int) -> None:
        self._semaphore = asyncio.Semaphore(places)
        self._inside = 0
        self.most = 0

    async def __aenter__(self) -> None:
        await self._semaphore.acquire()
        self._inside += 1
        self.most = max(self.most, self._inside)

    async def __aexit__(self, *_: object) -> None:
        self._inside -= 1
        self._semaphore.release()


async def _ask(gate: _Gate, index: int, delay_ms: int) -> str:
    async with gate:
        await asyncio.sleep(delay_ms / 1000)
        return f"source {index} answered after {delay_ms} ms"
