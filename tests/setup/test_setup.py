"""What setup.py does again and what it leaves: its .venv has a Python that only notes what it is told."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LOCAL = Path(__file__).resolve().parent.parent.parent / "deploy" / "local"
PROBE = {
    "implementation": "CPython",
    "version": [3, 13, 0],
    "level": "final",
    "free_threaded": False,
    "bits": 64,
    "missing": [],
}


class Tree:
    """A copy of what setup.py reads, around a fake .venv/bin/python that answers the probe and logs the rest."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = root / "log"
        shutil.copytree(LOCAL, root / "deploy" / "local", ignore=shutil.ignore_patterns("__pycache__"))
        files = ("requirements.lock", "pyproject.toml", "sdk/pyproject.toml", "zigcore/src/a.zig")
        for path in (*files, "gateway/core/libzigcore.so", "gateway/core/_zigcore_abi.py"):
            self.write(path, "first\n")
        python = root / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        probe = "tailcut-probe " + json.dumps({**PROBE, "executable": str(python)})
        python.write_text(f"#!/bin/sh\ncase $1 in -c) echo '{probe}';; *) echo \"$*\" >> {self.log};; esac\n")
        python.chmod(0o755)

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def setup(self) -> list[str]:
        """Runs it; returns the kinds of work that it gave to .venv's Python."""
        self.log.unlink(missing_ok=True)
        command = [sys.executable, str(self.root / "deploy" / "local" / "setup.py")]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stdout + result.stderr
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        kinds = {
            "--require-hashes": "packages",
            "--no-deps": "projects",
            "build_library.py": "library",
            "compileall": "bytecode",
        }
        return [next(kind for word, kind in kinds.items() if word in line) for line in lines]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_the_second_time_there_is_nothing_to_do(tree: Tree) -> None:
    assert tree.setup() == ["packages", "projects", "bytecode"]
    assert tree.setup() == []


@pytest.mark.parametrize(
    ("path", "work"),
    [
        ("requirements.lock", ["packages", "projects", "bytecode"]),
        ("pyproject.toml", ["projects", "bytecode"]),
        ("sdk/pyproject.toml", ["projects", "bytecode"]),
        ("zigcore/src/a.zig", ["library"]),
        ("zigcore/src/new.zig", ["library"]),
        ("gateway/host/node.py", []),
    ],
)
def test_what_changed_is_done_again_and_no_more(tree: Tree, path: str, work: list[str]) -> None:
    tree.setup()
    tree.write(path, "second\n")
    assert tree.setup() == work
    assert tree.setup() == []


def test_a_missing_library_is_built_again(tree: Tree) -> None:
    tree.setup()
    (tree.root / "gateway" / "core" / "libzigcore.so").unlink()
    assert tree.setup() == ["library"]


def test_a_folder_that_was_moved_is_installed_again(tree: Tree, tmp_path: Path) -> None:
    tree.setup()
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    tmp_path.rename(moved)
    tree.root = moved
    python = moved / ".venv" / "bin" / "python"
    python.write_text(python.read_text().replace(str(tree.log), str(moved / "log")))
    tree.log = moved / "log"
    assert tree.setup() == ["projects", "bytecode"]


def test_a_failure_is_said_and_done_again_the_next_time(tree: Tree) -> None:
    python = tree.root / ".venv" / "bin" / "python"
    good = python.read_text()
    python.write_text(good.replace("*) echo", "*) exit 3; echo"))
    command = [sys.executable, str(tree.root / "deploy" / "local" / "setup.py")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "LANG": "C"})
    assert result.returncode == 1
    assert "failed with status 3" in result.stdout + result.stderr
    python.write_text(good)
    assert tree.setup() == ["packages", "projects", "bytecode"]
