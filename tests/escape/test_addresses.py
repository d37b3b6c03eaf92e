"""Cloud metadata and private addresses: given to an interface in a network namespace that the test makes, so that the
control reaches them there and no packet can leave the machine."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.escape.conftest import HOSTILE
from tests.support.frames import Zygote

PORT = 8123
ADDRESSES = ("169.254.169.254", "10.77.0.1")
IN_A_NETWORK = (
    *("unshare", "--net", "sh", "-c"),
    # A kernel without dummy interfaces has the addresses on the namespace's own loopback.
    "ip link set lo up && (ip link add d0 type dummy 2>/dev/null && ip link set d0 up && echo d0 || echo lo) | "
    "(read device && " + " && ".join(f"ip address add {one}/32 dev $device" for one in ADDRESSES) + ') && exec "$@"',
    "sh",
)
ANSWERS = f"""
import socket, sys, os
with socket.create_server(("0.0.0.0", {PORT})) as listener:
    os.write(1, b"ready")
    while True:
        listener.accept()[0].close()
"""
ATTEMPTS = ("metadata of the cloud", "a private address", "a datagram to a private address")


class Network:
    """A namespace with the addresses, and who answers there."""

    def __init__(self) -> None:
        command = [*IN_A_NETWORK, sys.executable, "-c", ANSWERS]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.read(5) == b"ready"
        self.enter = ("nsenter", f"--net=/proc/{self.process.pid}/ns/net")

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    made = Network()
    yield made
    made.end()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    for parent in (tmp_path, tmp_path.parent):
        parent.chmod(0o755)
    for name, text in HOSTILE.items():
        (tmp_path / name).write_text(text)
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


def attempts(network: Network, folder: Path, jail: str) -> dict[str, Any]:
    with Zygote(folder, before=network.enter, environment={"TAILCUT_JAIL": jail}) as zygote:
        connection = zygote.connect()
        worker = connection.spawn(folder, "main:handler")
        assert worker.first_word().kind == "ready"
        about = {"port": PORT}
        return {name: worker.call(attempt=name, about=about).json for name in ATTEMPTS}


def test_no_address_is_reached_from_a_jail(network: Network, folder: Path) -> None:
    assert Path(f"/proc/{network.process.pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    for name, outcome in attempts(network, folder, "on").items():
        assert outcome.get("refused") == "EPERM", (name, outcome)


def test_control_they_are_reached_where_there_is_no_jail(network: Network, folder: Path) -> None:
    for name, outcome in attempts(network, folder, "off").items():
        assert "done" in outcome, (name, json.dumps(outcome))
