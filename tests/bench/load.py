"""wrk, run once: what is sent, how it is pinned, what is counted. wrk counts each failed request; so do we."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = Path(__file__).with_name("load.lua")
CONNECTIONS_MAX = 64


class LoadError(Exception):
    """wrk cannot be had or did not run."""


@dataclass(frozen=True, slots=True)
class Target:
    """What to send where. Every peer gets the same body and the same headers, needed or not."""

    url: str
    body: str
    authorization: str = "Bearer none"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of wrk against one peer."""

    requests_per_s: float
    p50_us: int
    p99_us: int
    p999_us: int
    max_us: int
    requests: int
    errors: dict[str, int]
    """Kind → how many; only the kinds that happened."""


def run(target: Target, seconds: int, connections: int, cpu: int) -> Run:
    if not 1 <= connections <= CONNECTIONS_MAX:
        raise LoadError(f"{connections} connections; 1 to {CONNECTIONS_MAX} are allowed")
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(SCRIPT), target.url]
    environment = {**os.environ, "BENCH_BODY": target.body, "BENCH_AUTHORIZATION": target.authorization}
    result = subprocess.run(
        ["taskset", "-c", str(cpu), *command],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        env=environment,
    )
    return parse(result.stdout, result.stderr)


def parse(output: str, error_output: str = "") -> Run:
    lines = [line for line in output.splitlines() if line.startswith('{"requests"')]
    if len(lines) != 1:
        raise LoadError(f"wrk did not report: {(error_output or output).strip()[-400:]}")
    facts = json.loads(lines[0])
    errors = {key.removeprefix("errors_"): n for key, n in facts.items() if key.startswith("errors_") and n}
    if not facts["requests"]:
        errors["no answer"] = 1
    return Run(
        requests_per_s=facts["requests"] / max(facts["duration_us"], 1) * 1e6,
        p50_us=facts["p50_us"],
        p99_us=facts["p99_us"],
        p999_us=facts["p999_us"],
        max_us=facts["max_us"],
        requests=facts["requests"],
        errors=errors,
    )


def need_wrk() -> None:
    """wrk is a Debian package; as root it is installed, with a message."""
    if shutil.which("wrk"):
        return
    program = "import setup, sys; sys.exit(not setup.apt_install(['wrk'], 'it makes the load of make bench'))"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT / "deploy" / "local")
    if not shutil.which("wrk"):
        raise LoadError("wrk is needed and not here: install the package wrk, then run this again")
