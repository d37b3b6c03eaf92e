"""The types of ``gateway/contract/metrics.py`` describe what Zig writes, no more and no less.

The fixture is compared byte for byte with the snapshot writer's output in ``zigcore/src/meter/counters.zig``.
"""

import json
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from gateway.contract import metrics

FIXTURE = Path(__file__).parents[4] / "zigcore" / "src" / "meter" / "metrics_fixture.json"


def strict(typed_dict: Any) -> Any:
    """The TypedDict, with unknown members refused in it and in what it contains."""
    for member in vars(metrics).values():
        if isinstance(member, type) and issubclass(member, dict) and member.__module__ == metrics.__name__:
            with_config(ConfigDict(extra="forbid"))(member)
    return TypeAdapter(typed_dict)


def test_snapshot_fits_the_types() -> None:
    document = strict(metrics.Metrics).validate_json(FIXTURE.read_bytes())
    assert document["versions"][0]["outcomes"] == {"ok": 2}
    assert sum(count for _, count in document["queue"]["buckets"]) == document["queue"]["count"] == 1


@pytest.mark.parametrize("path", [(), ("reactors", 0), ("reactors", 0, "workers"), ("tenants", 0), ("run",)])
def test_a_member_more_or_less_is_noticed(path: tuple[str | int, ...]) -> None:
    for change in ("add", "remove"):
        document = json.loads(FIXTURE.read_text())
        place: Any = document
        for step in path:
            place = place[step]
        if change == "add":
            place["unheard_of"] = 1
        else:
            place.popitem()
        with pytest.raises(ValidationError):
            strict(metrics.Metrics).validate_python(document)


def test_literals_and_typed_dicts_name_the_same() -> None:
    assert list(get_type_hints(metrics.Outcomes)) == list(get_args(metrics.Outcome))
    assert list(get_type_hints(metrics.Workers)) == list(get_args(metrics.WorkerState))


def test_outcomes_are_those_of_zig() -> None:
    source = (FIXTURE.parent / "counters.zig").read_text()
    body = source.split("pub const Outcome = enum(u8) {", 1)[1].split("};", 1)[0]
    names = [
        line.strip().rstrip(",") for line in body.splitlines() if line.strip() and not line.strip().startswith("//")
    ]
    assert names == list(get_args(metrics.Outcome))
