"""Runs the steps of `make check`, `make test` and `make fuzz` one after the other and closes with a summary.

Why not in the Makefile: every step runs even when one before it has failed, so that one run tells everything, and the
last lines say what failed and how to repeat that step alone. Called by the Makefile and, through it, by .ci/run.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
SHOWN_BIN = ".venv/bin"

ZIG_BUILD_FILES = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("zigcore/*.zig"))


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    command: tuple[str, ...]
    folder: str = "."

    def shown(self) -> str:
        text = " ".join(self.command).replace(str(Path(PYTHON).parent), SHOWN_BIN)
        return text if self.folder == "." else f"(cd {self.folder} && ../{text})"


TYPED = ("deploy/local", "tests/run.py", "tests/generated.py", "tests/lint", "tests/setup", "tests/bench")

CHECKS = (
    Step("lint", (PYTHON, "-m", "ruff", "check", ".")),
    Step("format", (PYTHON, "-m", "ruff", "format", "--check", ".")),
    Step("zig format", (PYTHON, "-m", "ziglang", "fmt", "--check", "zigcore/src", *ZIG_BUILD_FILES)),
    Step("types", (PYTHON, "-m", "mypy")),
    Step("types of tools", (PYTHON, "-m", "mypy", *TYPED)),
    Step("import rules", (str(Path(PYTHON).with_name("lint-imports")), "--no-logo")),
    Step("generated files", (PYTHON, "-m", "tests.generated")),
    Step("repository rules", (PYTHON, "-m", "tests.lint")),
)


PYTEST = (PYTHON, "-m", "pytest", "--durations=15", "--durations-min=5")
LONGEST = ("tests/fresh/test_programs.py", "tests/control_plane/test_schemathesis.py")
"""Have few tests, so they would come last, with nothing left to run beside them."""
TWO_AT_ONCE = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
SIDE_BY_SIDE = tuple(
    f"tests/{name}"
    for name in (
        "control_plane",
        "browser",
        "egress",
        "examples",
        "faults",
        "fresh",
        "host",
        "http",
        "quota",
        "sdk",
        "setup",
        "unit",
        "usage",
        "worker",
    )
)
"""Wait for SQL, starts and restarts most of their time; the others load the CPUs that they measure, and run alone."""


ZIG_TESTS = Step("zig tests", (PYTHON, "-m", "ziglang", "build", "test", "--summary", "all"), "zigcore")
"""Compiled on one CPU, beside the checks."""


def tests(pytest_arguments: list[str]) -> tuple[Step, ...]:
    if pytest_arguments:
        return (Step("pytest", (*PYTEST, *pytest_arguments)),)
    return (
        Step("pytest, two at once", (*PYTEST, *TWO_AT_ONCE, *LONGEST, *SIDE_BY_SIDE)),
        Step("pytest", (*PYTEST, *(f"--ignore={folder}" for folder in SIDE_BY_SIDE))),
    )


def fuzzers(seconds: int) -> tuple[Step, ...]:
    return (Step("zig fuzz", (PYTHON, "-m", "ziglang", "build", "fuzz", f"-Dseconds={seconds}"), "zigcore"),)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("what", choices=("checks", "all", "fuzz"))
    parser.add_argument("--seconds", type=int, default=60, help="fuzz: for how long each")
    arguments, rest = parser.parse_known_args()
    if arguments.what == "fuzz":
        return run(fuzzers(arguments.seconds))
    if arguments.what == "checks":
        return run(CHECKS)
    return run(CHECKS, beside=ZIG_TESTS, after=tests(rest))


def run(steps: tuple[Step, ...], beside: Step | None = None, after: tuple[Step, ...] = ()) -> int:
    """``beside`` is run while ``steps`` are, and shown behind them."""
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool, tempfile.TemporaryFile() as output:
        other = pool.submit(once, beside, output) if beside else None
        results = [once(step) for step in steps]
        if other is not None:
            results.append(other.result())
            output.seek(0)
            sys.stdout.write(output.read().decode(errors="replace"))
    results += [once(step) for step in after]
    total_s = time.monotonic() - began
    failed = [step for step, status, _ in results if status != 0]
    print("\n== summary")
    for step, status, took_s in results:
        print(f"  {'ok    ' if status == 0 else 'FAILED'} {step.name:<18} {took_s:6.1f} s")
    if failed:
        print(f"{len(failed)} of {len(results)} steps failed in {total_s:.0f} s. To repeat one:")
        for step in failed:
            print(f"  {step.shown()}")
        return 1
    print(f"all {len(results)} steps passed in {total_s:.0f} s")
    return 0


def once(step: Step, output: IO[bytes] | None = None) -> tuple[Step, int, float]:
    """Whether it succeeded, and how long it took. Shown as it comes, or written to ``output``."""
    title = f"\n== {step.name}: {step.shown()}\n"
    if output is None:
        print(title, end="", flush=True)
    else:
        output.write(title.encode())
        output.flush()
    began = time.monotonic()
    status = subprocess.run(step.command, cwd=ROOT / step.folder, check=False, stdout=output, stderr=output).returncode
    return step, status, time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
