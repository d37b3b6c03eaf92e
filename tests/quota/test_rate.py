"""The tenant's rate: a burst at once, then so many a second; the headers that say so; the statuses of a tenant."""

import time
from collections.abc import Callable

from tests.quota.conftest import OWNER, Node, table


def test_a_burst_is_served_and_then_the_rate_holds(make_node: Callable[..., Node]) -> None:
    node = make_node()
    node.apply(table(rate_per_s=1, burst=5, upgrade={"rate": "pro"}, upgrade_url="https://tailcut.example/tiers"))
    began = time.monotonic()
    answers = [node.call(OWNER) for _ in range(8)]
    served = [answer for answer in answers if answer.status == 200]
    elapsed = time.monotonic() - began
    assert 5 <= len(served) <= 5 + 1 + int(elapsed)
    first = served[0].headers
    assert first["ratelimit-policy"] == '"rate";q=5;w=5'
    assert first["ratelimit"] == '"rate";r=4;t=1'
    refused = next(answer for answer in answers if answer.status != 200)
    assert refused.status == 429
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["ratelimit"] == '"rate";r=0;t=5'
    problem = refused.problem
    assert problem["violated-policies"] == ["rate"]
    assert (problem["allowed_per_s"], problem["tier"], problem["next_tier"]) == (1, "free", "pro")


def test_strangers_learn_the_name_of_the_limit_and_no_number(make_node: Callable[..., Node]) -> None:
    node = make_node()
    node.apply(table(rate_per_s=1, burst=1, upgrade={"rate": "pro"}, upgrade_url="https://tailcut.example/tiers"))
    answers = [node.call() for _ in range(3)]
    assert "ratelimit" not in answers[0].headers
    refused = answers[-1]
    assert refused.status == 429
    assert refused.problem["violated-policies"] == ["rate"]
    assert not {"allowed_per_s", "used", "tier", "next_tier", "upgrade_url"} & refused.problem.keys()
    assert "ratelimit" not in refused.headers


def test_a_tenant_without_a_rate_has_no_bound_and_no_header(make_node: Callable[..., Node]) -> None:
    node = make_node()
    node.apply(table())
    answers = [node.call(OWNER) for _ in range(20)]
    assert {answer.status for answer in answers} == {200}
    assert "ratelimit" not in answers[0].headers


def test_a_new_rate_holds_at_once(make_node: Callable[..., Node]) -> None:
    node = make_node()
    node.apply(table(rate_per_s=1, burst=1))
    while node.call(OWNER).status == 200:
        pass
    node.apply(table(2, rate_per_s=1000, burst=1000))
    assert {node.call(OWNER).status for _ in range(20)} == {200}


def test_unpaid_is_402_and_suspended_403_for_the_owner_and_503_for_others(make_node: Callable[..., Node]) -> None:
    node = make_node()
    node.apply(table(status="unpaid", upgrade_url="https://tailcut.example/billing"))
    owner = node.call(OWNER)
    assert (owner.status, owner.problem["limit"]) == (402, "subscription")
    assert owner.headers["link"] == '<https://tailcut.example/billing>; rel="payment"'
    stranger = node.call()
    assert stranger.status == 503
    assert "upgrade_url" not in stranger.problem
    assert "link" not in stranger.headers
    node.apply(table(2, status="suspended"))
    assert node.call(OWNER).status == 403
    assert node.call().status == 503
    node.apply(table(3))
    assert node.call().status == 200
