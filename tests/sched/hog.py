"""An ordinary process that burns one CPU: what others get beside it tells how the kernel treats them."""

import os
import subprocess
import sys

from tests.sched import kernel


class Hog:
    def __init__(self, cpu: int) -> None:
        self.cpu = cpu
        self.seen_s = 0.0

    def __enter__(self) -> "Hog":
        self.process = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
        os.sched_setaffinity(self.process.pid, {self.cpu})
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def progress(self) -> float:
        """CPU time since the last call, seconds."""
        now_s = kernel.cpu_s(self.process.pid)
        used_s, self.seen_s = now_s - self.seen_s, now_s
        return used_s
