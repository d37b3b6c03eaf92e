"""Load for minutes: whether memory and descriptors stay what they were.

Called by ``__main__``. Fresh and warm functions in turns, one second of wrk each; between them the server's processes
are looked at. What always holds: the first third warms up, the second is compared with the last.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench import load
from tests.bench.load import Target
from tests.bench.tailcut_server import TailcutServer, private_bytes

GROWTH_MAX = 0.02
"""Of memory; and this much more, since little processes grow by pages."""
GROWTH_BYTES_MAX = 2 * 2**20


@dataclass(frozen=True, slots=True)
class Sample:
    seconds: float
    memory_bytes: int
    """Private memory of the gateway, the zygote and the workers."""
    descriptors: int
    workers: int


@dataclass(frozen=True, slots=True)
class Soak:
    seconds: float
    requests: int
    errors: dict[str, int]
    samples: list[Sample]

    def third(self, number: int) -> list[Sample]:
        length = max(len(self.samples) // 3, 1)
        return self.samples[number * length : (number + 1) * length] or self.samples[-1:]

    @property
    def memory_flat(self) -> bool:
        before, after = (statistics.median(s.memory_bytes for s in self.third(n)) for n in (1, 2))
        return after <= before * (1 + GROWTH_MAX) + GROWTH_BYTES_MAX

    @property
    def descriptors_flat(self) -> bool:
        before, after = (statistics.median(s.descriptors for s in self.third(n)) for n in (1, 2))
        return after <= before


def measure(
    server: TailcutServer, targets: list[Target], seconds: float, cpu: int, tell: Callable[[str], None]
) -> Soak:
    started = time.monotonic()
    samples: list[Sample] = []
    requests = 0
    errors: dict[str, int] = {}
    told = started
    while (passed := time.monotonic() - started) < seconds:
        for target in targets:
            run = load.run(target, 1, 16, cpu)
            requests += run.requests
            for kind, count in run.errors.items():
                errors[kind] = errors.get(kind, 0) + count
        samples.append(_look(server, passed))
        if time.monotonic() - told > 20:
            told = time.monotonic()
            last = samples[-1]
            tell(f"soak: {passed:4.0f} s, {last.memory_bytes / 2**20:.1f} MiB, {last.descriptors} descriptors")
    return Soak(time.monotonic() - started, requests, errors, samples)


def _look(server: TailcutServer, passed: float) -> Sample:
    workers = server.workers()
    watched = [pid for name, pid in server.pids().items() if "gateway" in name or "zygote" in name]
    memory = descriptors = 0
    for pid in [*watched, *workers]:
        try:
            memory += private_bytes(pid)
            descriptors += len(list(Path(f"/proc/{pid}/fd").iterdir()))
        except (FileNotFoundError, ProcessLookupError):
            # A worker that was replaced meanwhile.
            continue
    return Sample(passed, memory, descriptors, len(workers))
