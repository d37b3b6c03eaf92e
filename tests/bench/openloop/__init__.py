"""Latency at a given rate, without coordinated omission: builds and runs openloop.c.

Called by ``__main__``: the curve over a share of a peer's capacity, and p99 of fresh against warm.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench.load import LoadError, Target, body_file

SOURCE = Path(__file__).with_name("openloop.c")
CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class Point:
    """Of one run at one rate."""

    due: int
    answered: int
    rate_per_s: float
    p50_us: int
    p90_us: int
    p99_us: int
    p999_us: int
    max_us: int
    errors_status: int
    errors_connection: int
    unanswered: int

    @property
    def errors(self) -> dict[str, int]:
        kinds = {"status": self.errors_status, "connection": self.errors_connection, "unanswered": self.unanswered}
        return {kind: count for kind, count in kinds.items() if count}


def build(folder: Path) -> Path:
    program = folder / "openloop"
    command = [sys.executable, "-m", "ziglang", "cc", "-O2", "-Wall", "-Werror", "-o", str(program), str(SOURCE), "-lm"]
    subprocess.run(command, check=True)
    return program


def run(
    program: Path, target: Target, rate_per_s: float, seconds: float, cpu: int, connections: int = CONNECTIONS
) -> Point:
    url = urlsplit(target.url)
    with body_file(target) as body:
        command = ["taskset", "-c", str(cpu), str(program), str(url.port), url.path, str(connections)]
        command += [f"{rate_per_s:.1f}", f"{seconds:.1f}", body, target.content_type, target.authorization]
        result = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    if result.returncode:
        raise LoadError(f"openloop failed: {result.stderr.strip()[-400:]}")
    return Point(**json.loads(result.stdout))
