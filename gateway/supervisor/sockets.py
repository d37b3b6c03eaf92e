"""The listening sockets: opened here, inherited by the children, kept open over their restarts.

A gateway that dies leaves new connections queued in these sockets instead of refused. There is one per reactor with
SO_REUSEPORT; the kernel spreads connections over them.
"""

import errno
import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

from gateway.supervisor.problems import EXIT_PORT_TAKEN, CannotStart

_UNIX_PATH_BYTES_MAX = 107
"""sun_path of unix(7), without its NUL."""


@dataclass(frozen=True, slots=True)
class Listeners:
    gateway: tuple[socket.socket, ...]
    admin: socket.socket
    zygote: socket.socket
    zygote_path: Path
    egress: socket.socket
    egress_path: Path
    reserved: socket.socket
    """Bound to the control plane's port, never listening: nobody else gets the port while that process restarts."""

    @property
    def gateway_port(self) -> int:
        return int(self.gateway[0].getsockname()[1])

    @property
    def admin_port(self) -> int:
        return int(self.admin.getsockname()[1])

    @property
    def control_plane_port(self) -> int:
        return int(self.reserved.getsockname()[1])

    def close(self) -> None:
        for one in (*self.gateway, self.admin, self.zygote, self.egress, self.reserved):
            one.close()
        self.zygote_path.unlink(missing_ok=True)
        self.egress_path.unlink(missing_ok=True)


def open_listeners(
    host: str, gateway_port: int, admin_port: int, control_plane_port: int, count: int, backlog: int, run_dir: Path
) -> Listeners:
    """Raises CannotStart with the port and its option when one is taken."""
    first = _listener(host, gateway_port, "--gateway-port", backlog, reuse_port=True)
    port = int(first.getsockname()[1])
    others = [_listener(host, port, "--gateway-port", backlog, reuse_port=True, first=False) for _ in range(count - 1)]
    admin = _listener("127.0.0.1", admin_port, "--admin-port", 128)
    reserved = _bound(host, control_plane_port, "--control-plane-port")
    zygote, zygote_path = _private_listener(run_dir / "zygote.sock")
    egress, egress_path = _private_listener(run_dir / "egress.sock")
    return Listeners((first, *others), admin, zygote, zygote_path, egress, egress_path, reserved)


def run_folder(data_dir: Path) -> Path:
    """Where UNIX sockets live: ``var/run``, or a private folder in /tmp if that path is too long for the kernel."""
    folder = data_dir / "run"
    if len(os.fsencode(folder / "control-plane-reserve.sock")) <= _UNIX_PATH_BYTES_MAX:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        return folder
    return Path(tempfile.mkdtemp(prefix="tailcut-run-"))


def _listener(
    host: str, port: int, option: str, backlog: int, *, reuse_port: bool = False, first: bool = True
) -> socket.socket:
    if first and port and reuse_port:
        # With SO_REUSEPORT the kernel would let us share a port with a server that already uses it that way.
        _bound(host, port, option).close()
    one = _bound(host, port, option, reuse_port=reuse_port)
    try:
        one.listen(backlog)
    except OSError as error:
        raise _refused(host, port, option, error) from None
    return one


def _bound(host: str, port: int, option: str, *, reuse_port: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    one = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        one.bind((host, port))
    except OSError as error:
        one.close()
        raise _refused(host, port, option, error) from None
    return one


def _refused(host: str, port: int, option: str, error: OSError) -> CannotStart:
    if error.errno == errno.EADDRINUSE:
        return CannotStart(
            f"port {port} on {host} is taken by another program: stop it, or choose another one with {option}",
            EXIT_PORT_TAKEN,
        )
    if error.errno == errno.EACCES:
        return CannotStart(f"port {port} needs privileges: choose one above 1023 with {option}", EXIT_PORT_TAKEN)
    return CannotStart(f"cannot listen on {host}:{port} ({option}): {error.strerror}", EXIT_PORT_TAKEN)


def _private_listener(path: Path) -> tuple[socket.socket, Path]:
    path.unlink(missing_ok=True)  # left by a supervisor that was killed; the instance lock says that none runs
    one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    one.bind(str(path))
    path.chmod(0o600)
    one.listen(128)
    return one, path
