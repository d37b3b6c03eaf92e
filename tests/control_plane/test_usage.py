"""Usage as people ask for it: booked from a gateway's stream by the running control plane, read back by REST."""

import csv
import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from control_plane.usage.shape import ERROR_MAX
from tests.control_plane.bundles import bundle
from tests.control_plane.running import ControlPlane, Tenant, Valkey
from tests.control_plane.usage_feed import Call, Feed

NOW = datetime.now(UTC)
HOUR = NOW.replace(minute=0, second=0, microsecond=0)


@pytest.fixture
def feed(valkey: Valkey) -> Feed:
    return Feed(valkey)


def near(value: int, exact: int) -> bool:
    return abs(value - exact) <= exact * ERROR_MAX


def get(tenant: Tenant, path: str, **params: Any) -> dict[str, Any]:
    answer = tenant.http.get(f"/v1/usage{path}", params=params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_the_period_says_what_is_used_left_and_when_it_begins_anew(tenant: Tenant, feed: Feed) -> None:
    version = tenant.deploy("hello", bundle(1))["version"]
    feed.book(Call(version, wall_us=2_000_000, cpu_us=1_500_000, memory_bytes=64 * 2**20).many(20))
    feed.book([Call(version, outcome="refused_queue", status=503, executed=False, wall_us=0, cpu_us=0)])
    found = get(tenant, "")
    assert found["tier"] == "free"
    assert found["period_start"] <= NOW.isoformat() < found["period_end"]
    quotas = {each["meter"]: each for each in found["quotas"]}
    assert (quotas["invocations"]["used"], quotas["invocations"]["remaining"]) == (20, 99_980)
    assert (quotas["cpu-ms"]["used"], quotas["cpu-ms"]["included"]) == (30_000, 3_600_000)
    assert quotas["mib-s"]["used"] == 20 * 64 * 2
    assert all(quota["stops"] for quota in quotas.values())
    assert found["totals"]["calls"] == 21
    assert found["totals"]["outcomes"] == {"ok": 20, "refused_queue": 1}
    assert near(found["totals"]["wall_p50_us"], 2_000_000)
    assert found["spend"]["overage_minor"] == 0


def test_what_is_above_the_included_is_spent_and_held_against_the_caps(
    tenant: Tenant, feed: Feed, control_plane: ControlPlane
) -> None:
    with control_plane.client(control_plane.operator_token) as operator:
        overrides = {"month": {"invocations": 10, "cpu_seconds": 1, "gib_seconds": 1}}
        operator.put(f"/v1/tenants/{tenant.id}/subscription", json={"tier": "pro", "overrides": overrides})
    version = tenant.deploy("hello", bundle(1))["version"]
    for cap in ("tenant", "functions/hello"):
        tenant.http.put(f"/v1/spend-caps/{cap}", json={"amount_minor": 2000, "action": "stop"}).raise_for_status()
    # 401 s at 2.5 GiB each: one thousand and two GiB-seconds, of which one is included.
    feed.book([Call(version, wall_us=401_000_000, cpu_us=1_000_000, memory_bytes=5 * 2**29)])
    found = get(tenant, "")
    quotas = {each["meter"]: each for each in found["quotas"]}
    mib_s = 401 * 2560
    assert (quotas["mib-s"]["used"], quotas["mib-s"]["stops"]) == (mib_s, False)
    expected = (mib_s - 1024) * 1600 // 1_000_000
    assert quotas["mib-s"]["overage_minor"] == expected
    spend = found["spend"]
    assert (spend["overage_minor"], spend["cap_minor"], spend["cap_action"]) == (expected, 2000, "stop")
    # A function's cap counts all of its usage at list price.
    listed = mib_s * 1600 // 1_000_000
    assert spend["functions"] == [{"function": "hello", "spent_minor": listed, "cap_minor": 2000, "cap_action": "stop"}]


def test_series_groups_and_hours_say_the_same(tenant: Tenant, feed: Feed) -> None:
    one = tenant.deploy("one", bundle(1))["version"]
    two = tenant.deploy("one", bundle(2))["version"]
    other = tenant.deploy("other", bundle(1))["version"]
    before = HOUR - timedelta(hours=2)
    for at in (before, HOUR):
        feed.book(
            [
                *Call(one, at, wall_us=1_000, cpu_us=500).many(5),
                *Call(two, at, wall_us=8_000, cpu_us=700, cold=True).many(2),
                Call(two, at, outcome="timeout", status=504, wall_us=99_000),
                Call(other, at, status=404),
            ]
        )
    since = (HOUR - timedelta(hours=3)).isoformat()
    until = (HOUR + timedelta(hours=1)).isoformat()  # the clock may pass the hour meanwhile
    points = get(tenant, "/series", since=since, until=until)["items"]
    by_start = {datetime.fromisoformat(point["start"]): point for point in points}
    assert len(points) == 4  # without a gap
    assert [by_start[at]["calls"] for at in (before, before + timedelta(hours=1), HOUR)] == [9, 0, 9]
    assert by_start[HOUR]["outcomes"] == {"error_status": 1, "ok": 7, "timeout": 1}
    assert (by_start[HOUR]["errors"], by_start[HOUR]["cold_starts"]) == (2, 2)
    assert by_start[before]["cpu_us"] == 5 * 500 + 2 * 700 + 2 * 5_000
    assert by_start[before + timedelta(hours=1)]["wall_p99_us"] is None
    groups = get(tenant, "/groups", since=since)["items"]
    assert [(group["function"], group["calls"], group["errors"]) for group in groups] == [
        ("one", 16, 2),
        ("other", 2, 2),
    ]
    assert near(groups[0]["wall_p50_us"], 1_000)
    assert near(groups[0]["wall_p99_us"], 99_000)
    versions = get(tenant, "/groups", since=since, by="version", function="one")["items"]
    assert [(group["version"], group["calls"]) for group in versions] == [(one, 10), (two, 6)]
    only = get(tenant, "/series", since=since, function="other")["items"]
    assert sum(point["calls"] for point in only) == 2
    days = get(tenant, "/series", since=(HOUR - timedelta(days=2)).isoformat(), until=until, step="day")["items"]
    assert sum(point["calls"] for point in days) == 18
    assert len(days) == 3

    rows: list[dict[str, Any]] = []
    params: dict[str, Any] = {"since": since, "limit": 4}
    while True:
        page = get(tenant, "/hours", **params)
        rows += page["items"]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    keys = [(row["hour"], row["function"], row["version"]) for row in rows]
    assert keys == sorted(keys)
    assert len(keys) == len(set(keys)) == 6
    assert sum(row["calls"] for row in rows) == 18
    assert sum(row["invocations"] for row in rows) == 18
    exported = tenant.http.get("/v1/usage/export", params={"since": since})
    assert exported.headers["content-type"].startswith("text/csv")
    assert "attachment" in exported.headers["content-disposition"]
    lines = list(csv.DictReader(io.StringIO(exported.text)))
    assert [(line["hour"], line["function"], line["version"], int(line["calls"])) for line in lines] == [
        (datetime.fromisoformat(row["hour"]).isoformat(), row["function"], row["version"], row["calls"]) for row in rows
    ]


def test_single_invocations_are_found_by_function_outcome_and_id(tenant: Tenant, feed: Feed) -> None:
    version = tenant.deploy("hello", bundle(1))["version"]
    other = tenant.deploy("other", bundle(1))["version"]
    calls = [
        *(Call(version, NOW - timedelta(seconds=second)) for second in range(7)),
        Call(version, NOW - timedelta(seconds=3), outcome="crashed", status=500),
        Call(version, NOW - timedelta(seconds=4), status=418),
        Call(other, NOW - timedelta(seconds=5)),
    ]
    feed.book(calls)
    seen: list[dict[str, Any]] = []
    params: dict[str, Any] = {"limit": 3}
    while True:
        page = get(tenant, "/invocations", **params)
        seen += page["items"]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert {each["id"] for each in seen} == {call.invocation_id for call in calls}
    assert len(seen) == len(calls)
    times = [each["arrived_at"] for each in seen]
    assert times == sorted(times, reverse=True)
    assert [each["status"] for each in get(tenant, "/invocations", errors_only=True)["items"]] == [500, 418]
    assert len(get(tenant, "/invocations", outcome="error_status")["items"]) == 1
    assert len(get(tenant, "/invocations", outcome="ok")["items"]) == 8
    assert len(get(tenant, "/invocations", function="other")["items"]) == 1
    crashed = calls[7]
    (found,) = get(tenant, "/invocations", id=crashed.invocation_id)["items"]
    assert (found["outcome"], found["cpu_us"], found["version"]) == ("crashed", 5_000, version)
    exported = tenant.http.get("/v1/usage/export", params={"rows": "invocations"}).text
    lines = list(csv.DictReader(io.StringIO(exported)))
    assert [line["id"] for line in lines] == [each["id"] for each in seen]
    assert lines[0]["billed"] == "true"


def test_another_tenants_usage_is_not_there(tenant: Tenant, stranger: Tenant, feed: Feed) -> None:
    version = tenant.deploy("hello", bundle(1))["version"]
    call = Call(version)
    feed.book([call])
    assert get(stranger, "")["totals"]["calls"] == 0
    assert get(stranger, "/groups")["items"] == []
    assert get(stranger, "/hours")["items"] == []
    assert get(stranger, "/invocations", id=call.invocation_id)["items"] == []
    assert len(stranger.http.get("/v1/usage/export").text.splitlines()) == 1
    assert get(tenant, "/invocations", id=call.invocation_id)["items"] != []  # the control


def test_the_tiers_are_compared_with_what_really_ran(tenant: Tenant, feed: Feed) -> None:
    assert get(tenant, "/what-if")["items"][0]["calls"] == 0
    version = tenant.deploy("hello", bundle(1))["version"]
    at = NOW - timedelta(days=3)
    feed.book([*Call(version, at).many(195), *Call(version, NOW, memory_bytes=400 * 2**20).many(5)])
    found = {each["tier"]: each for each in get(tenant, "/what-if")["items"]}
    assert found["free"]["calls"] == 200
    assert (found["free"]["failed"], found["free"]["failed_percent"]) == (5, 2.5)
    assert found["free"]["limits"][0]["limit"] == "memory_bytes"
    assert found["free"]["limits"][0]["calls_min"] == 5
    assert (found["pro"]["failed"], found["scale"]["failed"], found["pro"]["limits"]) == (0, 0, [])


def tailcut(tenant: Tenant, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "TAILCUT_SERVER": tenant.control_plane.url, "TAILCUT_KEY": tenant.token, "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "tailcut", "usage", *arguments], env=env, capture_output=True, text=True
    )


def test_the_command_line_shows_it(tenant: Tenant, feed: Feed) -> None:
    assert "no calls in the last 24h" in tailcut(tenant).stderr
    version = tenant.deploy("hello", bundle(1))["version"]
    feed.book([*Call(version).many(9), Call(version, status=500, outcome="crashed")])
    shown = tailcut(tenant)
    assert shown.returncode == 0, shown.stderr
    assert "invocations\t10\t100 k\t0.01 %" in shown.stdout
    (row,) = [line.split("\t") for line in shown.stdout.splitlines() if line.startswith("hello\t")]
    assert row[1:3] == ["10", "10 %"]
    assert "\x1b" not in shown.stdout  # no colours without a terminal
    assert version in tailcut(tenant, "--by", "version", "--function", "hello").stdout
    assert f"{HOUR:%Y-%m-%d}" in tailcut(tenant, "--by", "day", "--last", "2d").stdout
    found = json.loads(tailcut(tenant, "--by", "hour", "--last", "3h", "--json").stdout)
    assert sum(item["calls"] for item in found["items"]) == 10
    (line,) = csv.DictReader(io.StringIO(tailcut(tenant, "--csv").stdout))
    assert (line["function"], line["calls"]) == ("hello", "10")
    for wrong in (("--last", "soon"), ("--by", "version"), ("--csv", "--json"), ("--function", "No!")):
        refused = tailcut(tenant, *wrong)
        assert refused.returncode == 2, (wrong, refused.stdout)
        assert "Traceback" not in refused.stderr


WRONG = {
    "since after until": ("", {"since": "2026-05-02T00:00:00Z", "until": "2026-05-01T00:00:00Z"}, 422),
    "long ago": ("", {"since": "0001-01-01T00:00:00Z"}, 422),
    "without a zone": ("", {"since": "2026-05-02T00:00:00"}, 422),
    "too long for hours": ("", {"since": "2025-05-02T00:00:00Z", "until": "2026-05-01T00:00:00Z"}, 422),
    "a step that is none": ("", {"step": "week"}, 422),
    "versions of no function": ("/groups", {"by": "version"}, 422),
    "a cursor of somebody else's": ("/hours", {"cursor": "aGVsbG8"}, 400),
    "a cursor of a time that is none": ("/invocations", {"cursor": "MjAyNi0xMy0wMSBhYWFh"}, 400),
    "an id that is none": ("/invocations", {"id": "xyz"}, 422),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_question_is_told_what_is_wrong(tenant: Tenant, case: str) -> None:
    path, params, status = WRONG[case]
    answer = tenant.http.get(f"/v1/usage{path or '/series'}", params=params)
    assert answer.status_code == status, answer.text
    assert answer.json()["detail"]
