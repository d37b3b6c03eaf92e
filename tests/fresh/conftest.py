"""The workers of tests/worker, as they are delivered; and without the jail, for what it does not let happen."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.frames import Zygote
from tests.worker.conftest import Start, connection, start, starter, zygote

__all__ = ["connection", "start", "start_unjailed", "zygote"]


@pytest.fixture(scope="package")
def unjailed_zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    with Zygote(tmp_path_factory.mktemp("zygote"), environment={"TAILCUT_JAIL": "off"}) as running:
        yield running


@pytest.fixture
def start_unjailed(unjailed_zygote: Zygote, tmp_path: Path) -> Iterator[Start]:
    with closing(unjailed_zygote.connect()) as connection:
        yield from starter(connection, tmp_path / "unjailed")
