"""A node and the world outside, in two network namespaces of the test's own that a pair of virtual cables connects.

Everything that an egress connects to lives in there: no packet of a test can leave the machine. What the tests speak to
is the egress's socket for a worker, which they make on the machine's own loopback and hand over as a zygote does.
"""

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import server_environment
from tests.egress.outside import METADATA, NAME_SERVER, PRIVATE, PUBLIC
from tests.support.frames import wait_until

HANG_S = 30.0
OWN = "20.0.0.1"
OWN_SECOND, OWN_BY_ROUTE = "20.2.2.2", "20.3.3.7"
"""The second address of one network, to which the kernel sends from the first; one of a network that is all local."""
PUBLIC_6, LOCAL_6 = "2a00:77::10", "fd00:77::1"
OUTSIDE = (
    *(PUBLIC, METADATA, PRIVATE, NAME_SERVER, "172.20.0.1", "192.168.9.9", "100.64.1.1", "198.18.0.1", "203.0.113.10"),
    *("168.63.129.16", "169.254.7.7"),
)
OUTSIDE_6 = (PUBLIC_6, LOCAL_6, "64:ff9b::a4d:1", "2002:a4d:1::1")
MAKE = f"""
set -e
ip link set lo up
mount -t tmpfs tmpfs /mnt
echo 'nameserver {NAME_SERVER}' >/mnt/resolv.conf
echo '127.0.0.1 localhost' >/mnt/hosts
echo '{METADATA} hosts.test' >>/mnt/hosts
echo 'hosts: files dns' >/mnt/nsswitch.conf
for one in resolv.conf hosts nsswitch.conf; do
  test -e /etc/$one || touch /etc/$one
  mount --bind /mnt/$one /etc/$one
done
ip link add node type veth peer name world netns $1
ip address add {OWN}/32 dev node
ip address add 20.2.2.1/24 dev node
ip address add {OWN_SECOND}/24 dev node
ip route add local 20.3.3.0/24 dev lo
ip -6 address add 2a00:77::1/128 dev node nodad
ip link set node up
nsenter --net=/proc/$1/ns/net sh -ec '
  ip link set lo up
  for one in {" ".join(OUTSIDE)}; do ip address add $one/32 dev world; done
  for one in {" ".join(OUTSIDE_6)}; do ip -6 address add $one/128 dev world nodad; done
  ip link set world up
  ip route add default dev world
  ip -6 route add default dev world
'
ip route add default dev node
ip -6 route add default dev node
echo made
exec cat
"""


class World:
    """Both namespaces. ``inside``: the command that runs a program on the node."""

    def __init__(self) -> None:
        self._outer = subprocess.Popen(
            ["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        own = Path("/proc/self/ns/net").readlink()
        wait_until(lambda: self._namespace(self._outer.pid) != own)
        self._node = subprocess.Popen(
            ["unshare", "--net", "--mount", "sh", "-c", MAKE, "sh", str(self._outer.pid)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._node.stdout is not None
        assert self._node.stdout.readline() == "made\n"
        assert own not in (self._namespace(self._node.pid), self._namespace(self._outer.pid))
        self.inside = ("nsenter", f"--net=/proc/{self._node.pid}/ns/net", f"--mount=/proc/{self._node.pid}/ns/mnt")
        self._servers = [
            self._run(("nsenter", f"--net=/proc/{self._outer.pid}/ns/net"), "tests.egress.outside"),
            self._run(self.inside, "tests.egress.own_services"),
        ]

    @staticmethod
    def _namespace(pid: int) -> Path:
        return Path(f"/proc/{pid}/ns/net").readlink()

    @staticmethod
    def _run(before: Sequence[str], module: str) -> subprocess.Popen[str]:
        server = subprocess.Popen(
            [*before, sys.executable, "-m", module], env=server_environment(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert server.stdout is not None
        assert server.stdout.read(5) == "ready"
        return server

    def end(self) -> None:
        for process in (*self._servers, self._node, self._outer):
            process.kill()
            process.communicate()


class Door:
    """One worker's socket, as the egress has it; the worker is a process that sleeps."""

    def __init__(
        self, egress: "Egress", connections_max: int, bytes_per_minute: int, tenant: str, version: str,
        send_bytes: int | None,
    ) -> None:  # fmt: skip
        self.worker = subprocess.Popen(["sleep", "infinity"])
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        if send_bytes is not None:
            # What it accepts has the same buffer.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_bytes)
        self.port: int = listener.getsockname()[1]
        question = {
            "worker": self.worker.pid, "tenant": tenant, "function": "sample", "version_id": version,
            "connections_max": connections_max, "bytes_per_minute": bytes_per_minute,
        }  # fmt: skip
        pidfd = os.pidfd_open(self.worker.pid)
        with egress.connect() as zygote:
            socket.send_fds(zygote, [json.dumps(question).encode()], [listener.fileno(), pidfd])
        os.close(pidfd)
        listener.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=HANG_S)

    def ask(self, *pieces: bytes) -> bytes:
        """All that comes until the egress ends the connection."""
        with self.connect() as worker:
            for piece in pieces:
                worker.sendall(piece)
            return rest(worker)

    def get(self, url: str, host: str = "", **headers: str) -> "Answer":
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        return Answer(self.ask(f"GET {url} HTTP/1.1\r\nHost: {host or 'x'}\r\n{lines}\r\n".encode()))

    def tunnel(self, where: str) -> tuple[socket.socket, "Answer"]:
        """The connection, and what the egress said to CONNECT."""
        worker = self.connect()
        worker.sendall(f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n") and (byte := worker.recv(1)):
            head += byte
        if not head.startswith(b"HTTP/1.1 200 "):
            head += rest(worker)
        return worker, Answer(head)

    def end(self) -> None:
        self.worker.kill()
        self.worker.wait()


class Answer:
    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        assert first.startswith("HTTP/1.1 "), raw[:200]
        self.status = int(first.split()[1])
        self.reason = first.split(maxsplit=2)[2]
        self.headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines}

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def rule(self) -> str:
        """By which the egress has refused it; empty: somebody else has answered."""
        return self.json["rule"] if self.headers.get("content-type") == "application/problem+json" else ""


def rest(worker: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := worker.recv(65536):
            found += piece
    return found


class Egress:
    """A real egress on the node. Settings are TAILCUT_EGRESS_ variables in lower case."""

    def __init__(self, folder: Path, world: World, **settings: object) -> None:
        self.path = folder / "egress.sock"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        self._world = world
        self._settings = {f"TAILCUT_EGRESS_{name.upper()}": str(value) for name, value in settings.items()}
        self._doors: list[Door] = []
        self.log = folder / "egress.log"
        self.start()

    def start(self) -> None:
        ready_read, ready_write = os.pipe()
        fds = [self._listener.fileno(), ready_write]
        own = {"TAILCUT_EGRESS_LISTENER_FD": str(fds[0]), "TAILCUT_READY_FD": str(ready_write)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._world.inside, sys.executable, "-m", "gateway.egress"],
                pass_fds=fds, env=server_environment() | own | self._settings, stderr=log,
            )  # fmt: skip
        os.close(ready_write)
        assert select.select([ready_read], [], [], HANG_S)[0]
        assert os.read(ready_read, 16) == b"ready\n", self.log.read_text()
        os.close(ready_read)

    def connect(self) -> socket.socket:
        there = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        there.settimeout(HANG_S)
        there.connect(str(self.path))
        return there

    def door(
        self, connections_max: int = 64, bytes_per_minute: int = 2**40, tenant: str = "acme", version: str = "ver_1",
        send_bytes: int | None = None,
    ) -> Door:  # fmt: skip
        door = Door(self, connections_max, bytes_per_minute, tenant, version, send_bytes)
        self._doors.append(door)
        return door

    def counters(self, tenant: str = "acme") -> dict[str, Any]:
        found: list[dict[str, Any]] = []
        with self.connect() as there:
            there.send(b"{}")
            while part := there.recv(65536):
                found += json.loads(part)
        return next((one for one in found if one["tenant"] == tenant), {})

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        for door in self._doors:
            door.end()
        self.kill()
        self._listener.close()
        self.path.unlink()


@pytest.fixture(scope="package")
def world() -> Iterator[World]:
    made = World()
    yield made
    made.end()


@pytest.fixture(scope="package")
def egress(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Egress]:
    """As it is delivered."""
    made = Egress(tmp_path_factory.mktemp("egress"), world)
    yield made
    made.end()


@pytest.fixture(scope="package")
def lax(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Egress]:
    """With every rule off, for the controls."""
    made = Egress(tmp_path_factory.mktemp("lax"), world, allow="0.0.0.0/0,::/0,0.0.0.0/0:2375,0.0.0.0/0:4443")
    yield made
    made.end()
