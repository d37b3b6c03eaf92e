"""What a fork of the zygote costs at least: fork, exit and wait, nothing else. ``python -m tests.bench.zygote_fork N``.

Started by ``cold`` in a process of its own, which becomes what the zygote is before its first fork. Prints the
median µs.
"""

import os
import statistics
import sys
import time

from gateway.zygote import child, warm


def main(count: int) -> None:
    warm.warm()
    child.prepare()
    warm.settle()
    taken_us: list[float] = []
    for _ in range(count):
        started_ns = time.perf_counter_ns()
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        taken_us.append((time.perf_counter_ns() - started_ns) / 1000)
    sys.stdout.write(f"{statistics.median(taken_us):.1f}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
