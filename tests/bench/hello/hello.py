"""The functions that are measured. ``apps.py`` and ``floor/worker.py`` do the same work."""

import time

from tailcut import Request


def hello(name: str) -> dict[str, str]:
    return {"greeting": f"Hello, {name}!"}


def spin50us() -> dict[str, bool]:
    return _spin(50_000)


def spin5ms() -> dict[str, bool]:
    return _spin(5_000_000)


def echo(request: Request) -> bytes:
    return request.body


def _spin(ns: int) -> dict[str, bool]:
    end = time.perf_counter_ns() + ns
    while time.perf_counter_ns() < end:
        pass
    return {"spun": True}
