"""One Valkey and one control plane for the module's tests; those that break things start their own."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.control_plane.dashboard_browser import Browser
from tests.control_plane.running import ControlPlane, Person, Tenant, Valkey, sign_up
from tests.control_plane.stripe import Shop
from tests.support.postgres import Postgres

_numbers = itertools.count(1)


FILES_ONLY = (
    "test_archive",
    "test_uploads",
    "test_dashboard",  # and what begins with it
    "test_http",
    "test_command_line_login",
    "test_usage_page",
)
"""Modules about archives, HTTP and pages: SQL is not what they are about, once is enough."""


SAME_QUERIES = (
    "test_roles",
    "test_naming_another_tenant_finds_nothing",
    "test_another_tenants_ids_are_not_there",
    "test_ids_of_another_tenant_under_an_own_function",
)
"""Ask every endpoint again as somebody else: ``test_scopes`` has sent the same statements to both databases."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Everything that uses the control plane runs on SQLite and on a real PostgreSQL."""
    if "database" in metafunc.fixturenames:
        is_about_files = metafunc.module.__name__.rpartition(".")[2].startswith(FILES_ONLY)
        once = is_about_files or metafunc.function.__name__ in SAME_QUERIES
        names = ["sqlite"] if once else ["sqlite", "postgresql"]
        metafunc.parametrize("database", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def database(request: pytest.FixtureRequest) -> str:
    """DATABASE_URL; empty for the SQLite of the data folder."""
    if request.param == "sqlite":
        return ""
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture(scope="session")
def valkey(database: str) -> Iterator[Valkey]:
    """One for each database: two tables in one Valkey would replace each other."""
    server = Valkey()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def control_plane(valkey: Valkey, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    # The receivers of webhooks are on this machine, and nobody waits for alerts longer than for the rest.
    settings = {
        "TAILCUT_WEBHOOK_PRIVATE_ADDRESSES": "true",
        "TAILCUT_WEBHOOK_RETRY_FIRST": "PT0.2S",
        "TAILCUT_ALERT_INTERVAL": "PT0.1S",
    }
    running = ControlPlane(tmp_path_factory.mktemp("control-plane"), valkey.url, DATABASE_URL=database, **settings)
    yield running
    assert running.stop() == 0


@pytest.fixture
def tenant(control_plane: ControlPlane) -> Iterator[Tenant]:
    """A new one for each test."""
    made = control_plane.new_tenant(f"tenant-{next(_numbers)}")
    yield made
    made.http.close()


@pytest.fixture
def stranger(control_plane: ControlPlane) -> Iterator[Tenant]:
    """Another tenant, with a key that may do everything there."""
    made = control_plane.new_tenant(f"stranger-{next(_numbers)}")
    yield made
    made.http.close()


@pytest.fixture
def owner(control_plane: ControlPlane) -> Iterator[Person]:
    """Somebody who has just signed up, with a tenant of their own."""
    number = next(_numbers)
    made = sign_up(control_plane, f"owner-{number}@example.com", f"owned-{number}")
    yield made
    made.http.close()


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    """One that the test may kill."""
    server = Valkey()
    yield server
    server.stop()


@pytest.fixture
def own_control_plane(own_valkey: Valkey, tmp_path: Path) -> Iterator[ControlPlane]:
    """One that the test may kill, with a Valkey that it may kill."""
    running = ControlPlane(tmp_path / "var", own_valkey.url)
    yield running
    if running.process.poll() is None:
        running.stop()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def either_shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop on each database, for what concurrency and uniqueness make of money; on SQLite the module's own one."""
    if request.param == "sqlite":
        yield request.getfixturevalue("shop")
        return
    server: Postgres = request.getfixturevalue("postgres")
    made = Shop(tmp_path_factory.mktemp("shop-on-postgresql"), DATABASE_URL=server.new_database())
    yield made
    made.stop()


@pytest.fixture
def browser(control_plane: ControlPlane) -> Iterator[Browser]:
    made = Browser(control_plane.url)
    yield made
    made.http.close()


@pytest.fixture
def signed_in(browser: Browser, owner: Person) -> Browser:
    assert "Sign out" in browser.sign_in(owner.email).text
    return browser
