"""The search for a Python, against a folder of fakes: shims that fail, hang, lie or are the wrong kind of Python.

Real processes: each fake is a script that the search really runs. The search itself also runs under the oldest Pythons
that this machine has, because `make setup` starts with any Python 3.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

LOCAL = Path(__file__).resolve().parent.parent.parent / "deploy" / "local"
sys.path.insert(0, str(LOCAL))
import interpreters  # noqa: E402

GOOD: dict[str, Any] = {
    "implementation": "CPython",
    "version": [3, 13, 0],
    "level": "final",
    "free_threaded": False,
    "bits": 64,
    "missing": [],
}


class Fakes:
    """A folder on PATH, filled by each test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def script(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o755)
        return path

    def python(self, name: str, **facts: Any) -> Path:
        import json

        answer = json.dumps({**GOOD, "executable": str(self.folder / name), **facts})
        return self.script(name, f"cat <<'END'\nsome noise first\ntailcut-probe {answer}\nEND\n")

    def search(self, timeout_s: float = 5.0) -> interpreters.Search:
        environment = {"PATH": str(self.folder), "HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder)}
        here = [c for c in interpreters.candidates(environment) if c.startswith(str(self.folder))]
        return interpreters.search(here, timeout_s)


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    return Fakes(tmp_path / "bin")


def chosen(search: interpreters.Search) -> str:
    return Path(search.usable[0].path).name if search.usable else ""


def reasons(search: interpreters.Search) -> dict[str, str]:
    return {Path(path).name: reason for path, reason in search.rejected}


def test_a_shim_that_fails_does_not_stop_the_search(fakes: Fakes) -> None:
    fakes.script("python3.13", "echo 'pyenv: python3.13: command not found' >&2\nexit 127\n")
    fakes.python("python3.12", version=[3, 12, 4])
    search = fakes.search()
    assert chosen(search) == "python3.12"
    assert reasons(search) == {"python3.13": "does not run (exit status 127: pyenv: python3.13: command not found)"}


def test_a_shim_that_hangs_is_ended_with_its_children(fakes: Fakes, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    fakes.script("python3.13", f"sleep 600 &\necho $! > {pid_file}\nwait\n")
    fakes.python("python3.12", version=[3, 12, 4])
    search = fakes.search(timeout_s=1.0)
    assert chosen(search) == "python3.12"
    assert "no answer" in reasons(search)["python3.13"]
    child = Path(f"/proc/{pid_file.read_text().strip()}")
    deadline = time.monotonic() + 30
    while child.exists() and " Z " not in (child / "stat").read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not child.exists() or " Z " in (child / "stat").read_text()


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"version": [3, 9, 18]}, "older than 3.12"),
        ({"version": [3, 14, 0], "level": "candidate"}, "pre-release"),
        ({"version": [3, 14, 0], "free_threaded": True}, "free-threaded"),
        ({"implementation": "PyPy"}, "PyPy"),
        ({"bits": 32}, "32-bit"),
        ({"missing": ["ssl"]}, "without ssl"),
    ],
)
def test_a_python_of_the_wrong_kind_is_not_taken(fakes: Fakes, facts: dict[str, Any], reason: str) -> None:
    fakes.python("python3", **facts)
    search = fakes.search()
    assert search.usable == []
    assert reason in reasons(search)["python3"]


@pytest.mark.parametrize("answer", ["", "tailcut-probe {", "tailcut-probe {}", "tailcut-probe [1]", "hello"])
def test_a_program_that_answers_nonsense_is_not_taken(fakes: Fakes, answer: str) -> None:
    fakes.script("python3", f"echo '{answer}'\n")
    assert "does not run" in reasons(fakes.search())["python3"]


def test_a_file_that_is_no_program_is_not_taken(fakes: Fakes) -> None:
    (fakes.folder / "python3").write_bytes(b"\x7fELF nothing")
    (fakes.folder / "python3").chmod(0o755)
    assert "cannot be run" in reasons(fakes.search())["python3"]


def test_the_preferred_version_wins_then_the_newest(fakes: Fakes) -> None:
    fakes.python("python3.12", version=[3, 12, 9])
    fakes.python("python3.14", version=[3, 14, 2])
    assert chosen(fakes.search()) == "python3.14"
    fakes.python("python3.13", version=[3, 13, 1])
    assert chosen(fakes.search()) == "python3.13"


def test_one_that_can_make_environments_wins_over_its_equal(fakes: Fakes) -> None:
    fakes.python("python3.13", missing=["ensurepip"])
    fakes.python("python3")
    search = fakes.search()
    assert chosen(search) == "python3"
    assert [interpreter.has_venv for interpreter in search.usable] == [True, False]


def test_the_running_python_describes_itself() -> None:
    search = interpreters.search([sys.executable])
    assert search.rejected == []
    assert search.usable[0].version == tuple(sys.version_info[:3])


def test_pyenvs_versions_are_found_behind_its_failing_shims(tmp_path: Path) -> None:
    shims = Fakes(tmp_path / "shims")
    shims.script("python3.13", "exit 127\n")
    (tmp_path / "versions" / "3.13.0").mkdir(parents=True)
    real = Fakes(tmp_path / "versions" / "3.13.0" / "bin")
    path = real.python("python3.13")
    found = interpreters.candidates({"PATH": str(shims.folder), "PYENV_ROOT": str(tmp_path), "HOME": str(tmp_path)})
    search = interpreters.search([candidate for candidate in found if candidate.startswith(str(tmp_path))])
    assert [interpreter.path for interpreter in search.usable] == [str(path)]


def old_pythons() -> list[str]:
    """The Pythons 3.6 to 3.11 here, and always the one that runs the tests."""
    folders = [*os.environ.get("PATH", "").split(os.pathsep)]
    folders += [str(p) for p in Path.home().glob(".pyenv/versions/*/bin")]
    found = {sys.executable}
    for folder in folders:
        for minor in range(6, 12):
            path = shutil.which(f"python3.{minor}", path=folder)
            if path and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
                found.add(str(Path(path).resolve()))
    return sorted(found)


def test_setup_runs_under_every_python_3_of_this_machine() -> None:
    program = (
        f"import sys; sys.dont_write_bytecode = True; sys.path.insert(0, {str(LOCAL)!r}); import setup; print('loaded')"
    )
    for python in old_pythons():
        result = subprocess.run([python, "-c", program], capture_output=True, text=True, timeout=60)
        assert result.stdout == "loaded\n", f"{python}: {result.stderr}"
