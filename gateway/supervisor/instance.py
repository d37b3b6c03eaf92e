"""One supervisor per data folder: a lock that dies with its holder, and a file that says what runs.

``var/supervisor.lock`` is held by flock(2) for the life of the supervisor; ``var/supervisor.json`` says its pid, the
children's, the ports and URLs. `down`, `status` and `--detach` read it.
"""

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from gateway.supervisor.problems import EXIT_ALREADY_RUNNING, CannotStart


class Instance:
    """The right to run on ``data_dir``. Raises CannotStart if another supervisor has it."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self._path = data_dir / "supervisor.json"
        self._lock = os.open(data_dir / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            other = read_status(data_dir) or {}
            raise CannotStart(
                f"Tailcut already runs on {data_dir} (pid {other.get('pid', 'unknown')}): "
                "`tailcut-server status` shows it, `tailcut-server down` stops it, --data-dir chooses another folder",
                EXIT_ALREADY_RUNNING,
            ) from None
        self._path.unlink(missing_ok=True)

    def write(self, status: dict[str, Any]) -> None:
        staged = self._path.with_suffix(".new")
        staged.write_text(json.dumps(status, indent=2) + "\n")
        staged.chmod(0o600)
        staged.replace(self._path)

    def release(self) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._lock)


def read_status(data_dir: Path) -> dict[str, Any] | None:
    """What the supervisor of ``data_dir`` last wrote; None when there is none or it cannot be read."""
    try:
        status = json.loads((data_dir / "supervisor.json").read_text())
    except (OSError, ValueError):
        return None
    return status if isinstance(status, dict) else None


def running_pid(data_dir: Path) -> int | None:
    """The pid of the supervisor that holds the lock of ``data_dir``; None when nobody does."""
    try:
        descriptor = os.open(data_dir / "supervisor.lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = (read_status(data_dir) or {}).get("pid")
        return pid if isinstance(pid, int) else 0
    else:
        return None
    finally:
        os.close(descriptor)
