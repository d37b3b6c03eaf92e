"""Another user of the same machine: what `tailcut-server up` leaves in its data folder is not for them."""

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import FREE_PORTS, server_environment
from tests.support.server import Server

HELLO = "def handler():\n    return 'hello'\n"
_READ, _ENTER = 0o4, 0o1


def open_to_others(folder: Path) -> Iterator[Path]:
    """Files and sockets below ``folder`` that somebody else could open, whoever may enter ``folder`` itself."""
    for entry in folder.iterdir():
        mode = entry.lstat().st_mode
        if stat.S_ISDIR(mode):
            if mode & _ENTER:
                yield from open_to_others(entry)
        elif mode & _READ:
            yield entry


@pytest.fixture
def short() -> Iterator[Path]:
    """Paths of Unix sockets have 107 bytes at most; pytest's own folders are longer when tests run side by side."""
    with tempfile.TemporaryDirectory(prefix="tc-", dir="/tmp") as folder:
        yield Path(folder)


def test_nothing_in_the_data_folder_can_be_read_by_others(short: Path) -> None:
    before = os.umask(0o022)  # what most people have
    server = None
    try:
        # Workers are other users, and read their code below it.
        short.chmod(0o755)
        server = Server(short / "server", server_environment(), *FREE_PORTS, "--no-example")
        server.deploy("hello", HELLO)
        assert server.invoke("hello").json() == "hello"
        judge(server)
    finally:
        os.umask(before)
        if server is not None:
            server.stop()


def judge(server: Server) -> None:
    names = {path.name for path in server.data_dir.rglob("*")}
    assert {"control-plane.db", "valkey.sock", "zygote.sock", "gateway.log", "operator-token"} <= names
    ours = [path for path in open_to_others(server.data_dir) if not path.name.startswith("up-")]  # the test's own file
    assert ours == []


def test_the_search_finds_an_open_file(tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0o700)
    for folder in (tmp_path, tmp_path / "shut"):
        path = folder / "secret"
        path.write_text("x")
        path.chmod(0o644)
    assert list(open_to_others(tmp_path)) == [tmp_path / "secret"]
