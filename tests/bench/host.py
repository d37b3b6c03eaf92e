"""Small things about this machine that every part of the benchmark needs: ports, CPUs, programs, environments."""

import os
import shutil
import socket
import sys
from pathlib import Path

from tests.bench.load import ROOT


class PeerError(Exception):
    """A peer does not start or answers something else."""


def pinned(cpu: int | str) -> list[str]:
    return ["taskset", "-c", str(cpu)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment() -> dict[str, str]:
    """Ours, with the repository first on the path, and without what would turn the servers' or our own settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TAILCUT_", "UVICORN_", "GRANIAN_", "UWSGI_"))}
    return {**kept, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "sdk")])}


def script(name: str) -> str:
    path = Path(sys.executable).with_name(name)
    found = str(path) if path.exists() else shutil.which(name)
    if found is None:
        raise PeerError(f"the command {name} is not installed: run make setup")
    return found


def installed(distribution: str) -> str:
    from importlib.metadata import version

    return version(distribution)
