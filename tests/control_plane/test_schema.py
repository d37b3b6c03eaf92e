"""The database's schema, the OpenAPI document and the commands."""

import json
import sqlite3
from pathlib import Path

import httpx
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from control_plane.migrate import alembic_config
from control_plane.models import Base
from tests.control_plane.running import ControlPlane

ROOT = Path(__file__).parents[2]


def test_the_migrations_lead_to_the_models(tmp_path: Path) -> None:
    path = tmp_path / "database.sqlite"
    command.upgrade(alembic_config(f"sqlite+aiosqlite:///{path}"), "head")
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
        # The control: the comparison sees a table that is missing.
        connection.exec_driver_sql("DROP TABLE sessions")
        assert compare_metadata(context, Base.metadata) != []
    engine.dispose()


def test_the_migrations_go_down_again(tmp_path: Path) -> None:
    path = tmp_path / "database.sqlite"
    config = alembic_config(f"sqlite+aiosqlite:///{path}")
    command.upgrade(config, "head")
    command.downgrade(config, "base")
    engine = create_engine(f"sqlite:///{path}")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()
    command.upgrade(config, "head")
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM revision_counter").fetchone() == (1,)


def test_the_schema_can_be_written_for_postgresql() -> None:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    for table in Base.metadata.sorted_tables:
        text = str(CreateTable(table).compile(dialect=dialect))
        assert f"CREATE TABLE {table.name}" in text.replace('"', "")
        assert "DATETIME" not in text  # SQLite's word
        for index in table.indexes:
            assert "CREATE INDEX" in str(CreateIndex(index).compile(dialect=dialect))


def test_the_committed_openapi_document_is_fresh(control_plane: ControlPlane) -> None:
    committed = (ROOT / "docs" / "openapi.json").read_text()
    printed = control_plane.run("openapi")
    assert printed.returncode == 0, printed.stderr
    assert printed.stdout == committed, "run: python -m control_plane openapi > docs/openapi.json"
    served = httpx.get(f"{control_plane.url}/v1/openapi.json").json()
    assert served == json.loads(committed)


def test_create_tenant(control_plane: ControlPlane, tmp_path: Path) -> None:
    first = control_plane.run("create-tenant", "made-by-hand", "--if-missing", "--json")
    assert first.returncode == 0, first.stderr
    created = json.loads(first.stdout)
    with control_plane.client(created["key"]) as client:
        assert client.get("/v1/tenant").json()["id"] == created["tenant_id"]
    again = json.loads(control_plane.run("create-tenant", "made-by-hand", "--if-missing", "--json").stdout)
    assert again == {"tenant": "made-by-hand", "tenant_id": created["tenant_id"], "key": None}
    taken = control_plane.run("create-tenant", "made-by-hand")
    assert taken.returncode == 1
    assert "made-by-hand" in taken.stderr
    wrong = control_plane.run("create-tenant", "Not A Name")
    assert wrong.returncode == 1
    assert "Traceback" not in wrong.stderr


def test_a_start_finds_everything_as_it_was(tmp_path: Path) -> None:
    running = ControlPlane(tmp_path / "var")
    tenant = running.new_tenant("acme")
    token = running.operator_token
    running.kill()  # not a graceful stop: the database must stand it
    running.restart()
    try:
        assert running.operator_token == token
        with running.client(tenant.token) as client:
            assert client.get("/v1/tenant").json()["name"] == "acme"
        assert running.stop() == 0
    finally:
        if running.process.poll() is None:
            running.kill()


def test_migrate_alone(tmp_path: Path) -> None:
    running = ControlPlane(tmp_path / "var")
    assert running.stop() == 0
    again = running.run("migrate")
    assert again.returncode == 0, again.stderr
