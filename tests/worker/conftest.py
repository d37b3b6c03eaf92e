"""A real zygote for the module, and ``start``: a worker of some source code."""

import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.frames import Connection, Worker, Zygote

Start = Callable[..., Worker]


@pytest.fixture(scope="package")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    with Zygote(tmp_path_factory.mktemp("zygote")) as running:
        yield running


@pytest.fixture
def connection(zygote: Zygote) -> Iterator[Connection]:
    made = zygote.connect()
    yield made
    made.close()


@pytest.fixture
def start(connection: Connection, tmp_path: Path) -> Iterator[Start]:
    """``start(source, handler="main:handler", files={...}, ready=True)``: writes a bundle, starts a worker of it."""
    yield from starter(connection, tmp_path)


def starter(connection: Connection, tmp_path: Path) -> Iterator[Start]:
    workers: list[Worker] = []
    numbers = itertools.count()

    def make(
        source: str,
        handler: str = "main:handler",
        *,
        files: dict[str, str] | None = None,
        env: dict[str, str] | None = None,
        ready: bool = True,
        state: str = "warm",
        packages: Sequence[Path] = (),
    ) -> Worker:
        folder = tmp_path / f"bundle{next(numbers)}"
        folder.mkdir(parents=True)
        for name, text in {"main.py": source, **(files or {})}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        for package in packages:
            target = folder / "_packages" / package.name
            if package.is_dir():
                shutil.copytree(package, target)
            else:
                target.parent.mkdir(exist_ok=True)
                shutil.copy(package, target)
        worker = connection.spawn(folder, handler, env, state=state)
        workers.append(worker)
        if ready:
            word = worker.first_word()
            assert word.kind == "ready", word.body.decode()
            worker.ready = word.json
        return worker

    yield make
    for worker in workers:
        worker.close()
