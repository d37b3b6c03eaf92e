"""The database's schema, the OpenAPI document and the commands."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydantic import ValidationError
from sqlalchemy import Connection, inspect
from sqlalchemy.exc import DBAPIError

from control_plane.billing.schemas import PurchaseRequest, SpendCapSet
from control_plane.database import make_engine
from control_plane.migrate import alembic_config
from control_plane.models import Base
from tests.control_plane.running import ControlPlane
from tests.support.postgres import Postgres

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'database.sqlite'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database().replace("postgresql://", "postgresql+asyncpg://")


def look[Seen](url: str, see: Callable[[Connection], Seen]) -> Seen:
    async def run() -> Seen:
        engine = make_engine(url)
        try:
            async with engine.begin() as connection:
                return await connection.run_sync(see)
        finally:
            await engine.dispose()

    return asyncio.run(run())


def test_the_migrations_lead_to_the_models(url: str) -> None:
    command.upgrade(alembic_config(url), "head")

    def compare(connection: Connection) -> tuple[list[object], list[object]]:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        whole = compare_metadata(context, Base.metadata)
        # The control: the comparison sees a table that is missing.
        connection.exec_driver_sql("DROP TABLE sessions")
        return whole, compare_metadata(context, Base.metadata)

    whole, less = look(url, compare)
    assert whole == []
    assert less != []


def test_the_migrations_go_down_again(url: str) -> None:
    config = alembic_config(url)
    command.upgrade(config, "head")
    command.downgrade(config, "base")
    assert look(url, lambda connection: inspect(connection).get_table_names()) == ["alembic_version"]
    command.upgrade(config, "head")
    count = look(url, lambda connection: connection.exec_driver_sql("SELECT count(*) FROM revision_counter").scalar())
    assert count == 1


def test_migrating_keeps_what_is_there(url: str) -> None:
    config = alembic_config(url)
    command.upgrade(config, "0002")
    at = "2026-01-01 00:00:00+00" if "postgresql" in url else "2026-01-01 00:00:00"
    statements = (
        f"INSERT INTO tenants (id, name, concurrency_max, created_at) VALUES ('tnt_1', 'acme', 5, '{at}')",
        "INSERT INTO keys (id, tenant_id, name, sha256, last_four, scopes, created_at) "
        f"VALUES ('key_1', 'tnt_1', 'first', 'aa', 'bbbb', '[\"admin\"]', '{at}')",
        f"INSERT INTO functions (id, tenant_id, name, public, created_at) VALUES ('fn_1','tnt_1','f',true,'{at}')",
    )
    look(url, lambda connection: [connection.exec_driver_sql(statement) for statement in statements])
    command.upgrade(config, "head")
    query = (
        "SELECT tenants.name, tenants.status, keys.name, keys.created_by, functions.name FROM tenants "
        "JOIN keys ON keys.tenant_id = tenants.id JOIN functions ON functions.tenant_id = tenants.id"
    )
    found = look(url, lambda connection: [tuple(row) for row in connection.exec_driver_sql(query)])
    assert found == [("acme", "active", "first", "", "f")]


def test_the_audit_log_is_append_only(url: str) -> None:
    """By the database itself: what no statement of ours does, no statement can do."""
    command.upgrade(alembic_config(url), "head")
    at = "2026-01-01 00:00:00+00" if "postgresql" in url else "2026-01-01 00:00:00"
    statements = (
        f"INSERT INTO tenants (id, name, created_at) VALUES ('tnt_1', 'acme', '{at}')",
        "INSERT INTO audit_entries (id, tenant_id, actor_id, actor, action, subject, details, address, request_id, at) "
        f"VALUES ('aud_1', 'tnt_1', 'per_1', 'ada', 'key.created', 'k', '{{}}', '', '', '{at}')",
    )
    look(url, lambda connection: [connection.exec_driver_sql(statement) for statement in statements])
    for statement in ("UPDATE audit_entries SET actor = 'nobody'", "DELETE FROM audit_entries"):
        with pytest.raises(DBAPIError, match="append-only"):
            look(url, lambda connection, text=statement: connection.exec_driver_sql(text))  # type: ignore[misc]
    # The operators' log has no way out at all.
    entry = (
        "INSERT INTO operator_entries (id, actor_id, actor, action, subject, details, address, request_id, at) "
        f"VALUES ('ope_1', 'per_1', 'ada', 'tenant.suspended', 'acme', '{{}}', '', '', '{at}')"
    )
    look(url, lambda connection: connection.exec_driver_sql(entry))
    for statement in ("UPDATE operator_entries SET actor = 'nobody'", "DELETE FROM operator_entries"):
        with pytest.raises(DBAPIError, match="append-only"):
            look(url, lambda connection, text=statement: connection.exec_driver_sql(text))  # type: ignore[misc]
    # The one way out: with the tenant.
    look(url, lambda connection: connection.exec_driver_sql("UPDATE tenants SET status = 'deleting'"))
    look(url, lambda connection: connection.exec_driver_sql("DELETE FROM audit_entries"))
    assert look(url, lambda connection: connection.exec_driver_sql("SELECT count(*) FROM audit_entries").scalar()) == 0


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


def test_what_a_request_may_say_is_named_and_bounded() -> None:
    """No object takes members that it does not name (mass assignment), no number and no text is without an end."""
    document = json.loads((ROOT / "docs" / "openapi.json").read_text())
    loose: set[str] = set()
    seen = 0

    def look(schema: dict[str, Any], path: str, above: tuple[str, ...] = ()) -> None:
        nonlocal seen
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            if name not in above:
                look(document["components"]["schemas"][name], path, (*above, name))
            return
        seen += 1
        kind = schema.get("type")
        if kind == "object" and "properties" in schema and schema.get("additionalProperties", True) is not False:
            loose.add(f"{path} takes anything")
        if kind in ("integer", "number") and not {"maximum", "exclusiveMaximum", "enum", "const"} & schema.keys():
            loose.add(f"{path} has no end")
        if kind == "string" and not {"maxLength", "pattern", "enum", "const", "format"} & schema.keys():
            loose.add(f"{path} has no end")
        for name, inner in schema.get("properties", {}).items():
            look(inner, f"{path}.{name}", above)
        for inner in (each for word in ("anyOf", "allOf", "oneOf") for each in schema.get(word, ())):
            look(inner, path, above)
        for word in ("items", "additionalProperties"):
            if isinstance(schema.get(word), dict):
                look(schema[word], f"{path}[]", above)

    for path, item in document["paths"].items():
        for method, operation in item.items():
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                look(content["schema"], f"{method} {path} {kind}")
            for parameter in operation.get("parameters", ()):
                look(parameter["schema"], f"{method} {path} ?{parameter['name']}")
    operators = "put /v1/tenants/{tenant_id}/subscription application/json.overrides"
    assert loose == {
        # Its fields are read one by one; what else is sent is nothing to anybody.
        "post /v1/functions/{name}/versions multipart/form-data takes anything",
        # Bounded by the tier's own limits, each by another one (tiers.effective).
        *(f"{operators}.{part}[] has no end" for part in ("admission", "invocation", "month")),
    }
    assert seen > 200


@pytest.mark.parametrize("given", [True, "5", 1.0, 1e2, -1, 10**9 + 1, None])
def test_money_is_a_whole_number_and_nothing_like_one(given: object) -> None:
    with pytest.raises(ValidationError):
        SpendCapSet.model_validate({"amount_minor": given, "action": "stop"})
    with pytest.raises(ValidationError):
        PurchaseRequest.model_validate({"tier": "pro", "add_ons": {"concurrency": given}})
    for fine in (0, 5):  # the control
        assert SpendCapSet.model_validate({"amount_minor": fine, "action": "stop"}).amount_minor == fine
