"""Tenants and keys: made once, shown once, revoked for good."""

import hashlib
import stat
from datetime import UTC, datetime, timedelta

from gateway.contract.table import TABLE_KEY, RoutingTable
from tests.control_plane.running import ControlPlane, Tenant, Valkey, eventually


def table(valkey: Valkey) -> RoutingTable:
    document = valkey.client.get(TABLE_KEY)
    assert isinstance(document, bytes)
    return RoutingTable.model_validate_json(document)


def test_the_operator_token_is_a_file_for_its_owner(control_plane: ControlPlane) -> None:
    path = control_plane.data_dir / "operator-token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert control_plane.operator_token.startswith("tco_")
    assert len(control_plane.operator_token) > 60


def test_only_the_operator_makes_tenants(control_plane: ControlPlane, tenant: Tenant) -> None:
    for token in ("", tenant.token, "tco_wrong", control_plane.operator_token + "x"):
        with control_plane.client(token) as client:
            answer = client.post("/v1/tenants", json={"name": "intruder"})
        # Who is somebody else's is not told that there is such a thing.
        assert answer.status_code == (404 if token == tenant.token else 401)
        assert answer.json()["type"].endswith("/errors/not-found" if token == tenant.token else "/errors/unauthorized")
    assert control_plane.new_tenant("intruder").name == "intruder"


def test_the_operator_token_opens_nothing_of_a_tenant(control_plane: ControlPlane) -> None:
    with control_plane.client(control_plane.operator_token) as client:
        assert client.get("/v1/tenant").status_code == 401
        assert client.get("/v1/functions").status_code == 401


def test_a_tenants_name_is_taken_once(control_plane: ControlPlane, tenant: Tenant) -> None:
    with control_plane.client(control_plane.operator_token) as client:
        again = client.post("/v1/tenants", json={"name": tenant.name})
        assert again.status_code == 409
        assert client.post("/v1/tenants", json={"name": "v1"}).status_code == 409
        for name in ("", "A", "a_b", "-a", "a-", "a" * 64, "a\n", "ü", "..", "a/b"):
            assert client.post("/v1/tenants", json={"name": name}).status_code == 422, name


def test_the_caller_sees_itself(tenant: Tenant) -> None:
    seen = tenant.http.get("/v1/tenant").json()
    assert seen["id"] == tenant.id
    assert seen["name"] == tenant.name
    caller = seen["caller"]
    assert (caller["key_id"], caller["scopes"]) == (tenant.key_id, ["admin", "deploy", "invoke", "read"])
    assert (caller["person_id"], caller["role"]) == (None, None)
    assert datetime.fromisoformat(seen["created_at"]).tzinfo is not None


def test_a_token_is_shown_once_and_kept_as_a_hash(tenant: Tenant, valkey: Valkey, database: str) -> None:
    created = tenant.new_key("invoke", name="for the site")
    token = created["token"]
    assert token.startswith("tck_")
    assert len(token) == 47
    assert created["last_four"] == token[-4:]
    shown = tenant.http.get(f"/v1/keys/{created['id']}").json()
    assert shown == {name: value for name, value in created.items() if name != "token"}
    assert token not in tenant.http.get("/v1/keys").text

    expected = hashlib.sha256(token.encode()).hexdigest()
    row = eventually(lambda: next(key for key in table(valkey).keys if key.id == created["id"]))
    assert row.sha256 == expected
    assert row.scopes == ("invoke",)
    files = [path for path in tenant.control_plane.data_dir.rglob("*") if path.is_file()]
    # The control: this is where it would be. (PostgreSQL has its files elsewhere.)
    assert database or any(expected.encode() in path.read_bytes() for path in files)
    assert not any(token.encode() in path.read_bytes() for path in files)
    assert token not in tenant.control_plane.log.read_text()


def test_a_revoked_key_is_refused_and_leaves_the_table(tenant: Tenant, valkey: Valkey) -> None:
    created = tenant.new_key("read")
    with tenant.control_plane.client(created["token"]) as client:
        assert client.get("/v1/functions").status_code == 200
        assert eventually(lambda: any(key.id == created["id"] for key in table(valkey).keys))
        assert tenant.http.delete(f"/v1/keys/{created['id']}").status_code == 204
        assert client.get("/v1/functions").status_code == 401
    assert eventually(lambda: all(key.id != created["id"] for key in table(valkey).keys))
    assert tenant.http.get(f"/v1/keys/{created['id']}").json()["revoked_at"] is not None
    assert tenant.http.delete(f"/v1/keys/{created['id']}").status_code == 204  # again: no error, no change


def test_a_key_may_revoke_itself(tenant: Tenant) -> None:
    created = tenant.new_key("admin")
    with tenant.control_plane.client(created["token"]) as client:
        assert client.delete(f"/v1/keys/{created['id']}").status_code == 204
        assert client.get("/v1/keys").status_code == 401
    assert tenant.http.get("/v1/keys").status_code == 200


def test_an_expired_key_is_refused(tenant: Tenant, valkey: Valkey) -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    lasting = tenant.new_key("read", expires_at=later.isoformat())
    row = eventually(lambda: next(key for key in table(valkey).keys if key.id == lasting["id"]))
    assert row.expires_at_s == int(later.timestamp())
    soon = datetime.now(UTC) + timedelta(seconds=1)
    short = tenant.new_key("read", expires_at=soon.isoformat())
    with tenant.control_plane.client(short["token"]) as client:
        assert eventually(lambda: client.get("/v1/functions").status_code == 401)
    with tenant.control_plane.client(lasting["token"]) as client:
        assert client.get("/v1/functions").status_code == 200


def test_key_fields_are_checked(tenant: Tenant) -> None:
    bad: list[dict[str, object]] = [
        {"scopes": []},
        {"scopes": ["root"]},
        {"scopes": "admin"},
        {"name": ""},
        {"name": "x" * 101},
        {"name": "a\x00b"},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"expires_at": "2999-01-01T00:00:00"},
        {"expires_at": "tomorrow"},
        {"expires_at": "9999-12-31T23:59:59Z"},
        {"token": "tck_mine"},
    ]
    for fields in bad:
        answer = tenant.http.post("/v1/keys", json=fields)
        assert answer.status_code == 422, fields
        problem = answer.json()
        assert problem["component"] == "control-plane"
        assert problem["errors"]
    assert tenant.http.post("/v1/keys", json={"scopes": ["read", "read"]}).json()["scopes"] == ["read"]
