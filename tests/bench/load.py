"""wrk, run once: what is sent, how it is pinned, what is counted. wrk counts each failed request; so do we."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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
    content_type: str = "application/json"
    paths: tuple[str, ...] = ()
    """Each request goes to the next of these; none: all go to ``url``."""


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
    with body_file(target) as path:
        environment = {
            **os.environ,
            "BENCH_BODY_FILE": path,
            "BENCH_AUTHORIZATION": target.authorization,
            "BENCH_CONTENT_TYPE": target.content_type,
            **({"BENCH_PATHS": "\n".join(target.paths)} if target.paths else {}),
        }
        result = subprocess.run(
            ["taskset", "-c", str(cpu), *command],
            capture_output=True,
            text=True,
            timeout=seconds + 60,
            env=environment,
        )
    return parse(result.stdout, result.stderr)


@contextmanager
def body_file(target: Target) -> Iterator[str]:
    """The body as a file: an environment holds no megabyte."""
    with tempfile.NamedTemporaryFile(prefix="tailcut-bench-") as file:
        file.write(target.body.encode())
        file.flush()
        yield file.name


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


def install_tools() -> None:
    """wrk and nginx are Debian packages; as root they are installed, with a message."""
    missing = [package for program, package in (("wrk", "wrk"), ("nginx", "nginx-light")) if not found(program)]
    if missing:
        program = f"import setup, sys; sys.exit(not setup.apt_install({missing!r}, 'make bench measures with them'))"
        subprocess.run([sys.executable, "-c", program], cwd=ROOT / "deploy" / "local")
    if not found("wrk"):
        raise LoadError("wrk is needed and not here: install the package wrk, then run this again")


def found(program: str) -> str | None:
    """nginx lies where only root looks."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
