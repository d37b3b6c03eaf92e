"""Deploying, aliases, rollback and deletion, as a user of the REST API sees them; and what gateways are told."""

import hashlib
import re
from typing import Any

from gateway.contract.bundle import object_name
from gateway.contract.report import REPORT_FIELD, REPORT_STREAM, StartFailure, VersionReport
from gateway.contract.table import RoutingTable
from tests.control_plane.bundles import PYTHON, bundle
from tests.control_plane.running import Tenant, Valkey, eventually
from tests.control_plane.test_keys_and_tenants import table


def report(
    valkey: Valkey,
    version: str,
    *,
    node: str = "node-1",
    error: StartFailure | None = None,
    attempt: int = 0,
    operation: dict[str, Any] | None = None,
    schemas: dict[str, Any] | None = None,
) -> None:
    outcome: Any = "failed" if error else "ready"
    document = VersionReport(
        node=node,
        version_id=version,
        attempt=attempt,
        outcome=outcome,
        style=None if error else "typed",
        start_us=1234,
        error=error,
        operation=operation,
        schemas=schemas or {},
    )
    valkey.client.xadd(REPORT_STREAM, {REPORT_FIELD: document.model_dump_json()})


FAILURE = StartFailure(type="ImportError", message="no module named 'nope'", traceback="Traceback …\nImportError: nope")


def version_of(tenant: Tenant, function: str, version: str) -> dict[str, Any]:
    answer = tenant.http.get(f"/v1/functions/{function}/versions/{version}")
    assert answer.status_code == 200, answer.text
    seen: dict[str, Any] = answer.json()
    return seen


def aliases(tenant: Tenant, function: str) -> dict[str, str]:
    seen: dict[str, str] = tenant.http.get(f"/v1/functions/{function}").json()["aliases"]
    return seen


def function_in(routing: RoutingTable, tenant: Tenant, name: str) -> Any:
    return next(each for each in routing.functions if each.tenant_id == tenant.id and each.name == name)


def test_a_first_deploy(tenant: Tenant, valkey: Valkey) -> None:
    content = bundle(limits={"timeout_ms": 500}, env={"GREETING": "a-secret"}, lock=["six==1.17.0"])
    answer = tenant.upload("hello", content)
    assert answer.status_code == 201
    deployed = answer.json()
    sha256 = hashlib.sha256(content).hexdigest()
    assert deployed == {
        "function": "hello",
        "function_id": deployed["function_id"],
        "version": deployed["version"],
        "sha256": sha256,
        "alias": "live",
        "status": "preparing",
        "url": f"http://127.0.0.1:8080/{tenant.name}/hello",
        "public": False,
        "created_at": deployed["created_at"],
    }
    assert re.fullmatch(r"fn_[0-9a-z]{26}", deployed["function_id"])
    assert re.fullmatch(r"ver_[0-9a-z]{26}", deployed["version"])
    stored = tenant.control_plane.data_dir / "bundles" / object_name(sha256)
    assert stored.read_bytes() == content

    routing = eventually(lambda: (seen := table(valkey)) and function_in(seen, tenant, "hello") and seen)
    assert function_in(routing, tenant, "hello").aliases == {"live": deployed["version"]}
    row = next(each for each in routing.versions if each.id == deployed["version"])
    assert (row.bundle_sha256, row.bundle_bytes, row.handler) == (sha256, len(content), "main:handle")
    assert row.env == {"GREETING": "a-secret"}
    assert row.limits.timeout_ms == 500

    report(valkey, deployed["version"])
    seen = eventually(lambda: (v := version_of(tenant, "hello", deployed["version"]))["status"] == "ready" and v)
    assert seen["style"] == "typed"
    assert seen["start_us"] == 1234
    assert seen["aliases"] == ["live"]
    assert seen["lock"] == ["six==1.17.0"]
    assert seen["error"] is None
    assert "a-secret" not in tenant.http.get("/v1/functions").text  # the environment may hold secrets


def test_the_same_bytes_are_the_same_version(tenant: Tenant) -> None:
    first = tenant.upload("hello", bundle(1))
    again = tenant.upload("hello", bundle(1))
    other = tenant.upload("other", bundle(1))
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 201)
    assert again.json() == first.json()
    assert other.json()["sha256"] == first.json()["sha256"]
    assert other.json()["version"] != first.json()["version"]
    assert len(tenant.http.get("/v1/functions/hello/versions").json()["items"]) == 1


def test_a_deploy_to_another_alias_leaves_live_alone(tenant: Tenant) -> None:
    live = tenant.deploy("hello", bundle(1))
    canary = tenant.deploy("hello", bundle(2), alias="canary")
    assert canary["url"].endswith("/hello@canary")
    assert aliases(tenant, "hello") == {"live": live["version"], "canary": canary["version"]}


def test_public_changes_only_when_said(tenant: Tenant, valkey: Valkey) -> None:
    assert tenant.deploy("hello", bundle(1), public="true")["public"] is True
    assert tenant.deploy("hello", bundle(2))["public"] is True
    assert eventually(lambda: function_in(table(valkey), tenant, "hello").public)
    patched = tenant.http.patch("/v1/functions/hello", json={"public": False})
    assert patched.status_code == 200
    assert patched.json()["public"] is False
    assert eventually(lambda: not function_in(table(valkey), tenant, "hello").public)
    assert tenant.http.patch("/v1/functions/hello", json={}).status_code == 422
    assert tenant.http.patch("/v1/functions/nope", json={"public": True}).status_code == 404


def test_form_fields_are_checked(tenant: Tenant) -> None:
    for fields in ({"public": "perhaps"}, {"alias": "Ver_1"}, {"alias": "a" * 64}):
        answer = tenant.upload("hello", bundle(1), **fields)
        assert answer.status_code == 422, fields
        assert answer.json()["errors"][0]["field"] in fields
    assert tenant.upload("hello", bundle(1), colour="blue").status_code == 422
    assert tenant.http.get("/v1/functions").json()["items"] == []


def test_function_names_are_checked(tenant: Tenant) -> None:
    for name in ("Hello", "a_b", "-a", "a.b", "a" * 64, "a@b", "%2e%2e", "a%00"):
        assert tenant.upload(name, bundle(1)).status_code in (404, 422), name
    assert tenant.http.get("/v1/functions").json()["items"] == []
    assert tenant.upload("a", bundle(1)).status_code == 201
    assert tenant.upload("a" * 63, bundle(1)).status_code == 201


def test_aliases_are_set_and_deleted(tenant: Tenant, valkey: Valkey) -> None:
    one = tenant.deploy("hello", bundle(1))["version"]
    two = tenant.deploy("hello", bundle(2))["version"]
    answer = tenant.http.put("/v1/functions/hello/aliases/stable", json={"version": one})
    assert answer.status_code == 200
    assert answer.json()["version"] == one
    assert answer.json()["url"].endswith("/hello@stable")
    assert aliases(tenant, "hello") == {"live": two, "stable": one}
    assert eventually(lambda: function_in(table(valkey), tenant, "hello").aliases == {"live": two, "stable": one})
    assert tenant.http.put("/v1/functions/hello/aliases/stable", json={"version": "ver_" + "0" * 26}).status_code == 404
    assert tenant.http.put("/v1/functions/hello/aliases/stable", json={"version": "live"}).status_code == 422
    assert tenant.http.delete("/v1/functions/hello/aliases/stable").status_code == 204
    assert tenant.http.delete("/v1/functions/hello/aliases/stable").status_code == 404
    refused = tenant.http.delete("/v1/functions/hello/aliases/live")
    assert refused.status_code == 409
    assert "live" in refused.json()["detail"]
    assert aliases(tenant, "hello") == {"live": two}


def test_rollback_goes_back_step_by_step(tenant: Tenant, valkey: Valkey) -> None:
    versions = [tenant.deploy("hello", bundle(number))["version"] for number in range(3)]
    first = tenant.http.post("/v1/functions/hello/rollback")
    assert first.status_code == 200
    assert (first.json()["version"], first.json()["previous"]) == (versions[1], versions[2])
    second = tenant.http.post("/v1/functions/hello/rollback")
    assert second.json()["version"] == versions[0]
    refused = tenant.http.post("/v1/functions/hello/rollback")
    assert refused.status_code == 409
    assert refused.json()["type"].endswith("/errors/nothing-to-roll-back")
    assert versions[0] in refused.json()["detail"]
    assert eventually(lambda: function_in(table(valkey), tenant, "hello").aliases == {"live": versions[0]})
    # A deploy after a rollback comes back to where it was.
    tenant.deploy("hello", bundle(2))
    assert tenant.http.post("/v1/functions/hello/rollback").json()["version"] == versions[0]


def test_rollback_of_what_is_not_there(tenant: Tenant) -> None:
    assert tenant.http.post("/v1/functions/nope/rollback").status_code == 404
    tenant.deploy("hello", bundle(1), alias="canary")
    refused = tenant.http.post("/v1/functions/hello/rollback")
    assert refused.status_code == 409
    assert "live" in refused.json()["detail"]


def test_a_failed_version_goes_back_and_says_why(tenant: Tenant, valkey: Valkey) -> None:
    good = tenant.deploy("hello", bundle(1))["version"]
    report(valkey, good)
    assert eventually(lambda: version_of(tenant, "hello", good)["status"] == "ready")
    bad = tenant.deploy("hello", bundle(2))["version"]
    assert aliases(tenant, "hello") == {"live": bad}
    report(valkey, bad, error=FAILURE)
    seen = eventually(lambda: (v := version_of(tenant, "hello", bad))["status"] == "failed" and v)
    assert seen["error"] == FAILURE.model_dump()
    assert aliases(tenant, "hello") == {"live": good}
    shown = tenant.http.get("/v1/functions").json()["items"][0]
    assert shown["latest"]["id"] == bad
    assert shown["latest"]["error"]["traceback"] == FAILURE.traceback
    assert eventually(lambda: function_in(table(valkey), tenant, "hello").aliases == {"live": good})
    assert all(each.id != bad for each in table(valkey).versions)
    refused = tenant.http.put("/v1/functions/hello/aliases/live", json={"version": bad})
    assert refused.status_code == 409
    assert "ImportError" in refused.json()["detail"]


def test_the_first_version_that_fails_stays_to_be_seen(tenant: Tenant, valkey: Valkey) -> None:
    bad = tenant.deploy("hello", bundle(1))["version"]
    report(valkey, bad, error=FAILURE)
    assert eventually(lambda: version_of(tenant, "hello", bad)["status"] == "failed")
    assert aliases(tenant, "hello") == {"live": bad}
    assert eventually(lambda: any(each.id == bad for each in table(valkey).versions))
    # Deployed again it is tried again, also by nodes that had given it up.
    again = tenant.upload("hello", bundle(1))
    assert (again.status_code, again.json()["status"], again.json()["version"]) == (200, "preparing", bad)
    assert eventually(lambda: next(each.attempt for each in table(valkey).versions if each.id == bad) == 1)
    report(valkey, bad, node="late", error=FAILURE)  # the outcome of the first attempt, elsewhere
    report(valkey, bad, attempt=1)
    assert eventually(lambda: version_of(tenant, "hello", bad)["status"] == "ready")
    assert aliases(tenant, "hello") == {"live": bad}


def test_rollback_skips_failed_versions(tenant: Tenant, valkey: Valkey) -> None:
    one = tenant.deploy("hello", bundle(1))["version"]
    two = tenant.deploy("hello", bundle(2))["version"]
    three = tenant.deploy("hello", bundle(3))["version"]
    for version in (one, three):
        report(valkey, version)
    report(valkey, two, error=FAILURE)
    assert eventually(lambda: version_of(tenant, "hello", two)["status"] == "failed")
    assert eventually(lambda: version_of(tenant, "hello", three)["status"] == "ready")
    assert aliases(tenant, "hello") == {"live": three}  # two failed when live had moved on already
    assert tenant.http.post("/v1/functions/hello/rollback").json()["version"] == one


def test_one_ready_node_makes_a_version_ready(tenant: Tenant, valkey: Valkey) -> None:
    version = tenant.deploy("hello", bundle(1))["version"]
    report(valkey, version, node="good")
    assert eventually(lambda: version_of(tenant, "hello", version)["status"] == "ready")
    report(valkey, version, node="bad", error=FAILURE)
    # A report on another version, behind it in the stream, shows that it was consumed.
    marker = tenant.deploy("marker", bundle(2))["version"]
    report(valkey, marker)
    assert eventually(lambda: version_of(tenant, "marker", marker)["status"] == "ready")
    assert version_of(tenant, "hello", version)["status"] == "ready"
    report(valkey, version, node="good", error=FAILURE)  # the last word of the node
    assert eventually(lambda: version_of(tenant, "hello", version)["status"] == "failed")


def test_deletion(tenant: Tenant, valkey: Valkey) -> None:
    for number in range(3):
        version = tenant.deploy("hello", bundle(number))["version"]
    tenant.deploy("other", bundle(9))
    report(valkey, version)
    assert eventually(lambda: version_of(tenant, "hello", version)["status"] == "ready")
    assert tenant.http.delete("/v1/functions/hello").status_code == 204
    for path in ("", "/versions", f"/versions/{version}"):
        assert tenant.http.get(f"/v1/functions/hello{path}").status_code == 404
    assert tenant.http.delete("/v1/functions/hello").status_code == 404
    assert [each["name"] for each in tenant.http.get("/v1/functions").json()["items"]] == ["other"]
    assert eventually(lambda: [f.name for f in table(valkey).functions if f.tenant_id == tenant.id] == ["other"])
    assert all(each.function == "other" for each in table(valkey).versions if each.tenant_id == tenant.id)
    assert tenant.upload("hello", bundle(0)).status_code == 201  # the name is free, the version is a new one


def test_the_table_has_the_newest_versions_and_the_named(tenant: Tenant, valkey: Valkey) -> None:
    versions = [tenant.deploy("hello", bundle(number))["version"] for number in range(6)]
    tenant.http.put("/v1/functions/hello/aliases/old", json={"version": versions[0]})

    def known() -> list[str]:
        return [each.id for each in table(valkey).versions if each.tenant_id == tenant.id]

    assert eventually(lambda: known() == [versions[0], *versions[3:]])


def test_the_runtime_is_described(tenant: Tenant) -> None:
    seen = tenant.http.get("/v1/runtime").json()
    assert seen["python"] == PYTHON
    assert seen["python_full"].startswith(PYTHON + ".")
    assert re.fullmatch(r"(x86_64|aarch64)-(manylinux_2_\d+|unknown-linux-(gnu|musl))", seen["platform"])
    assert seen["bundle"]["archive_bytes_max"] == 64 * 2**20
    assert seen["limits"]["default"]["timeout_ms"] == 3000
    assert seen["limits"]["largest"]["timeout_ms"] == 900_000
