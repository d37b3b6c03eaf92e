"""Quotas that nodes share through leases: the bound holds over nodes, crashes and a Redis that goes away.

The stated bound: the quota, plus ``CREDIT[0]`` invocations for each start of a node (gateway/host/leases.py).
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from gateway.contract.table import Spend
from gateway.host.leases import CREDIT
from tests.quota.conftest import OWNER, Node, quota, table
from tests.support.valkey import Valkey

HANG_S = 120.0


def spend_all(
    nodes: list[Node], until_refused: int = 30, meanwhile: Callable[[int], None] | None = None
) -> Counter[int]:
    """Calls all nodes side by side until each has refused ``until_refused`` calls in a row; counts the statuses."""
    counts: Counter[int] = Counter()
    lock = threading.Lock()

    def hammer(node: Node) -> None:
        refused = 0
        deadline = time.monotonic() + HANG_S
        while refused < until_refused:
            assert time.monotonic() < deadline
            status = node.call(OWNER).status
            with lock:
                counts[status] += 1
                served = counts[200]
            if meanwhile is not None:
                meanwhile(served)
            refused = 0 if status == 200 else refused + 1
            if status != 200:
                time.sleep(0.05)

    threads = [threading.Thread(target=hammer, args=(node,)) for node in nodes for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return counts


def test_two_nodes_share_a_quota_of_1000(make_node: Callable[..., Node]) -> None:
    nodes = [make_node(), make_node()]
    document = table(
        quota=quota(invocations_max=1000), upgrade={"quota": "pro"}, upgrade_url="https://tailcut.example/tiers"
    )
    for node in nodes:
        node.apply(document)
    counts = spend_all(nodes)
    # Nothing is lost between the nodes, and nobody serves more than was leased.
    assert 1000 <= counts[200] <= 1000 + 2 * CREDIT[0]
    assert set(counts) <= {200, 402, 503}
    owner = nodes[0].call(OWNER)
    assert owner.status == 402
    problem = owner.problem
    assert (problem["limit"], problem["allowed_invocations"], problem["next_tier"]) == ("invocations", 1000, "pro")
    assert problem["used_invocations"] >= 1000
    assert owner.headers["link"] == '<https://tailcut.example/tiers>; rel="payment"'
    stranger = nodes[0].call()
    assert (stranger.status, stranger.problem["violated-policies"]) == (429, ["quota"])
    assert not {"allowed_invocations", "used_invocations", "next_tier", "upgrade_url"} & stranger.problem.keys()


def test_a_larger_quota_serves_at_once_and_a_new_period_starts_from_zero(make_node: Callable[..., Node]) -> None:
    node = make_node()
    node.apply(table(quota=quota(invocations_max=50)))
    assert 50 <= spend_all([node])[200] <= 50 + CREDIT[0]
    node.apply(table(2, quota=quota(invocations_max=150)))
    wait_for(node, 200)
    assert 100 - CREDIT[0] <= spend_all([node])[200] + 1 <= 100 + CREDIT[0]
    node.apply(table(3, quota=quota(period="2026-12", invocations_max=20)))
    wait_for(node, 200)
    assert 15 <= spend_all([node])[200] + 1 <= 20 + CREDIT[0]


def test_redis_killed_half_way_changes_nothing_about_the_bound(make_node: Callable[..., Node], valkey: Valkey) -> None:
    nodes = [make_node(lease_ttl_s=3.0), make_node(lease_ttl_s=3.0)]
    for node in nodes:
        node.apply(table(quota=quota(invocations_max=1000)))
    killed = threading.Event()

    def kill_half_way(served: int) -> None:
        if served >= 500 and not killed.is_set():
            killed.set()
            valkey.kill()

    counts = spend_all(nodes, meanwhile=kill_half_way)
    assert killed.is_set()
    assert 500 <= counts[200] <= 1000 + 2 * CREDIT[0]
    # The leases have ended, and nobody can be asked: refused as our own fault, which the caller may retry.
    wait_for(nodes[0], 503)
    valkey.start()
    counts += spend_all(nodes)
    assert counts[200] <= 1000 + 2 * CREDIT[0]
    assert nodes[0].call(OWNER).status == 402


def test_a_node_that_is_killed_costs_at_most_its_credit(make_node: Callable[..., Node]) -> None:
    node = make_node(lease_ttl_s=2.0)
    document = table(quota=quota(invocations_max=300))
    node.apply(document)
    served, starts = 0, 1
    for _ in range(3):
        served += sum(node.call(OWNER).status == 200 for _ in range(40))
        node.kill()
        node.start()
        node.apply(document)
        starts += 1
    served += spend_all([node], until_refused=60)[200]
    # What was spent since the last report (1 s) is not known to Redis; usage records know it, and set the floor.
    assert served <= 300 + starts * CREDIT[0] + 3 * 40


def test_what_sql_knows_is_a_floor_when_redis_lost_its_memory(make_node: Callable[..., Node], valkey: Valkey) -> None:
    node = make_node()
    valkey.client().hset("tailcut:quota:tnt_acme::2026-11", mapping={"f1": 990, "f2": 0, "f3": 0})
    node.apply(table(quota=quota(invocations_max=1000)))
    assert 10 <= spend_all([node])[200] <= 10 + CREDIT[0]


def test_cpu_and_spending_caps_and_a_functions_own_quota_stop_calls(
    make_node: Callable[..., Node], valkey: Valkey
) -> None:
    node = make_node()
    spend = Spend(
        cap_micros=5_000_000,
        included_invocations=10,
        included_cpu_us=1 << 40,
        included_mib_us=1 << 40,
        micros_per_million_invocations=1_000_000 * 100_000,
        micros_per_cpu_s=0,
        micros_per_gib_s=0,
    )
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"quota": quota(period="cpu", cpu_us_max=0)}, "cpu", "tenant"),
        ({"quota": quota(period="spend", spend=spend)}, "spend", "tenant"),
        ({"function_quota": quota(period="function", invocations_max=5)}, "invocations", "function"),
    ]
    for revision, (document, limit, scope) in enumerate(cases, 1):
        node.apply(table(revision, **document))
        counts = spend_all([node])
        assert counts[402] > 0, limit
        refused = node.call(OWNER)
        assert refused.status == 402, limit
        assert (refused.problem["limit"], refused.problem["scope"]) == (limit, scope)
        assert "next_tier" not in refused.problem
        if scope == "function":
            assert node.call(OWNER, path="/acme/other").status == 200
        if limit == "spend":
            # 10 included and 50 for a cap of 5 minor units at 0.1 each.
            assert counts[200] <= 60 + CREDIT[0]
            assert refused.problem["allowed_minor"] == 5


def test_a_node_that_drains_gives_back_what_it_did_not_spend(make_node: Callable[..., Node]) -> None:
    first, second = make_node(), make_node()
    document = table(quota=quota(invocations_max=200))
    first.apply(document)
    wait_for(first, 200)
    time.sleep(0.5)
    first.end()
    second.apply(document)
    assert spend_all([second])[200] >= 198


def wait_for(node: Node, status: int) -> None:
    deadline = time.monotonic() + HANG_S
    while node.call(OWNER).status != status:
        assert time.monotonic() < deadline
        time.sleep(0.05)
