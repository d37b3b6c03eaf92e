"""The host's dataclasses and the Zig decoder agree: the JSON that they serialise to is the fixture of a Zig test.

``zigcore/src/route/revision_test.zig`` decodes ``revision_fixture.json`` and asks it for rows, keys and routes; here
the fixture is compared with what the dataclasses give now. After a change of ``gateway/contract/revision.py``:
``python tests/unit/gateway/contract/test_revision_fixture.py`` writes it anew, and the Zig test says what it lacks.
"""

import dataclasses
import hashlib
import json
from pathlib import Path

from gateway.contract.revision import KeyRow, Revision, RouteRow, TenantRow, VersionRow
from gateway.contract.worker import SpawnSpec

FIXTURE = Path(__file__).parents[4] / "zigcore" / "src" / "route" / "revision_fixture.json"


def spawn(tenant: str, function: str, version_id: str) -> str:
    spec = SpawnSpec(
        tenant=tenant,
        function=function,
        version_id=version_id,
        code_path="/var/bundles/0",
        handler="app:handler",
        env={"GREETING": 'grüß "Gott"\n'},
    )
    return json.dumps(dataclasses.asdict(spec))


def version(index: int, tenant: int, function: str, *, probe: bool = False) -> VersionRow:
    return VersionRow(
        index=index,
        id=f"ver_{index:026d}",
        tenant=tenant,
        function=function,
        spawn=spawn("acme", function, f"ver_{index:026d}"),
        timeout_ms=3_000,
        concurrency_max=16,
        workers_min=0,
        request_bytes_max=6 * 2**20,
        output_bytes_max=6 * 2**20,
        log_bytes_max=64 * 2**10,
        probe=probe,
        cpu_ms=200,
        memory_bytes=128 * 2**20,
        leased=index == 5,
        open_files_max=64,
        processes_max=8,
        children=True,
        upgrade_timeout="t",
        upgrade_cpu="c",
        upgrade_memory="m",
        upgrade_output="o",
    )


def key(token: str, tenant: int, *, invoke: bool, expires_at_s: int = 0) -> KeyRow:
    return KeyRow(hashlib.sha256(token.encode()).hexdigest(), tenant, invoke, expires_at_s, f"key_{token[12:]}")


def example() -> Revision:
    openapi = json.dumps({"openapi": "3.1.0", "info": {"title": '"acme" – Rechnungen 🧾'}}, ensure_ascii=False)
    return Revision(
        revision=42,
        tenants=[
            TenantRow("zeta", 1, "", ""),
            TenantRow(
                "acme",
                64,
                "{}",
                openapi,
                id="tnt_acme",
                tier="pro",
                status="unpaid",
                rate_per_s=100,
                burst=200,
                leased=True,
                resets_at_s=4_000_000_000,
                cpu_weight=300,
                reserved_runtime_us=20_000,
                reserved_deadline_us=90_000,
                reserved_period_us=100_000,
                reserved_workers_max=2,
                reserved_fallback=False,
                upgrade_url="https://example.org/upgrade",
                upgrade_rate="scale",
                upgrade_concurrency="scale-c",
                upgrade_quota="scale-q",
            ),
        ],
        keys=[
            key("tck_fixture_invoke", 1, invoke=True),
            key("tck_fixture_read", 1, invoke=False),
            key("tck_fixture_expired", 0, invoke=True, expires_at_s=1_700_000_000),
        ],
        versions=[version(5, 1, "invoice"), version(0, 1, "invoice", probe=True), version(65_535, 0, "x")],
        routes=[
            RouteRow(1, "invoice", "live", 5, public=False),
            RouteRow(1, "invoice", f"ver_{0:026d}", 0, public=False),
            RouteRow(1, "broken", "live", -1, public=True, error='Traceback …\n  File "app.py", line 1\nSyntaxError'),
            RouteRow(0, "x", "canary", 65_535, public=True),
        ],
    )


def fixture_text() -> str:
    # ASCII on purpose: the escapes (\\u20ac, surrogate pairs) are what a decoder gets wrong.
    return json.dumps(dataclasses.asdict(example()), indent=1) + "\n"


def test_fixture_is_what_the_dataclasses_serialise_to() -> None:
    assert FIXTURE.read_text() == fixture_text(), f"stale: run python {Path(__file__).name} and `make test`"


def test_every_field_is_in_the_fixture() -> None:
    document = json.loads(FIXTURE.read_text())
    rows = {"tenants": TenantRow, "keys": KeyRow, "versions": VersionRow, "routes": RouteRow}
    for section, row_type in rows.items():
        names = {field.name for field in dataclasses.fields(row_type)}
        assert document[section], section
        for row in document[section]:
            assert set(row) == names


if __name__ == "__main__":
    FIXTURE.write_text(fixture_text())
