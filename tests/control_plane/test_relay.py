"""What reaches Redis when things die: Redis, its data, the control plane, and two control planes at once."""

import json
from pathlib import Path
from typing import Any

import httpx

from control_plane.outbox.relay import HELD_REVISION_KEY
from gateway.contract.report import REPORT_FIELD, REPORT_GROUP, REPORT_STREAM
from gateway.contract.table import REVISION_CHANNEL, TABLE_KEY, RoutingTable
from tests.control_plane.bundles import bundle
from tests.control_plane.running import ControlPlane, Valkey, eventually
from tests.control_plane.test_functions import FAILURE, report, version_of
from tests.control_plane.test_keys_and_tenants import table


def names(valkey: Valkey) -> set[str]:
    return {each.name for each in table(valkey).functions}


def pending(running: ControlPlane) -> int:
    count: int = httpx.get(f"{running.url}/readyz", timeout=30).json()["outbox_pending"]
    return count


def test_a_change_is_published_with_its_revision(own_control_plane: ControlPlane, own_valkey: Valkey) -> None:
    tenant = own_control_plane.new_tenant("acme")
    with own_valkey.client.pubsub() as channel:
        channel.subscribe(REVISION_CHANNEL)
        assert eventually(lambda: channel.get_message(timeout=1))  # subscribed
        tenant.deploy("hello", bundle(1))

        def heard() -> bool:
            message: Any = channel.get_message(ignore_subscribe_messages=True, timeout=1)
            return message is not None and "hello" in names(own_valkey)

        assert eventually(heard)
    assert table(own_valkey).revision == int(own_valkey.client.get(HELD_REVISION_KEY) or 0)
    assert eventually(lambda: pending(own_control_plane) == 0)


def test_redis_killed_and_back(own_control_plane: ControlPlane, own_valkey: Valkey) -> None:
    tenant = own_control_plane.new_tenant("acme")
    tenant.deploy("before", bundle(1))
    assert eventually(lambda: names(own_valkey) == {"before"})
    own_valkey.kill()
    deployed = tenant.deploy("meanwhile", bundle(2))  # a deploy does not need Redis
    assert pending(own_control_plane) > 0
    ready = httpx.get(f"{own_control_plane.url}/readyz", timeout=30)
    assert ready.status_code == 200
    assert "outbox" in ready.json()["checks"]["redis"]
    own_valkey.restart()  # empty: it kept nothing on disk
    assert eventually(lambda: names(own_valkey) == {"before", "meanwhile"})
    assert eventually(lambda: pending(own_control_plane) == 0)
    # The reports' group was lost too.
    report(own_valkey, deployed["version"])
    assert eventually(lambda: version_of(tenant, "meanwhile", deployed["version"])["status"] == "ready")


def test_redis_loses_its_data(own_control_plane: ControlPlane, own_valkey: Valkey) -> None:
    tenant = own_control_plane.new_tenant("acme")
    version = tenant.deploy("hello", bundle(1))["version"]
    assert eventually(lambda: names(own_valkey) == {"hello"})
    before = table(own_valkey).revision
    for loss in (own_valkey.client.flushall, lambda: own_valkey.client.delete(TABLE_KEY)):
        loss()
        assert eventually(lambda: names(own_valkey) == {"hello"})
        assert table(own_valkey).revision == before
    report(own_valkey, version, error=FAILURE)
    assert eventually(lambda: version_of(tenant, "hello", version)["status"] == "failed")


def test_the_control_plane_killed_between_commit_and_relay(own_control_plane: ControlPlane, own_valkey: Valkey) -> None:
    tenant = own_control_plane.new_tenant("acme")
    assert eventually(lambda: pending(own_control_plane) == 0)
    own_valkey.kill()
    tenant.deploy("hello", bundle(1))
    own_control_plane.kill()
    own_valkey.restart()
    assert own_valkey.client.get(TABLE_KEY) is None
    own_control_plane.restart()
    assert eventually(lambda: names(own_valkey) == {"hello"})


def test_reports_that_came_while_the_control_plane_was_away(
    own_control_plane: ControlPlane, own_valkey: Valkey
) -> None:
    tenant = own_control_plane.new_tenant("acme")
    version = tenant.deploy("hello", bundle(1))["version"]
    assert eventually(lambda: own_valkey.client.exists(REPORT_STREAM))
    own_control_plane.kill()
    # One that the dead consumer had taken and not acknowledged, and one that nobody has taken.
    report(own_valkey, version, error=FAILURE)
    client: Any = own_valkey.client
    assert client.xreadgroup(REPORT_GROUP, "dead", {REPORT_STREAM: ">"})
    report(own_valkey, version)
    own_control_plane.restart()
    tenant.http.base_url = own_control_plane.url
    assert eventually(lambda: version_of(tenant, "hello", version)["status"] in ("ready", "failed"))
    assert eventually(lambda: own_valkey.client.xlen(REPORT_STREAM) == 0)


def test_reports_are_idempotent_and_bad_ones_do_not_stop_the_stream(
    own_control_plane: ControlPlane, own_valkey: Valkey
) -> None:
    tenant = own_control_plane.new_tenant("acme")
    one = tenant.deploy("hello", bundle(1))["version"]
    two = tenant.deploy("hello", bundle(2))["version"]
    assert eventually(lambda: pending(own_control_plane) == 0)
    revision = table(own_valkey).revision
    for content in (
        b"",
        b"{",
        b"[]",
        b'{"outcome": "ready"}',
        b"\xff",
        b"x" * 100_000,
        json.dumps({"node": 1}).encode(),
    ):
        own_valkey.client.xadd(REPORT_STREAM, {REPORT_FIELD: content})
    own_valkey.client.xadd(REPORT_STREAM, {"other": "field"})
    report(own_valkey, "ver_" + "0" * 26)  # of a version that was deleted meanwhile
    for _ in range(3):
        report(own_valkey, two, error=FAILURE)
    assert eventually(lambda: version_of(tenant, "hello", two)["status"] == "failed")
    assert eventually(lambda: own_valkey.client.xlen(REPORT_STREAM) == 0)
    assert tenant.http.get("/v1/functions/hello").json()["aliases"] == {"live": one}
    assert eventually(lambda: pending(own_control_plane) == 0)
    assert table(own_valkey).revision - revision <= 2  # one move back, not three


def test_an_older_table_never_replaces_a_newer_one(own_control_plane: ControlPlane, own_valkey: Valkey) -> None:
    own_control_plane.new_tenant("acme").deploy("hello", bundle(1))
    assert eventually(lambda: names(own_valkey) == {"hello"})
    newer = RoutingTable(revision=table(own_valkey).revision + 1000)
    own_valkey.client.mset({TABLE_KEY: newer.model_dump_json(), HELD_REVISION_KEY: newer.revision})
    own_control_plane.new_tenant("other")
    assert eventually(lambda: pending(own_control_plane) == 0)
    assert table(own_valkey) == newer


def test_two_control_planes_on_one_database(
    own_control_plane: ControlPlane, own_valkey: Valkey, tmp_path: Path
) -> None:
    second = ControlPlane(tmp_path / "var", own_valkey.url)
    try:
        tenant = own_control_plane.new_tenant("acme")
        revisions = []
        with second.client(tenant.token) as there:
            for number in range(5):  # ten together, what the tier free allows
                tenant.deploy(f"here-{number}", bundle(number))
                files = {"bundle": ("b.zip", bundle(number), "application/zip")}
                assert there.post(f"/v1/functions/there-{number}/versions", files=files).status_code == 201
                revisions.append(table(own_valkey).revision)
            eventually(lambda: len(names(own_valkey)) == 10)
            assert revisions == sorted(revisions)
            assert len(there.get("/v1/functions").json()["items"]) == 10
        own_control_plane.kill()
        with second.client(tenant.token) as there:
            assert there.delete("/v1/functions/here-0").status_code == 204
        assert eventually(lambda: len(names(own_valkey)) == 9)
    finally:
        second.stop()


def test_a_database_made_anew_counts_above_the_old_one(own_valkey: Valkey, tmp_path: Path) -> None:
    first = ControlPlane(tmp_path / "one", own_valkey.url)
    first.new_tenant("old")
    assert eventually(lambda: [each.name for each in table(own_valkey).tenants] == ["old"])
    first.stop()
    second = ControlPlane(tmp_path / "two", own_valkey.url)
    try:
        second.new_tenant("new")
        assert eventually(lambda: [each.name for each in table(own_valkey).tenants] == ["new"])
    finally:
        second.stop()


def test_without_redis_everything_else_works(tmp_path: Path) -> None:
    running = ControlPlane(tmp_path / "var")
    try:
        tenant = running.new_tenant("acme")
        assert tenant.deploy("hello", bundle(1))["status"] == "preparing"
        assert "REDIS_URL" in httpx.get(f"{running.url}/readyz").json()["checks"]["redis"]
        assert running.stop() == 0
    finally:
        if running.process.poll() is None:
            running.kill()
