"""Tiers as data: the catalogue's rules, versions that are kept, what a tenant may use, what gateways are told."""

import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from control_plane.models import Subscription
from control_plane.tiers.catalog import DEFAULT_PATH, CatalogError, Tier, load_catalog
from control_plane.tiers.effective import Overrides, entitlements, function_limits, next_tier, upgrades
from control_plane.tiers.periods import add_months, period_of
from gateway.contract.table import TABLE_KEY, Limits
from tests.control_plane.bundles import bundle
from tests.control_plane.running import ControlPlane, Tenant, Valkey, eventually

TEXT = DEFAULT_PATH.read_text()
OVERAGE = """[tiers.overage]
million_invocations_minor = 1
thousand_cpu_seconds_minor = 1
million_mib_seconds_minor = 1
"""
WRONG: dict[str, tuple[str, str, str]] = {
    "not TOML": ("[[tiers]]", "[[tiers", "is not TOML"),
    "unknown field": ("rank = 0", "ranking = 0", "tiers.0.ranking"),
    "over the contract's bound": ("cpu_ms = 1_000", "cpu_ms = 900_001", "cpu_ms is 900001"),
    "a float for money": ("price_minor = 2_900", "price_minor = 29.5", "price_minor is 29.5"),
    "a default that is not there": ('default_tier = "free"', 'default_tier = "f"', "'f'"),
    "a fallback that costs": ('fallback_tier = "free"', 'fallback_tier = "pro"', "2900"),
    "a tier twice": ('name = "scale"', 'name = "pro"', "'pro' is there twice"),
    "ranks out of order": ("rank = 20", "rank = 5", "ranks must rise"),
    "a higher tier with less": ("timeout_ms = 60_000", "timeout_ms = 5_000", "less than"),
    "more runtime than deadline": ("runtime_us = 20_000", "runtime_us = 200_000", "≤"),
    "overage of a free tier": ("# No [tiers.overage]", f"{OVERAGE}#", "costs nothing"),
    "an add-on of no tier": ('tiers = ["scale"]', 'tiers = ["huge"]', "'huge'"),
    "reserved CPU without a reservation": ('tiers = ["scale"]', 'tiers = ["pro"]', "no [reservation]"),
}
"""What is replaced, by what, and a part of the refusal"""


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_catalogue_is_refused_with_the_place(case: str, tmp_path: Path) -> None:
    old, new, expected = WRONG[case]
    assert old in TEXT
    path = tmp_path / "catalog.toml"
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(CatalogError) as caught:
        load_catalog(path)
    assert expected in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_server_does_not_start_with_a_wrong_catalogue(control_plane: ControlPlane, tmp_path: Path) -> None:
    path = tmp_path / "catalog.toml"
    path.write_text(TEXT.replace("cpu_ms = 1_000", "cpu_ms = -1"))
    refused = control_plane.run("migrate", TAILCUT_TIER_CATALOG=path)
    assert refused.returncode == 2
    assert "cpu_ms is -1" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_function_limits_are_the_smaller_and_an_upgrade_is_named_only_where_it_is_enough() -> None:
    catalog = load_catalog()
    free = catalog.tier("free")
    assert free is not None
    sold = [tier for tier in catalog.tiers if tier.sold]
    held = entitlements(free, (), Overrides())
    ask = Limits(timeout_ms=20_000, cpu_ms=50, memory_bytes=2**30, output_bytes_max=6 * 2**20)
    cut = function_limits(ask, held.invocation)
    assert (cut.timeout_ms, cut.cpu_ms, cut.memory_bytes) == (10_000, 50, 256 * 2**20)
    # Pro has 512 MiB: more, and not enough for the gibibyte that is asked for.
    assert upgrades(ask, held, sold) == {"timeout_ms": "pro", "memory_bytes": "scale", "output_bytes_max": "pro"}
    # The bounds of the network are named only where there is to be one; an operator can take it away.
    assert cut.network_connections_max == free.invocation.network_connections_max > 0
    assert upgrades(ask.model_copy(update={"network": True}), held, sold)["network_connections_max"] == "pro"
    without = entitlements(free, (), Overrides(invocation={"network_connections_max": 0}))
    assert function_limits(ask, without.invocation).network_connections_max == 0
    assert "memory_bytes" not in upgrades(ask.model_copy(update={"memory_bytes": 2**36}), held, sold)
    assert upgrades(Limits(timeout_ms=10, memory_bytes=2**24, cpu_ms=10, output_bytes_max=9), held, sold) == {}
    more = next_tier(held, sold)
    assert more is not None
    assert more.name == "pro"


def test_add_ons_and_overrides_add_up() -> None:
    catalog = load_catalog()
    scale, concurrency, cpu = catalog.tier("scale"), catalog.add_on("concurrency"), catalog.add_on("cpu-reservation")
    assert scale is not None
    assert concurrency is not None
    assert cpu is not None
    held = entitlements(scale, [(concurrency, 2), (cpu, 3)], Overrides())
    assert held.admission.concurrency_max == scale.admission.concurrency_max + 128
    assert held.reservation is not None
    assert held.reservation.workers_max == 4
    own = entitlements(scale, [(cpu, 3)], Overrides(invocation={"cpu_ms": 77}, reserved_workers=0))
    assert own.invocation.cpu_ms == 77
    assert own.reservation is None
    with pytest.raises(ValueError, match="cpu_ms"):
        entitlements(scale, (), Overrides(invocation={"cpu_ms": 1}))


def test_a_paid_month_rolls_on_and_a_free_one_is_the_calendars() -> None:
    start, end = datetime(2026, 1, 31, 10, tzinfo=UTC), datetime(2026, 2, 28, 10, tzinfo=UTC)
    paid = Subscription(period_start=datetime(2025, 12, 31, 10, tzinfo=UTC), period_end=start)
    assert period_of(paid, start.replace(day=30)).start == datetime(2025, 12, 31, 10, tzinfo=UTC)
    found = period_of(paid, start)
    assert (found.start, found.end) == (start, end)
    # The day of the anchor comes back: not the 28th for ever.
    assert period_of(paid, end).end == datetime(2026, 3, 31, 10, tzinfo=UTC)
    free = period_of(Subscription(period_start=None, period_end=None), datetime(2026, 12, 5, tzinfo=UTC))
    assert (free.start, free.end) == (datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    assert add_months(datetime(2028, 1, 31, tzinfo=UTC), 1).day == 29


def test_a_new_tenant_is_free_and_sees_what_there_is(tenant: Tenant, control_plane: ControlPlane) -> None:
    held = tenant.http.get("/v1/subscription").json()
    assert (held["tier"], held["version"], held["status"], held["price_minor"]) == ("free", 1, "active", 0)
    assert held["overage"] is None
    with control_plane.client() as anybody:
        listed = anybody.get("/v1/tiers").json()
    assert [tier["name"] for tier in listed["tiers"]] == ["free", "pro", "scale"]
    assert [add_on["name"] for add_on in listed["add_ons"]] == ["concurrency", "cpu-reservation"]
    document = tomllib.loads(TEXT)
    assert listed["tiers"][1]["invocation"] == document["tiers"][1]["invocation"]


def test_more_functions_than_the_tier_allows_are_402_with_the_tier_that_does(tenant: Tenant) -> None:
    allowed = tenant.http.get("/v1/subscription").json()["admission"]["functions_max"]
    for number in range(allowed):
        tenant.deploy(f"fn-{number}", bundle(1))
    refused = tenant.upload("one-more", bundle(1))
    assert refused.status_code == 402
    problem = refused.json()
    assert (problem["tier"], problem["next_tier"], problem["allowed"]) == ("free", "pro", allowed)
    assert problem["upgrade_url"] in refused.headers["Link"]
    tenant.deploy("fn-0", bundle(2))  # a new version of what is there is no new function


def test_the_operator_gives_tiers_add_ons_and_limits(tenant: Tenant, control_plane: ControlPlane) -> None:
    path = f"/v1/tenants/{tenant.id}/subscription"
    with control_plane.client(control_plane.operator_token) as operator:
        given = operator.put(path, json={"tier": "scale", "add_ons": {"cpu-reservation": 2}}).json()
        assert (given["tier"], given["reservation"]["workers_max"]) == ("scale", 3)
        own = operator.put(path, json={"overrides": {"invocation": {"cpu_ms": 123}}}).json()
        assert (own["tier"], own["invocation"]["cpu_ms"], own["reservation"]["workers_max"]) == ("scale", 123, 3)
        for wrong, status in (
            ({"overrides": {"invocation": {"cpu_ms": 1}}}, 422),
            ({"tier": "platinum"}, 404),
            ({"tier": "free", "add_ons": {"concurrency": 1}}, 409),
            ({"add_ons": {"concurrency": 17}}, 422),
            ({"add_ons": {"nothing": 1}}, 404),
        ):
            assert operator.put(path, json=wrong).status_code == status, wrong
        after = tenant.http.get("/v1/subscription").json()
        assert after["tier"] == "scale"
        assert after["invocation"]["cpu_ms"] == 123
    assert tenant.http.put(path, json={"tier": "scale"}).status_code == 404


def test_gateways_are_told_at_once(tenant: Tenant, control_plane: ControlPlane, valkey: Valkey) -> None:
    tenant.deploy("hello", bundle(1))

    def told() -> dict[str, Any]:
        table = json.loads(valkey.client.get(TABLE_KEY) or b"{}")
        found = next(each for each in table["tenants"] if each["id"] == tenant.id)
        version = next(each for each in table["versions"] if each["tenant_id"] == tenant.id)
        return {**found, "version": version}

    free = eventually(told)
    assert (free["tier"], free["concurrency_max"], free["rate_per_s"]) == ("free", 8, 20)
    assert free["quota"]["invocations_max"] == 100_000
    assert free["quota"]["mib_us_max"] == 10_000 * 1024 * 1_000_000
    assert free["upgrade"] == {"rate": "pro", "concurrency": "pro", "quota": "pro"}
    assert free["upgrade_url"] == f"{control_plane.url}/billing"
    assert free["version"]["limits"]["cpu_ms"] == 1_000
    assert free["version"]["upgrade"] == {"cpu_ms": "pro", "output_bytes_max": "pro"}
    with control_plane.client(control_plane.operator_token) as operator:
        operator.put(f"/v1/tenants/{tenant.id}/subscription", json={"tier": "scale"})
    scale = eventually(lambda: told()["tier"] == "scale" and told())
    assert scale["version"]["limits"]["cpu_ms"] == 3_000
    assert scale["version"]["upgrade"] == {}
    assert scale["reservation"]["runtime_us"] == 20_000
    assert scale["quota"]["invocations_max"] is None


def test_a_change_of_the_file_is_a_new_version_and_subscribers_keep_theirs(tmp_path: Path) -> None:
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(TEXT)
    running = ControlPlane(tmp_path / "var", TAILCUT_TIER_CATALOG=catalog)
    try:
        old = running.new_tenant("old")
        running.kill()
        running.restart()  # the same file: no new version
        catalog.write_text(
            TEXT.replace("cpu_ms = 1_000", "cpu_ms = 1_500").replace('name = "cpu-reservation"', 'name = "cpu"')
        )
        running.kill()
        running.restart()
        new = running.new_tenant("new")
        with running.client(old.token) as http:
            kept = http.get("/v1/subscription").json()
        with running.client(new.token) as http:
            fresh = http.get("/v1/subscription").json()
            listed = http.get("/v1/tiers").json()
        assert (kept["version"], kept["invocation"]["cpu_ms"]) == (1, 1_000)
        assert (fresh["version"], fresh["invocation"]["cpu_ms"]) == (2, 1_500)
        assert [tier["version"] for tier in listed["tiers"]] == [2, 1, 1]
        assert [add_on["name"] for add_on in listed["add_ons"]] == ["concurrency", "cpu"]
    finally:
        running.kill()


def test_tiers_are_plain_data() -> None:
    """What SQL keeps of a tier reads back as the same tier."""
    for tier in load_catalog().tiers:
        assert Tier.model_validate(json.loads(json.dumps(tier.model_dump(mode="json")))) == tier
