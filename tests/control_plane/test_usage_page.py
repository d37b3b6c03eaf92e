"""The usage page as a browser without scripts sees it, and the charts by themselves."""

import csv
import io
import re
from datetime import UTC, datetime, timedelta

import pytest

from control_plane.dashboard import audit_words, charts, figures
from control_plane.dashboard.charts import Series
from tests.control_plane.bundles import bundle
from tests.control_plane.dashboard_browser import Browser, Tags, check_policy, tenant_of
from tests.control_plane.running import ControlPlane, Person, Tenant, Valkey, join
from tests.control_plane.usage_feed import Call, Feed

START = datetime(2026, 5, 1, tzinfo=UTC)


def tenant_with_key(owner: Person) -> Tenant:
    key = owner.http.post("/v1/keys", json={"scopes": ["admin"]}).json()
    return Tenant(owner.control_plane, {"id": owner.http.get("/v1/tenant").json()["id"], "name": "", "key": key})


@pytest.fixture
def signed_in(control_plane: ControlPlane, owner: Person) -> Browser:
    made = Browser(control_plane.url)
    made.sign_in(owner.email)
    return made


def test_the_page_teaches_then_shows(signed_in: Browser, owner: Person, valkey: Valkey) -> None:
    page = signed_in.open("/usage")
    assert "tailcut invoke hello" in page.text
    assert "100 k" in page.text  # what is included is said before the first call
    tenant = tenant_with_key(owner)
    version = tenant.deploy("hello", bundle(1))["version"]
    tenant.deploy("quiet", bundle(1))
    Feed(valkey).book(
        [*Call(version, wall_us=12_000).many(9), Call(version, outcome="timeout", status=504, wall_us=12_000)]
    )
    of_an_hour = signed_in.open("/").text
    for title in ("Calls. answered", "Running at once. mean", "CPU in use. of one CPU", "Memory in use. mean"):
        assert f'aria-label="{title} at most ' in of_an_hour, "each chart has something to show"
    assert "CPU now" in of_an_hour
    page = signed_in.open("/usage")
    check_policy(page)
    assert "tailcut invoke hello" not in page.text
    assert page.text.count('<figure class="chart">') == 4
    assert "Over the timeout" in page.text
    assert "10 %" in page.text
    for shown in ("week", "month"):
        assert '<figure class="chart">' in signed_in.open(f"/usage?range={shown}").text
    assert version in signed_in.open("/usage?function=hello").text
    assert "Nobody called quiet" in signed_in.open("/usage?function=quiet").text
    assert signed_in.open("/usage?range=year").status_code == 422
    exported = signed_in.open("/usage/export.csv?range=day")
    assert [row["calls"] for row in csv.DictReader(io.StringIO(exported.text))] == ["10"]
    single = signed_in.open("/usage/export.csv?range=day&rows=invocations").text
    assert len(single.splitlines()) == 11


def test_near_the_end_of_a_quota_the_page_warns_and_offers_more(
    signed_in: Browser, owner: Person, valkey: Valkey, control_plane: ControlPlane
) -> None:
    tenant = tenant_with_key(owner)
    with control_plane.client(control_plane.operator_token) as operator:
        overrides = {"month": {"invocations": 10}}
        operator.put(f"/v1/tenants/{tenant.id}/subscription", json={"tier": "free", "overrides": overrides})
    version = tenant.deploy("hello", bundle(1))["version"]
    feed = Feed(valkey)
    feed.book(Call(version).many(7))
    assert "notice warn" not in signed_in.open("/usage").text  # the control
    feed.book([Call(version)])
    page = signed_in.open("/usage").text
    assert "notice warn" in page
    assert "80 %" in page
    assert f"{control_plane.url}/billing" in page
    feed.book(Call(version).many(2))
    page = signed_in.open("/usage").text
    assert "notice bad" in page
    assert "is used up" in page
    viewer = join(owner, f"viewer-of-{tenant_of(owner)}@example.com", "viewer")
    eyes = Browser(control_plane.url)
    eyes.sign_in(viewer.email)
    seen = eyes.open("/usage").text
    assert "is used up" in seen
    assert f"{control_plane.url}/billing" not in seen  # who may not buy is not sent there


# -- Charts ----------------------------------------------------------------------------------------------------------


def starts(count: int, length: timedelta) -> list[datetime]:
    return [START + number * length for number in range(count)]


def test_columns_are_as_high_as_their_values_and_stand_on_each_other() -> None:
    chart = charts.columns(
        "Calls",
        starts(3, timedelta(hours=1)),
        [Series("ok", [50, 0, 100]), Series("bad", [50, 0, 0], "bad")],
        step="hour",
    )
    drawn = [
        (about["class"], float(about["y"] or 0), float(about["height"] or 0))
        for tag, about in Tags(chart).seen
        if tag == "rect" and (about.get("class") or "").startswith("tone-") and about.get("y")
    ]
    assert drawn == [("tone-main", 50.0, 50.0), ("tone-bad", 0.0, 50.0), ("tone-main", 0.0, 100.0)]
    assert "style=" not in chart
    table = chart[chart.index("<table") :]
    assert table.count("<tr>") == 3  # the head, and two hours in which something was
    assert "ok at most 100, 2026-05-01 02:00 UTC" in chart


def test_a_line_breaks_where_nothing_is_known() -> None:
    chart = charts.lines(
        "p99", starts(6, timedelta(hours=1)), [Series("p99", [1.0, 2.0, None, 3.0, None, 4.0])], step="hour"
    )
    lines = [about["points"] or "" for tag, about in Tags(chart).seen if tag == "polyline"]
    assert [line.count(",") for line in lines] == [2, 2, 2]  # two points; single ones become dashes


def axis(chart: str) -> list[str]:
    [labels] = re.findall(r'<div class="plot-y"[^>]*>(.*?)</div>', chart)
    return re.findall(r"<span>([^<]*)</span>", labels)


def test_lines_that_differ_by_orders_are_both_seen() -> None:
    def durations(low: float) -> str:
        series = [Series("p99", [9_000_000.0, 9_000_000.0], "warn"), Series("p50", [low, low])]
        return charts.lines("Duration", starts(2, timedelta(hours=1)), series, step="hour", unit=figures.SECONDS)

    apart, near = durations(9_000.0), durations(3_000_000.0)
    assert axis(apart) == ["10 s", "1 s", "100 ms", "10 ms", "1 ms"]
    assert "log scale" in apart
    heights = [
        float((about["points"] or "").split(",")[1].split()[0]) for tag, about in Tags(apart).seen if tag == "polyline"
    ]
    assert heights[0] < 5
    assert 70 < heights[1] < 80, "9 ms, on a quarter of the height, not on the ground"
    assert "log scale" not in near
    assert axis(near) == ["10 s", "7.5 s", "5 s", "2.5 s", "0"]


@pytest.mark.parametrize(
    ("unit", "highest", "top", "second"),
    [
        (figures.SECONDS, 230e6, "4 min", "1 min"),
        (figures.SECONDS, 5.2e9, "1.5 h", "30 min"),
        (figures.SECONDS, 12_000.0, "15 ms", "5 ms"),
        (figures.PERCENT, 0.0001, "8 %", "2 %"),
        (figures.MEAN, 0.0001, "0.2", "0.05"),
        (figures.COUNT, 1, "1", "1"),
    ],
)
def test_an_axis_ends_at_a_round_number(unit: figures.Unit, highest: float, top: str, second: str) -> None:
    chart = charts.columns("x", starts(1, timedelta(hours=1)), [Series("x", [highest])], step="hour", unit=unit)
    labels = axis(chart)
    assert (labels[0], labels[-2], labels[-1]) == (top, second, unit.write(0))


def test_what_is_named_is_escaped_and_nothing_at_all_can_be_drawn() -> None:
    bad = '<script>"x"</script>'
    for chart in (
        charts.columns(bad, starts(2, timedelta(days=1)), [Series(bad, [1, 2])], step="day"),
        charts.lines(bad, starts(2, timedelta(days=1)), [Series(bad, [1, None])], step="day"),
        charts.bar(bad, 0.5),
        charts.spark(bad, [1, 2]),
    ):
        assert "<script" not in chart
        assert "&lt;script" in chart
    for empty in (charts.columns("Calls", [], [Series("ok", [])], step="hour"), charts.spark("x", [])):
        assert "NaN" not in empty
        assert "<svg" in empty


@pytest.mark.parametrize(
    ("share", "tone"), [(0, "main"), (0.5, "main"), (0.8, "warn"), (0.999, "warn"), (1, "bad"), (7, "bad")]
)
def test_a_bar_says_how_near_the_end_is(share: float, tone: str) -> None:
    drawn = charts.bar("Calls", share)
    width = re.search(rf'tone-{tone}" width="([\d.]+)"', drawn)
    assert width is not None
    assert float(width[1]) == min(100, share * 100)


@pytest.mark.parametrize(
    ("step", "count", "length"), [("hour", 24, 1), ("hour", 168, 1), ("day", 30, 24), ("day", 7, 24)]
)
def test_labels_below_a_chart_are_few_and_round(step: charts.Step, count: int, length: int) -> None:
    chart = charts.columns("x", starts(count, timedelta(hours=length)), [Series("x", [1] * count)], step=step)
    labels = re.findall(r"<text[^>]*>([^<]+)</text>", chart)
    assert 2 <= len(labels) <= 7
    assert len(set(labels)) == len(labels)


def test_the_audit_log_speaks_of_money_and_yes_and_no() -> None:
    details = {"amount_minor": 5000, "stops": True, "quota_percents": [80, 100], "role": "admin", "limits": {}}
    said = "amount $50.00 · stops calls: yes · quotas at 80 %, 100 % · role admin · limits none"
    assert audit_words.told(details) == said


WRITTEN = [
    (figures.compact, 0, "0"),
    (figures.compact, 999, "999"),
    (figures.compact, 999.9, "1 k"),
    (figures.compact, 12_345, "12.3 k"),
    (figures.compact, 999_960, "1 M"),
    (figures.exact, 1_234_567, "1,234,567"),
    (figures.duration, 0, "0"),
    (figures.duration, 850, "850 µs"),
    (figures.duration, 12_500, "12.5 ms"),
    (figures.duration, 90_000_000, "1.5 min"),
    (figures.size, 1_610_612_736, "1.5 GiB"),
    (figures.size, 100, "100 B"),
    (figures.money, 123_456, "$1,234.56"),
    (figures.percent, 0, "0 %"),
    (figures.percent, 0.00001, "< 0.01 %"),
    (figures.percent, 0.025, "2.5 %"),
    (figures.percent, 0.9999, "99.9 %"),
    (figures.percent, 1, "100 %"),
    (figures.percent, 1.5, "150 %"),
]


@pytest.mark.parametrize(("write", "value", "expected"), WRITTEN)
def test_numbers_are_short_and_true(write, value: float, expected: str) -> None:  # type: ignore[no-untyped-def]
    assert write(value) == expected
