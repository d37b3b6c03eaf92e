"""The workers of tests/worker and a whole server, both without the jail: it does not give a worker yet what a
checkpoint needs (test_inside_the_jail_it_is_refused_with_the_reason)."""

from collections.abc import Iterator

import pytest

from tests.conftest import FREE_PORTS, server_environment
from tests.support.frames import Zygote
from tests.support.server import Server
from tests.worker.conftest import connection, start

__all__ = ["connection", "server", "start", "zygote"]


@pytest.fixture(scope="package")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    with Zygote(tmp_path_factory.mktemp("zygote"), environment={"TAILCUT_JAIL": "off"}) as running:
        yield running


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("unjailed"), server_environment(jail="off"), *FREE_PORTS, "--no-example")
    yield running
    running.stop()
