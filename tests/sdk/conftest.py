"""An environment in which no profile, key or cache of whoever runs the tests is seen."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.sdk.scripted import Scripted, serve

CLI_TIMEOUT_S = 120


@pytest.fixture
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No credentials anywhere; returns an empty folder that is the current one."""
    for name in ("TAILCUT_SERVER", "TAILCUT_KEY", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    with serve() as script:
        yield script


Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cli(clean_environment: Path) -> Cli:
    """Runs ``tailcut …`` as a process of its own, without a terminal."""

    def run(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tailcut", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=CLI_TIMEOUT_S,
            env={**os.environ, "COLUMNS": "200", **environment},
        )

    return run
