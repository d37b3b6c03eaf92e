"""Runs modules of CPython's own suite in jailed workers, one each, and judges what failed.

Called by test_suite.py (some) and by ``python -m tests.cpython`` (all).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cpython.expected import LONG, QUICK, REASONS
from tests.support import frames
from tests.support.frames import Connection, Zygote

RUNNER = Path(__file__).with_name("runner.py").read_text()
LIMITS = {"processes_max": 256, "open_files_max": 512, "tmp_bytes": 512 * 2**20, "memory_bytes": 2 * 2**30}
DEADLINE_S = 600.0


@dataclass
class Outcome:
    module: str
    run: int = 0
    meant: dict[str, list[str]] = field(default_factory=dict)
    """Why → tests that fail for it."""
    wrong: dict[str, str] = field(default_factory=dict)
    """Test → message, of failures that are not meant."""
    missing: str = ""
    """This installation has no test suite."""


@contextmanager
def workers(folder: Path) -> Iterator[tuple[Connection, Path]]:
    """``folder`` must be readable for everybody: workers are users of their own."""
    frames.DEADLINE_S = DEADLINE_S
    bundle = folder / "bundle"
    bundle.mkdir()
    (bundle / "main.py").write_text(RUNNER)
    for path in (folder, bundle):
        path.chmod(0o755)
    with Zygote(folder) as zygote:
        connection = zygote.connect()
        yield connection, bundle
        connection.close()


def run(connection: Connection, bundle: Path, module: str) -> Outcome:
    worker = connection.spawn(bundle, "main:handler", **LIMITS)
    try:
        word = worker.first_word()
        assert word.kind == "ready", word.body
        answer = worker.call(module=module).answer
    except EOFError:
        return Outcome(module, wrong={module: "the worker ended"})
    finally:
        worker.close()
    if answer.kind != "answer":
        return Outcome(module, wrong={module: str(answer.entries)})
    return judge(module, answer.json)


def judge(module: str, document: dict[str, Any]) -> Outcome:
    outcome = Outcome(module, document.get("run", 0), missing=document.get("missing", ""))
    for test, message in document.get("bad", {}).items():
        group, _, name = test.rpartition(".")
        for reason in REASONS:
            if name in reason.tests.get(group, "").split() and re.match(reason.message, message):
                outcome.meant.setdefault(reason.why, []).append(test)
                break
        else:
            outcome.wrong[test] = message
    least = (QUICK | LONG)[module]
    if not outcome.missing and outcome.run < least:
        outcome.wrong[module] = f"only {outcome.run} tests ran, at least {least} were expected"
    return outcome
