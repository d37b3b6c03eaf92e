"""Suspending and deleting a tenant: what gateways are told, what is removed, and what stays."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.contract.table import TABLE_KEY, RoutingTable
from tests.control_plane.bundles import bundle
from tests.control_plane.running import (
    PASSWORD,
    ControlPlane,
    Mailbox,
    Person,
    Tenant,
    Valkey,
    eventually,
    join,
    sign_up,
)
from tests.control_plane.test_people import fresh_email


def table(valkey: Valkey) -> RoutingTable:
    document = valkey.client.get(TABLE_KEY)
    assert isinstance(document, bytes)
    return RoutingTable.model_validate_json(document)


def status_in_table(valkey: Valkey, name: str) -> str | None:
    return next((tenant.status for tenant in table(valkey).tenants if tenant.name == name), None)


@pytest.fixture
def operator(control_plane: ControlPlane) -> Iterator[httpx.Client]:
    with control_plane.client(control_plane.operator_token) as client:
        yield client


def test_suspending_reaches_the_gateways_and_stops_changes(
    operator: httpx.Client, owner: Person, valkey: Valkey, control_plane: ControlPlane
) -> None:
    about = owner.http.get("/v1/tenant").json()
    assert eventually(lambda: status_in_table(valkey, about["name"]) == "active")
    reason = "It mines coins."
    answer = operator.patch(f"/v1/tenants/{about['id']}", json={"status": "suspended", "reason": reason})
    assert answer.json()["status"] == "suspended"
    assert eventually(lambda: status_in_table(valkey, about["name"]) == "suspended")
    refused = owner.http.post("/v1/keys", json={"scopes": ["read"]})
    assert refused.status_code == 403
    assert refused.json()["type"].endswith("/tenant-suspended")
    shown = owner.http.get("/v1/tenant").json()  # its members may look, and read why
    assert shown["status_reason"] == reason
    assert owner.http.get("/v1/audit").json()["items"][0]["actor"]["label"] == "the operator"
    assert operator.patch(f"/v1/tenants/{about['id']}", json={"status": "active"}).status_code == 200
    assert eventually(lambda: status_in_table(valkey, about["name"]) == "active")
    assert owner.http.post("/v1/keys", json={"scopes": ["read"]}).status_code == 201


def test_the_operator_lists_tenants_and_invites_an_owner(operator: httpx.Client, control_plane: ControlPlane) -> None:
    email = fresh_email()
    made = operator.post("/v1/tenants", json={"name": "by-operator", "owner_email": email}).json()
    assert operator.get(f"/v1/tenants/{made['id']}").json()["name"] == "by-operator"
    assert "by-operator" in every_name(operator)
    with control_plane.client() as client:
        body = {"token": Mailbox(control_plane).token(email), "password": PASSWORD}
        session = client.post("/v1/invitations/finish", json=body).json()
    person = Person(control_plane, email, session, "by-operator")
    assert person.http.get("/v1/tenant").json()["caller"]["role"] == "owner"
    assert operator.get("/v1/tenants/tnt_" + "0" * 26).status_code == 404


def every_name(operator: httpx.Client) -> set[str]:
    """Of all tenants, page by page."""
    names: set[str] = set()
    page = operator.get("/v1/tenants").json()
    while True:
        names |= {each["name"] for each in page["items"]}
        if page["next_cursor"] is None:
            return names
        page = operator.get("/v1/tenants", params={"cursor": page["next_cursor"]}).json()


@pytest.fixture
def ending(own_valkey: Valkey, tmp_path: Path) -> Iterator[ControlPlane]:
    """A control plane that removes a deleted tenant's data at once."""
    running = ControlPlane(tmp_path / "var", own_valkey.url, TAILCUT_DELETION_DRAIN_TIME="PT1S")
    yield running
    running.kill()


def rows_about(control_plane: ControlPlane, tenant_id: str) -> dict[str, int]:
    """Table → rows that have the tenant in a column, whatever its name."""
    found = {}
    with sqlite3.connect(control_plane.data_dir / "control-plane" / "database.sqlite") as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in tables:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
            where = " OR ".join(f'"{column}" = ?' for column in columns)
            query = f"SELECT count(*) FROM {name} WHERE {where}"
            (count,) = connection.execute(query, [tenant_id] * len(columns)).fetchone()
            if count:
                found[name] = count
    return found


KEPT = {"tenants", "outbox", "subscriptions", "subscription_add_ons", "usage_hours", "usage_hourly", "invoices"}
KEPT |= {"purchases", "meter_events", "meter_carries", "billing_notes", "stripe_objects", "usage_versions"}
KEPT |= {"operator_entries"}
"""What invoices and the relay need, and the log of what operators did."""


def test_a_deleted_tenant_is_gone_but_for_what_invoices_need(ending: ControlPlane, own_valkey: Valkey) -> None:
    owner = sign_up(ending, fresh_email(), "ending")
    viewer = join(owner, fresh_email(), "viewer")
    about = owner.http.get("/v1/tenant").json()
    key = owner.http.post("/v1/keys", json={"scopes": ["admin"]}).json()
    tenant = Tenant(ending, {"id": about["id"], "name": "ending", "key": key})
    other = ending.new_tenant("staying")
    shared = tenant.deploy("one", bundle(1))["sha256"]
    own = tenant.deploy("two", bundle(2))["sha256"]
    other.deploy("one", bundle(1))
    owner.http.post("/v1/invitations", json={"email": fresh_email(), "role": "viewer"})
    assert {"keys", "functions", "versions", "aliases", "members", "audit_entries", "invitations"} <= set(
        rows_about(ending, about["id"])
    )
    wrong = {"name": "ending", "password": "not this one"}
    assert owner.http.post("/v1/tenant/deletion", json=wrong).status_code == 403
    assert viewer.http.post("/v1/tenant/deletion", json={**wrong, "password": PASSWORD}).status_code == 403
    assert tenant.http.post("/v1/tenant/deletion", json={**wrong, "password": PASSWORD}).status_code == 403
    answer = owner.http.post("/v1/tenant/deletion", json={"name": "ending", "password": PASSWORD})
    assert answer.status_code == 202, answer.text
    assert answer.json()["status"] == "deleting"
    # At first the gateways refuse its calls, and know it still: what runs may end.
    assert eventually(lambda: status_in_table(own_valkey, "ending") in ("suspended", None))
    assert eventually(lambda: status_in_table(own_valkey, "ending") is None)
    assert eventually(lambda: not set(rows_about(ending, about["id"])) - KEPT)
    assert "tenants" in rows_about(ending, about["id"])
    assert tenant.http.get("/v1/tenant").status_code == 401
    assert owner.http.get("/v1/person").status_code == 401  # nobody of no tenant is kept
    stored = {path.stem.partition(".")[0] for path in (ending.data_dir / "bundles").rglob("*") if path.is_file()}
    assert eventually(lambda: not any(own in path.name for path in (ending.data_dir / "bundles").rglob("*"))), stored
    assert any(shared in path.name for path in (ending.data_dir / "bundles").rglob("*"))
    assert other.http.get("/v1/functions/one").status_code == 200
    # Its name is nobody's again: old callers must not reach somebody else.
    with ending.client(ending.operator_token) as operator:
        assert operator.post("/v1/tenants", json={"name": "ending"}).status_code == 409
        assert operator.patch(f"/v1/tenants/{about['id']}", json={"status": "active"}).status_code == 409
    assert "being deleted" in Mailbox(ending).newest(owner.email, 2)["subject"]


def test_a_kill_in_the_middle_of_a_deletion_loses_nothing(ending: ControlPlane, own_valkey: Valkey) -> None:
    tenant = ending.new_tenant("killed")
    tenant.deploy("one", bundle(1))
    with ending.client(ending.operator_token) as operator:
        assert operator.delete(f"/v1/tenants/{tenant.id}").status_code == 202
    ending.kill()
    ending.restart()
    assert eventually(lambda: not set(rows_about(ending, tenant.id)) - KEPT)
    assert eventually(lambda: status_in_table(own_valkey, "killed") is None)
