"""A real PostgreSQL for tests: Debian's package, a cluster in a temporary folder, a Unix socket and no port.

Started by the fixture ``postgres`` of tests/control_plane; deploy/local/packages.py installs the package. PostgreSQL
refuses to run as root: then it runs as the package's user, or as nobody.
"""

import asyncio
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import asyncpg

USER = "tailcut"
_PATIENCE_S = 60.0
_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    # A crash of this machine may take the tests' data with it.
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "log_min_messages": "warning",
}
_numbers = itertools.count(1)


class Postgres:
    def __init__(self) -> None:
        # Not below pytest's folders, which only root may enter; and a socket's path has at most 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="tailcut-pg-"))
        self._log = self.folder / "log"
        runs_as = _whom()
        self._identity: dict[str, object] = {}
        if runs_as is not None:
            self._identity = {"user": runs_as.pw_uid, "group": runs_as.pw_gid, "extra_groups": []}
            os.chown(self.folder, runs_as.pw_uid, runs_as.pw_gid)
        self.folder.chmod(0o700)
        data = self.folder / "data"
        self._run("initdb", "--auth=trust", f"--username={USER}", "--encoding=UTF8", "--no-sync", f"--pgdata={data}")
        settings = {**_SETTINGS, "unix_socket_directories": str(self.folder)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [_program("postgres"), "-D", str(data), *options],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **self._identity,  # type: ignore[call-overload]
            )
        self._wait()

    def new_database(self) -> str:
        """An empty one. → its URL, as DATABASE_URL takes it"""
        name = f"test_{os.getpid()}_{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return f"postgresql://{USER}@/{name}?host={self.folder}"

    def execute(self, statement: str, database: str = "postgres") -> None:
        async def run() -> None:
            connection = await asyncpg.connect(host=str(self.folder), user=USER, database=database)
            try:
                await connection.execute(statement)
            finally:
                await connection.close()

        asyncio.run(run())

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)  # "fast": does not wait for clients
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        result = subprocess.run(
            [_program(program), *arguments],
            capture_output=True,
            text=True,
            cwd=self.folder,
            **self._identity,  # type: ignore[call-overload]
        )
        assert result.returncode == 0, f"{program}: {result.stdout}{result.stderr}"

    def _wait(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            assert self._process.poll() is None, self._log.read_text()
            try:
                self.execute("SELECT 1")
            except (OSError, asyncpg.PostgresError):
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.05)
            else:
                return


def _program(name: str) -> str:
    """The newest that Debian's packages have, else the one on PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    on_path = shutil.which(name)
    assert found or on_path, f"no PostgreSQL here ({name}): `make test` installs it, see deploy/local/packages.py"
    return str(found[-1]) if found else str(on_path)


def _whom() -> "pwd.struct_passwd | None":
    """Whom to run as; None: as ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise AssertionError("neither the user postgres nor nobody is here; PostgreSQL does not run as root")
