"""Operators: who they are, what they see, what they do, and what stays behind of it."""

import itertools
import json
import time
from pathlib import Path

import httpx
import pytest

from control_plane.operators.settings_shown import settings_in_force
from control_plane.settings import Settings
from gateway.contract.node import NODE_GONE_S, NODE_KEPT_S, NODES_KEY, NodeCpu, NodeState, ReservedCpu, node_key
from tests.control_plane.dashboard_browser import Browser, check_policy
from tests.control_plane.running import PASSWORD, ControlPlane, Person, Tenant, Valkey, log_in, sign_up
from tests.control_plane.test_people import enrol, totp

_numbers = itertools.count(1)
PAGES = ("", "/tenants", "/nodes", "/usage", "/webhooks", "/reconciliation", "/settings", "/audit", "/runbook")


class Ops(Person):
    """An operator who has given a second factor."""

    def __init__(self, control_plane: ControlPlane) -> None:
        number = next(_numbers)
        person = sign_up(control_plane, f"ops-{number}@example.com", f"ops-team-{number}")
        assert control_plane.run("operator", "add", person.email).returncode == 0
        self.secret, self.codes = enrol(person)
        super().__init__(control_plane, person.email, {"id": person.session_id, "token": person.token})

    def browser(self) -> Browser:
        browser = Browser(self.control_plane.url)
        browser.http.cookies.set("tailcut_session", self.token)
        return browser


@pytest.fixture(scope="module")
def ops(control_plane: ControlPlane) -> Ops:
    return Ops(control_plane)


def entries_of(ops: Person, **filters: str) -> list[dict[str, object]]:
    items: list[dict[str, object]] = ops.http.get("/v1/admin/audit", params=filters).json()["items"]
    return items


# -- Who is one -------------------------------------------------------------------------------------------------------


def test_only_whom_the_machine_made_an_operator_is_one(control_plane: ControlPlane, owner: Person) -> None:
    browser = Browser(control_plane.url)
    browser.sign_in(owner.email)
    for page in PAGES:
        answer = browser.open(f"/admin{page}")
        assert answer.status_code == 404, page  # the owner of a tenant is nobody here
        check_policy(answer)
    assert "All of Tailcut" not in browser.open("/").text
    assert owner.http.get("/v1/admin/overview").status_code == 404
    assert Browser(control_plane.url).open("/admin/tenants").url.path == "/sign-in"

    made = control_plane.run("operator", "add", owner.email.upper().replace("EXAMPLE.COM", "example.com"))
    assert made.returncode == 0, made.stderr
    assert "second factor is needed" in made.stdout
    refused = browser.open("/admin")
    assert refused.status_code == 403
    assert "second factor" in refused.text
    assert owner.http.get("/v1/admin/overview").status_code == 403
    secret, _ = enrol(owner)
    assert owner.http.get("/v1/admin/overview").status_code == 200
    assert owner.email in control_plane.run("operator", "list").stdout
    # A session without the code, though there is a second factor: the link of the machine's token.
    with control_plane.client(control_plane.operator_token) as machine:
        tenant_id = owner.http.get("/v1/tenant").json()["id"]
        link = machine.post(f"/v1/tenants/{tenant_id}/sign-in-links", json={"email": owner.email}).json()["url"]
    linked = Browser(control_plane.url)
    linked.open(link)
    assert "Sign out" in linked.submit("/sign-in/link").text
    assert linked.open("/admin").status_code == 403
    again = log_in(control_plane, owner.email, PASSWORD, code=totp(secret))
    assert again.status_code == 201
    assert control_plane.client(again.json()["token"]).get("/v1/admin/nodes").status_code == 200

    gone = control_plane.run("operator", "remove", owner.email)
    assert gone.returncode == 0, gone.stderr
    assert owner.http.get("/v1/admin/overview").status_code == 401  # the sessions have ended
    assert control_plane.run("operator", "remove", owner.email).returncode == 1  # is none any more


def test_an_operator_acts_as_nobody_else(ops: Ops, tenant: Tenant) -> None:
    """A link that signs in is for the machine's token; a second factor that is off takes everything away."""
    refused = ops.http.post(f"/v1/tenants/{tenant.id}/sign-in-links", json={"email": "victim@example.com"})
    assert refused.status_code == 403
    assert ops.http.get(f"/v1/tenants/{tenant.id}").status_code == 200  # the control
    assert ops.http.get("/v1/keys", headers={"Tailcut-Tenant": tenant.name}).status_code == 404


def test_what_operators_do_stays_in_their_log(ops: Ops, control_plane: ControlPlane, tenant: Tenant) -> None:
    path = f"/v1/admin/tenants/{tenant.id}/status"
    assert ops.http.put(path, json={"status": "suspended"}).status_code == 422  # a reason is needed
    answer = ops.http.put(path, json={"status": "suspended", "reason": "sends spam"})
    assert (answer.status_code, answer.json()["status"]) == (200, "suspended")
    assert tenant.http.post("/v1/keys", json={"scopes": ["read"]}).json()["type"].endswith("/tenant-suspended")
    assert ops.http.put(path, json={"status": "active", "reason": "it was a mistake"}).json()["status"] == "active"
    assert ops.http.put(f"/v1/tenants/{tenant.id}/subscription", json={"tier": "scale"}).status_code == 200
    assert tenant.http.post("/v1/keys", json={"scopes": ["read"]}).status_code == 201
    found = [entry for entry in entries_of(ops) if entry["tenant_id"] == tenant.id]
    assert [entry["action"] for entry in found[:3]] == ["tier.changed", "tenant.reinstated", "tenant.suspended"]
    assert {entry["actor"]["label"] for entry in found[:3]} == {ops.email}  # type: ignore[index]
    assert found[2]["details"] == {"reason": "sends spam"}
    # Its members read what was done and why, and not who of the operators it was.
    told = tenant.http.get("/v1/audit").json()["items"]
    assert "tenant.suspended" in [entry["action"] for entry in told]
    assert ops.email not in json.dumps(told)
    assert {entry["actor"]["label"] for entry in told} >= {"the operator"}
    # The log outlives the tenant.
    assert ops.http.delete(f"/v1/tenants/{tenant.id}").status_code == 202
    assert entries_of(ops, action="tenant.deletion")[0]["tenant_id"] == tenant.id
    assert entries_of(ops, actor=ops.email, action="tenant.deletion")
    assert not entries_of(ops, actor="nobody", action="tenant.deletion")


# -- Nodes ------------------------------------------------------------------------------------------------------------


def node(name: str, **fields: object) -> NodeState:
    known = {
        "node": name, "epoch": 3, "host": f"host-of-{name}", "version": "9.9", "kernel": "6.18", "python": "3.13",
        "at_unix_s": time.time(), "uptime_s": 7500.0, "jail": "on", "revision": 2**60, "calls_per_s": 12.5,
        "cpus": [NodeCpu(cpu=0, connections=4, queue_length=2, workers={"busy": 1, "idle": 3}, calls_per_s=12.5)],
        "reserved": [ReservedCpu(cpu=1, sellable_ppm=900_000, sold_ppm=225_000)],
        "disk_bytes": 100, "disk_free_bytes": 50,
    }  # fmt: skip
    return NodeState.model_validate(known | fields)


def put(valkey: Valkey, state: NodeState, age_s: float = 0) -> None:
    with valkey.client as client:
        client.set(node_key(state.node), state.model_dump_json(), px=int((NODE_KEPT_S - age_s) * 1000))
        client.sadd(NODES_KEY, state.node)


def test_nodes_are_shown_then_gone_then_dropped(ops: Ops, valkey: Valkey, tenant: Tenant) -> None:
    put(valkey, node("node-a", tenants={tenant.name: 12.5}))
    put(valkey, node("node-b"), age_s=NODE_GONE_S + 60)
    with valkey.client as client:
        client.sadd(NODES_KEY, "node-dropped", "node-bad")
        client.set(node_key("node-bad"), node("node-bad").model_dump_json().replace('"jail"', '"doctor":{},"x"'))
    try:
        found = {each["node"]: each for each in ops.http.get("/v1/admin/nodes").json()["items"]}
        assert {name: each["gone"] for name, each in found.items()} == {"node-a": False, "node-b": True}
        assert b"node-dropped" not in valkey.client.smembers(NODES_KEY)
        assert ops.http.get("/v1/admin/nodes/node-b").json()["gone"] is True
        assert ops.http.get("/v1/admin/nodes/node-none").status_code == 404
        seen = ops.http.get("/v1/admin/overview").json()
        assert (seen["nodes_up"], seen["nodes_gone"], seen["calls_per_s"], seen["queue_length"]) == (1, 1, 12.5, 2)
        [check] = [each for each in seen["checks"] if each["id"] == "nodes"]
        assert check["tone"] == "warn"
        assert "host-of-node-b" in check["detail"]
        rows = ops.http.get("/v1/admin/tenants", params={"text": tenant.name}).json()["items"]
        assert [(row["name"], row["calls_per_s"]) for row in rows] == [(tenant.name, 12.5)]

        browser = ops.browser()
        page = browser.open("/admin/nodes")
        for text in ("host-of-node-a", "host-of-node-b", ">gone<", "22.5 % of 90.0 %", "67.5 %"):
            assert text in page.text, text
        check_policy(page)
        assert "Not asked yet" in browser.open("/admin/nodes/node-a").text
        line = {"part": "seccomp", "state": "missing", "refused": "<b>no</b>", "costs": "all", "remedy": "x"}
        doctor = {
            "kernel": "6.18", "setting": "on", "leftover_groups": 2, "whole": False, "bounded": True, "rights": "root",
            "workers_are": "users", "lines": [line], "groups": [], "scheduling": [], "features": [],
        }  # fmt: skip
        put(valkey, node("node-a", doctor=doctor, disk_free_bytes=3))
        page = browser.open("/admin/nodes/node-a")
        assert "The jail cannot be closed" in page.text
        assert "&lt;b&gt;no&lt;/b&gt;" in page.text
        checks = {each["id"]: each for each in ops.http.get("/v1/admin/overview").json()["checks"]}
        assert checks["node-a-doctor"]["tone"] == checks["node-a-disk"]["tone"] == "bad"
        page = browser.open("/admin")
        assert "to act on" in page.text
        for check in checks.values():
            if check["tone"] == "bad":
                assert check["runbook"], check
                assert check["command"] in page.text
    finally:
        with valkey.client as client:
            client.delete(NODES_KEY, *(node_key(name) for name in ("node-a", "node-b", "node-bad")))


def test_every_chapter_that_a_check_leads_to_is_in_the_runbook(ops: Ops) -> None:
    source = Path("control_plane/operators/overview.py").read_text()
    page = ops.browser().open("/admin/runbook").text
    chapters = {part.split('"')[0] for part in source.split('runbook="')[1:]} - {""}
    assert len(chapters) >= 3
    for chapter in chapters:
        assert f'<h2 id="{chapter}">' in page, chapter


# -- Pages ------------------------------------------------------------------------------------------------------------


def test_every_page_for_operators(ops: Ops, tenant: Tenant) -> None:
    browser = ops.browser()
    for page in (*PAGES, f"/tenants/{tenant.id}", f"/tenants/{tenant.id}/suspend"):
        answer = browser.open(f"/admin{page}")
        assert answer.status_code == 200, (page, answer.text)
        check_policy(answer)
    assert "/admin" in browser.open("/").text  # the way there
    # A page that refreshes itself, when the session has ended: the browser loads it whole.
    lost = httpx.get(f"{ops.control_plane.url}/admin", headers={"HX-Request": "true"})
    assert (lost.status_code, lost.headers["hx-refresh"]) == (401, "true")


def test_a_tenant_is_found_suspended_and_served_again_by_browser(ops: Ops, owner: Person) -> None:
    browser, name = ops.browser(), owner.http.headers["Tailcut-Tenant"]
    tenant_id = owner.http.get("/v1/tenant").json()["id"]
    for text in (name[1:], tenant_id, owner.email[:9]):
        assert f">{name}<" in browser.open(str(httpx.URL("/admin/tenants", params={"text": text}))).text, text
    assert f">{name}<" not in browser.open(f"/admin/tenants?text={name}&status=suspended").text
    assert f">{name}<" not in browser.open(f"/admin/tenants?text={name}&tier=scale").text
    page = browser.open(f"/admin/tenants/{tenant_id}")
    assert owner.email in page.text
    page = browser.open(f"/admin/tenants/{tenant_id}/suspend")
    assert browser.submit(f"/admin/tenants/{tenant_id}/suspend", reason="").status_code == 422
    page = browser.submit(f"/admin/tenants/{tenant_id}/suspend", reason="<b>unpaid</b>")
    assert "is suspended" in page.text
    assert "&lt;b&gt;unpaid&lt;/b&gt;" in page.text
    assert owner.http.get("/v1/tenant").json()["status"] == "suspended"
    page = browser.submit(f"/admin/tenants/{tenant_id}/reinstate")
    assert "is served again" in page.text
    assert owner.http.get("/v1/tenant").json()["status"] == "active"
    # An owner who posts the form of an operator finds nothing.
    own = Browser(ops.control_plane.url)
    own.sign_in(owner.email)
    own.open("/security")
    token = own.page.text.split('name="csrf_token" value="')[1].split('"')[0]
    answer = own.http.post(f"/admin/tenants/{tenant_id}/suspend", data={"csrf_token": token, "reason": "mine"})
    assert answer.status_code == 404
    assert owner.http.get("/v1/tenant").json()["status"] == "active"


# -- Settings ---------------------------------------------------------------------------------------------------------


def test_no_secret_is_among_the_settings_shown(tmp_path: Path, ops: Ops) -> None:
    secrets = {
        "operator_token": "tco_hidden-1", "sealing_key": "hidden-2", "stripe_api_key": "sk_test_hidden-3",
        "stripe_webhook_secret": "whsec_hidden-4", "database_url": "postgresql://tailcut:hidden-5@db/tailcut",
        "redis_url": "rediss://:hidden-6@cache:6380/0", "smtp_url": "smtp://me:hidden-7@mail:587",
    }  # fmt: skip
    shown = settings_in_force(Settings.model_validate({"data_dir": tmp_path, **secrets}))
    text = json.dumps([each.model_dump() for each in shown])
    assert "hidden-" not in text
    assert {each.name for each in shown} >= {"DATABASE_URL", "TAILCUT_SMTP_URL", "STRIPE_API_KEY"}
    assert "postgresql://tailcut:…@db/tailcut" in {each.value for each in shown}
    assert len(shown) == len(Settings.model_fields)
    served = {each["name"]: each for each in ops.http.get("/v1/admin/settings").json()["items"]}
    assert served["TAILCUT_LOG_INS_PER_ADDRESS_MAX"]["value"] == "100000"
    assert served["TAILCUT_LOG_INS_PER_ADDRESS_MAX"]["is_default"] is False
