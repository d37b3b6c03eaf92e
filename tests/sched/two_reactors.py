"""``python -m tests.sched.two_reactors python -m gateway.supervisor up …``: the same with two reactors on one CPU.

Where one of two CPUs is reserved one reactor is left, and what happens between two cannot be seen. Called as a wrapper
of tests.support.server. What always holds: nothing else of the server is another.
"""

import os
import sys
from collections.abc import Iterable

from gateway.supervisor import checks, cli


def main() -> None:
    checks.shared_cpus = twice_the_first
    sys.argv = ["tailcut-server", *sys.argv[sys.argv.index("up") :]]
    cli.main()


def twice_the_first(wanted: Iterable[int], reserved: Iterable[int]) -> tuple[int, ...]:
    del wanted
    cpu = min(os.sched_getaffinity(0) - set(reserved))
    return (cpu, cpu)


if __name__ == "__main__":
    main()
