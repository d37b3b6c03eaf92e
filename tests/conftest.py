"""Fixtures for black-box tests: a whole server for the session, and servers of one's own to break.

``server``      starts once: ``tailcut-server up`` on free ports with a temporary data folder. Leave it healthy.
``own_server``  ``own_server(**settings)`` starts another one; settings are TAILCUT_ variables in lower case
                (``header_timeout_ms=500`` is TAILCUT_HEADER_TIMEOUT of half a second; ``supervise=("gateway",)``: only
                these are restarted when they die). Ended after the test.
"""

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from tests.support.server import Server

ROOT = Path(__file__).resolve().parents[1]
FREE_PORTS = ("--gateway-port", "0", "--control-plane-port", "0", "--admin-port", "0")
_duration = TypeAdapter(timedelta)

OwnServer = Callable[..., Server]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"), server_environment(), *FREE_PORTS)
    yield running
    running.stop()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[OwnServer]:
    started: list[Server] = []

    def start(*arguments: str, **settings: object) -> Server:
        env = server_environment(**settings)
        running = Server(tmp_path / f"server{len(started)}", env, *FREE_PORTS, "--no-example", *arguments)
        started.append(running)
        return running

    yield start
    for running in started:
        running.stop()


def server_environment(**settings: object) -> dict[str, str]:
    """This process's environment without what would point the server elsewhere, and with ``settings``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TAILCUT_")}
    for name in ("REDIS_URL", "DATABASE_URL"):
        kept.pop(name, None)
    paths = [str(ROOT), str(ROOT / "sdk"), *kept.get("PYTHONPATH", "").split(os.pathsep)]
    kept["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path for path in paths if path))
    for name, value in settings.items():
        if name.endswith("_timeout_ms") and isinstance(value, int):
            text = _duration.dump_python(timedelta(milliseconds=value), mode="json")
        else:
            text = ",".join(value) if isinstance(value, tuple) else str(value)
        name_upper = name.upper().removesuffix("_MS")
        kept[name_upper if name_upper in ("REDIS_URL", "DATABASE_URL") else f"TAILCUT_{name_upper}"] = text
    return kept
