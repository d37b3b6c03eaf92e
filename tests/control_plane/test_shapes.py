"""Shapes of usage by themselves: the error bound of quantiles, merging, the bytes, and what another tier would fail."""

import asyncio
import random
import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.database import Database
from control_plane.models import Base
from control_plane.tiers.catalog import Tier, load_catalog
from control_plane.usage import history, minutes, pruning, rollup, shape
from control_plane.usage.booking import Row
from control_plane.usage.shape import ERROR_MAX, NAMES, VALUE_MAX, CorruptShapeError, Histogram, Shape
from control_plane.usage.views import Minute
from control_plane.usage.what_if import Hour, overage_minor, what_if

VALUES = st.integers(0, 2**40) | st.integers(0, 64) | st.builds(lambda bits: 2**bits, st.integers(0, 61))
LISTS = st.lists(VALUES, max_size=200)
CALLS = st.lists(st.tuples(st.sampled_from(["ok", "timeout", "error_status"]), VALUES, st.booleans()), max_size=60)
START = datetime(2026, 5, 1, tzinfo=UTC)


def histogram(values: Sequence[int]) -> Histogram:
    made = Histogram()
    for value in values:
        made.add(value)
    return made


def shape_of(calls: Sequence[tuple[str, int, bool]]) -> Shape:
    made = Shape()
    for outcome, value, cold in calls:
        made.outcomes[outcome] += 1
        made.cold += cold
        for place, each in enumerate(made.histograms):
            each.add(value * (place + 1))
    return made


@given(VALUES)
def test_a_bucket_holds_its_values_and_no_gap_is_between_two(value: int) -> None:
    bucket = shape.bucket_of(value)
    low, high = shape.bounds_of(bucket)
    assert low <= value <= high
    assert shape.bucket_of(high) == bucket
    assert shape.bucket_of(high + 1) == bucket + 1


@given(LISTS.filter(bool), st.sampled_from([0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0]))
def test_a_quantile_is_as_near_as_promised(values: list[int], share: float) -> None:
    found = histogram(values).quantile(share)
    rank = max(1, -(-round(share * 1_000_000) * len(values) // 1_000_000))
    exact = sorted(values)[rank - 1]
    assert found is not None
    assert abs(found - exact) <= exact * ERROR_MAX


def test_control_half_the_resolution_would_break_the_promise() -> None:
    """The widest bucket needs all of ``ERROR_MAX``: the bound is not slack."""
    errors = []
    for value in range(16, 4096):
        found = histogram([value]).quantile(0.5)
        assert found is not None
        errors.append(abs(found - value) / value)
    assert ERROR_MAX / 2 < max(errors) <= ERROR_MAX
    assert histogram([]).quantile(0.5) is None
    assert histogram([2**70]).quantile(1) == histogram([VALUE_MAX]).quantile(1)


@given(LISTS, VALUES)
def test_a_count_above_a_bound_is_between_its_bounds(values: list[int], bound: int) -> None:
    exact = sum(value > bound for value in values)
    above = histogram(values).above(bound)
    assert above.least <= exact <= above.most
    assert above.least <= above.calls <= above.most


@given(CALLS, CALLS, CALLS)
def test_merging_is_the_union_in_any_order(
    one: list[tuple[str, int, bool]], two: list[tuple[str, int, bool]], three: list[tuple[str, int, bool]]
) -> None:
    whole = shape_of(one + two + three).encode()
    left = shape.merged([shape.merged([shape_of(one), shape_of(two)]), shape_of(three)])
    right = shape.merged([shape_of(three), shape.merged([shape_of(two), shape_of(one)])])
    assert left.encode() == right.encode() == whole
    assert shape.merged([shape.decode(shape_of(one).encode()), shape_of(two + three)]).encode() == whole


@given(CALLS)
def test_the_bytes_read_back(calls: list[tuple[str, int, bool]]) -> None:
    made = shape_of(calls)
    back = shape.decode(made.encode())
    assert (back.calls, back.errors, back.cold) == (made.calls, made.errors, made.cold)
    assert back.outcomes == made.outcomes
    assert all(back[name].buckets == made[name].buckets for name in NAMES)


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_bad_bytes_are_refused(data: bytes) -> None:
    for bad in (data, b"\x01" + data, shape_of([("ok", 3, True)]).encode()[: len(data) % 40]):
        try:
            shape.decode(bad)
        except CorruptShapeError:
            continue
        pytest.fail(f"{bad!r} was read")


def test_a_shape_of_a_newer_release_is_refused() -> None:
    with pytest.raises(CorruptShapeError, match="newer"):
        shape.decode(b"\x02" + Shape().encode()[1:])
    with pytest.raises(minutes.CorruptMinutesError, match="newer"):
        minutes.decode(b"\x03" + minutes.Minutes().encode()[1:])


def test_minutes_add_up_and_read_back() -> None:
    one, two = minutes.Minutes(), minutes.Minutes()
    one.add(0, error=False, busy_us=7, cpu_us=3, mib_us=64)
    two.add(0, error=True, busy_us=5, cpu_us=2, mib_us=36)
    two.add(59, error=False, busy_us=1, cpu_us=1, mib_us=1)
    one.merge(minutes.decode(two.encode()))
    assert (one.calls[0], one.errors[0], one.busy_us[0], one.calls[59]) == (2, 1, 12, 1)
    assert (one.cpu_us[0], one.mib_us[0], one.mib_us[59]) == (5, 100, 1)
    assert minutes.decode(one.encode()) == one


def test_minutes_of_the_first_release_are_read() -> None:
    written = b"\x01" + struct.pack("<120I60Q", *range(180))
    read = minutes.decode(written)
    assert (read.calls[1], read.errors[0], read.busy_us[59]) == (1, 60, 179)
    assert not any(read.cpu_us + read.mib_us)


# -- In SQL ----------------------------------------------------------------------------------------------------------


def row(at: datetime, tenant_id: str = "tnt_1", *, status: int = 200, cold: bool = False) -> Row:
    return Row(
        id=1,
        invocation_id="00",
        tenant_id=tenant_id,
        function="f",
        version_id="v",
        arrived_unix_us=int(at.timestamp()) * 1_000_000,
        outcome="ok",
        status=status,
        billed=True,
        cold=cold,
        deadline=False,
        start_us=0,
        log_bytes=0,
        mib_us=1000,
        **dict.fromkeys(NAMES, 1000),
    )


def test_rows_add_up_over_transactions_and_old_hours_go_while_days_stay(tmp_path: Path) -> None:
    async def run() -> None:
        database = Database(f"sqlite+aiosqlite:///{tmp_path / 'database.sqlite'}")
        async with database.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        old, late = START, START + timedelta(days=2, hours=23, minutes=59)
        rows = [*(row(old) for _ in range(3)), row(late, status=500), row(old, "tnt_2"), row(late, cold=True)]
        for part in (rows[:2], rows[2:5], rows[5:], []):
            async with database.writing() as session:
                await rollup.add(session, part)
        async with database.reading() as session:
            day = await history.error_counts(session, "tnt_1", START + timedelta(days=2))
            whole = [each async for each in history.shapes(session, "tnt_1", old, late)]
        assert day == (2, 1)
        # Two whole days as days; of the third the hours until then.
        assert [(each.start, each.shape.calls) for each in sorted(whole, key=lambda each: each.start)] == [
            (START, 3), (START + timedelta(days=2, hours=23), 2)
        ]  # fmt: skip
        async with database.writing() as session:
            await pruning.forget_hours(session, START + timedelta(days=1))
            await pruning.forget_tenant(session, "tnt_2")
        async with database.reading() as session:
            hours = [each async for each in history.shapes_by(session, "tnt_1", "hour", old, late)]
            days = [each async for each in history.shapes_by(session, "tnt_1", "day", old, late)]
            left = await history.minutes_of(session, "tnt_1", old, late)
            gone = [each async for each in history.shapes_by(session, "tnt_2", "day", old, late)]
        assert [each.start for each in hours] == [late.replace(minute=0)]
        assert sorted(each.shape.calls for each in days) == [2, 3]
        assert [minutes.calls[59] for minutes in left.values()] == [2]
        assert gone == []
        await database.close()

    asyncio.run(run())


# -- What another tier would have failed -----------------------------------------------------------------------------


def tier(name: str) -> Tier:
    found = load_catalog().tier(name)
    assert found is not None
    return found


def test_calls_beyond_a_limit_are_counted_and_a_larger_tier_takes_them() -> None:
    free, pro = tier("free"), tier("pro")
    values = [random.Random(7).randrange(1_000, 900_000) for _ in range(970)]
    values += [3_000_000] * 30  # three seconds of CPU: Free allows one, Pro ten
    made = Shape()
    for value in values:
        made.outcomes["ok"] += 1
        for name in NAMES:
            made[name].add(value if name == "cpu_us" else 1)
    on_free = what_if(free, START, START, made, [], [])
    assert (on_free.calls, on_free.failed, round(on_free.share, 3)) == (1000, 30, 0.03)
    worst = on_free.largest
    assert worst is not None
    assert (worst.limit, worst.calls, worst.calls_min, worst.calls_max, worst.allowed) == ("cpu_ms", 30, 30, 30, 1000)
    assert abs(worst.worst - 3000) <= 3000 * ERROR_MAX
    assert what_if(pro, START, START, made, [], []).failed == 0
    assert what_if(pro, START, START, made, [], []).largest is None


def test_those_that_a_limit_has_stopped_count_on_the_tier_that_stopped_them() -> None:
    """They were seen just above the limit, in the same bucket as good ones just below it."""
    free, pro = tier("free"), tier("pro")
    made = Shape()
    for outcome, wall_us, count in (("ok", 9_900_000, 50), ("timeout", 10_050_000, 10)):
        made.outcomes[outcome] += count
        for name in NAMES:
            for _ in range(count):
                made[name].add(wall_us if name == "wall_us" else 1)
    found = what_if(free, START, START, made, [], []).largest
    assert found is not None
    assert found.limit == "timeout_ms"
    assert found.calls_min <= 10 <= found.calls_max
    assert found.calls >= 10
    assert what_if(pro, START, START, made, [], []).failed == 0  # whether a minute is enough nobody knows


def test_calls_after_the_quota_has_ended_are_refused_where_the_tier_stops_and_billed_where_not() -> None:
    free, pro = tier("free"), tier("pro")
    made = Shape()
    made.outcomes["ok"] = 200_000
    hours = [Hour(START + timedelta(hours=number), 1000, 0, 0) for number in range(200)]
    on_free = what_if(free, START, START, made, hours, [])
    assert on_free.failed == 100_000
    assert on_free.largest is not None
    assert (on_free.largest.limit, on_free.largest.allowed, on_free.largest.worst) == ("invocations", 100_000, 200_000)
    assert on_free.overage_minor == 0
    # CPU ends sooner: 3,600 s are 18 of 200 hours at 200 s each.
    hours = [Hour(START + timedelta(hours=number), 1000, 200_000_000, 0) for number in range(200)]
    sooner = what_if(free, START, START, made, hours, [])
    assert (sooner.failed, sooner.limits[0].limit) == (182_000, "cpu_seconds")
    many = [Hour(START, 7_000_000, 0, 0)]
    assert what_if(pro, START, START, made, many, []).failed == 0
    assert what_if(pro, START, START, made, many, []).overage_minor == 60  # two million over, 30 cents each
    assert overage_minor(pro, 5_000_001, 0, 0) == 0  # rounded down, on the invoice once


def test_bursts_over_the_rate_and_too_many_at_once_are_found() -> None:
    free = tier("free")  # 20 a second, a burst of 40, 8 at once
    made = Shape()
    made.outcomes["ok"] = 3600
    calm = [Minute(START + timedelta(minutes=n), 60, 0, 60_000_000) for n in range(60)]
    assert what_if(free, START, START, made, [], calm).failed == 0
    burst = [*calm[:59], Minute(START, 3_240, 0, 60_000_000)]
    found = what_if(free, START, START, made, [], burst).largest
    assert found is not None
    assert (found.limit, found.calls) == ("rate_per_s", 3_240 - 40 - 1_200)
    crowd = [*calm[:59], Minute(START, 60, 0, 16 * 60_000_000)]
    found = what_if(free, START, START, made, [], crowd).largest
    assert found is not None
    assert (found.limit, found.calls, found.worst) == ("concurrency_max", 30, 16)
