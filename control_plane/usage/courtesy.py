"""How long booking rests when others want the CPU it runs on.

Called by ``consumer`` between two full runs. A tenth of a CPU is what nice 10 should leave to booking, and beside a
reactor and a worker that hand one CPU to each other with every call it took a third of it: whoever yields lets
whoever waits go first. So booking measures whether it had to wait for a CPU, and then takes `SHARE` of one, until its
records are `LAG_MAX_S` old: a burst of calls is served first and booked afterwards, a load that stays is booked
beside it. Nothing is lost meanwhile: records wait in the journal, on disk (docs/decisions/0020).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

SHARE: Final = 0.02
"""Of one CPU, while others want it"""
LAG_MAX_S: Final = 60.0
"""Older records are booked as fast as nice 10 lets them be."""
PAUSE_MAX_S: Final = 5.0
"""It looks again by then: the load may be over."""
_THREADS: Final = Path("/proc/self/task")


@dataclass(slots=True)
class Courtesy:
    ran_ns: int = 0
    waited_ns: int = 0

    def pause_s(self, lag_s: float) -> float:
        """After a run of which the last record is ``lag_s`` old: how long to rest. Counts from the call before."""
        ran_ns, waited_ns = _scheduled()
        ran, waited = ran_ns - self.ran_ns, waited_ns - self.waited_ns
        self.ran_ns, self.waited_ns = ran_ns, waited_ns
        return rest_s(ran / 1e9, waited / 1e9, lag_s)


def rest_s(ran_s: float, waited_s: float, lag_s: float) -> float:
    """For a run that had a CPU for ``ran_s``, and wanted one without having it for ``waited_s``."""
    if lag_s > LAG_MAX_S or waited_s < ran_s:
        return 0.0
    return min(ran_s * (1 / SHARE - 1), PAUSE_MAX_S)


def _scheduled() -> tuple[int, int]:
    """(ns on a CPU, ns waiting for one) of all threads of this process; of a kernel without these figures, zeros."""
    ran_ns = waited_ns = 0
    for thread in _THREADS.iterdir():
        try:
            ran, waited, _ = (thread / "schedstat").read_text().split()
        except (OSError, ValueError):
            continue  # the thread has ended
        ran_ns += int(ran)
        waited_ns += int(waited)
    return ran_ns, waited_ns
