"""Two servers with the same hostile function: one as it is delivered, one without the jail, for the controls."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.conftest import FREE_PORTS, server_environment
from tests.support.server import Deployed, Server

HOSTILE = {
    name: Path(__file__).with_name(source).read_text()
    for name, source in (("main.py", "hostile.py"), ("hostile_worker.py", "hostile_worker.py"))
}
SECRET = "CODE-OF-ANOTHER-TENANT"
ABSTRACT = f"tailcut-test-abstract-{os.getpid()}"

Attempt = Callable[..., dict[str, Any]]


def deploy_all(server: Server, **limits: int) -> dict[str, Any]:
    """The hostile function and its victim; what an attacker knows. Control groups hold ``limits`` in any case."""
    victim = server.deploy("victim", f"SECRET = '{SECRET}'\n{LEAVES}", env={"TOKEN": SECRET})
    assert server.invoke("victim").json() == "left"
    server.wait_for(lambda: any(line["text"] == "left" for line in server.function_logs()), what="the victim's line")
    server.deploy("hostile", HOSTILE, timeout_ms=20_000, **limits)
    server.deploy("brief", HOSTILE, timeout_ms=1_000, **limits)
    # Warm: what a call leaves is to be looked at.
    server.deploy("processes", HOSTILE, timeout_ms=20_000, processes=True, state="warm", **limits)
    versions = server.data_dir / "gateway" / "versions"
    return {
        "data_dir": str(server.data_dir),
        "versions": str(versions),
        "other_version": bundle_folder(versions, victim),
        "gateway_pid": server.pid("gateway"),
        "control_plane_port": urlsplit(server.control_plane_url).port,
        "valkey_socket": valkey_socket(server),
        "abstract_name": ABSTRACT,
        "site_packages": str(Path(pytest.__file__).parents[1]),
    }


LEAVES = """
import pathlib
def handler():
    pathlib.Path('/tmp/left-by-another-function').write_text(SECRET)
    print('left', flush=True)
    return 'left'
"""


def bundle_folder(versions: Path, victim: Deployed) -> str:
    (found,) = (path.name for path in versions.iterdir() if SECRET in (path / "main.py").read_text())
    return found


def valkey_socket(server: Server) -> str:
    """As the gateway was told it."""
    (url,) = (
        entry.removeprefix("REDIS_URL=")
        for entry in Path(f"/proc/{server.pid('gateway')}/environ").read_text().split("\0")
        if entry.startswith("REDIS_URL=")
    )
    return unquote(urlsplit(url).path)


def attempts(server: Server, about: dict[str, Any]) -> Attempt:
    def attempt(name: str, function: str = "hostile") -> dict[str, Any]:
        answer = server.invoke(function, attempt=name, about=about)
        document: dict[str, Any] = answer.json()
        return document

    return attempt


@pytest.fixture(scope="package", autouse=True)
def abstract_listener() -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0" + ABSTRACT)
        listener.listen(8)
        yield


@pytest.fixture(scope="package")
def jailed(server: Server) -> Attempt:
    """Calls the hostile function: what it got, or how it was refused."""
    return attempts(server, deploy_all(server))


@pytest.fixture(scope="package")
def unjailed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attempt]:
    """The same where there is no jail."""
    running = Server(tmp_path_factory.mktemp("unjailed"), server_environment(jail="off"), *FREE_PORTS, "--no-example")
    try:
        yield attempts(running, deploy_all(running, processes_max=256, memory_bytes=2**30))
    finally:
        running.stop()
        Path("/tmp/left-by-another-function").unlink(missing_ok=True)
