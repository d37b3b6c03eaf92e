"""What gateways report of keys becomes their last use."""

import time
from datetime import UTC, datetime

from gateway.contract.report import KEY_USES_FIELD, REPORT_STREAM, KeyUses
from tests.control_plane.running import Tenant, Valkey, eventually


def report(valkey: Valkey, **used_s: int) -> None:
    document = KeyUses(node="node-1", used_s=used_s).model_dump_json()
    valkey.client.xadd(REPORT_STREAM, {KEY_USES_FIELD: document})


def consumed(valkey: Valkey) -> bool:
    return valkey.client.xlen(REPORT_STREAM) == 0


def last_used(tenant: Tenant, key_id: str) -> float | None:
    at: str | None = tenant.http.get(f"/v1/keys/{key_id}").json()["last_used_at"]
    return None if at is None else datetime.fromisoformat(at).timestamp()


def test_the_last_use_only_moves_forward_whatever_nodes_report(tenant: Tenant, valkey: Valkey) -> None:
    used, other = (tenant.new_key("invoke")["id"] for _ in range(2))
    at_s = int(time.time()) - 3600
    report(valkey, **{used: at_s, "key_of_nobody": at_s})
    assert eventually(lambda: last_used(tenant, used) == at_s)
    for content in (b"", b"{", b'{"node": "n", "used_s": {"k": -1}}', b'{"node": "n", "used_s": []}'):
        valkey.client.xadd(REPORT_STREAM, {KEY_USES_FIELD: content})
    report(valkey, **{used: at_s - 100})  # another node's, late
    report(valkey)
    assert eventually(lambda: consumed(valkey))
    assert last_used(tenant, used) == at_s
    assert last_used(tenant, other) is None
    report(valkey, **{used: at_s + 100, other: at_s})
    assert eventually(lambda: last_used(tenant, other) == at_s)
    assert last_used(tenant, used) == at_s + 100
    # A clock that is ahead must not hide what comes later.
    report(valkey, **{other: 2**32 - 1})
    assert eventually(lambda: (last_used(tenant, other) or 0) > at_s)
    assert (last_used(tenant, other) or 0) <= time.time()


def test_a_use_until_the_end_is_seen_on_a_revoked_key(tenant: Tenant, valkey: Valkey) -> None:
    key_id = tenant.new_key("invoke")["id"]
    tenant.http.delete(f"/v1/keys/{key_id}")
    at_s = int(datetime.now(UTC).timestamp()) - 5
    report(valkey, **{key_id: at_s})
    assert eventually(lambda: last_used(tenant, key_id) == at_s)
