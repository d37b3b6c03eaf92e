"""The rule of each range: its first and last address, the operator's lists, and who wins."""

from ipaddress import ip_address, ip_network

import pytest

from gateway.egress.policy import BUILT_IN, Policy, exemption, network

PUBLIC = ("8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0", "2606:4700::1111",
          "2001:4860:4860::8888", "168.63.129.15", "223.255.255.255")  # fmt: skip


def policy(allow: tuple[str, ...] = (), deny: tuple[str, ...] = ()) -> Policy:
    return Policy(
        ports=(80, 443),
        allow=[exemption(text) for text in allow],
        deny=[network(text) for text in deny],
        is_own=lambda address: str(address) == "8.8.4.4",
    )


@pytest.mark.parametrize("text", [text for _rule, texts in BUILT_IN for text in texts])
def test_every_range_is_refused_from_end_to_end(text: str) -> None:
    whole = ip_network(text)
    rules = {rule for rule, texts in BUILT_IN for other in texts
             if ip_network(other).version == whole.version and ip_network(other).overlaps(whole)}  # fmt: skip
    for address in (whole[0], whole[-1]):
        assert policy().refusal(address, 443) in rules
        # The control: it is the rule and nothing else that refuses it.
        assert policy(allow=(text,)).refusal(address, 443) is None


@pytest.mark.parametrize("text", PUBLIC)
def test_what_no_rule_names_is_public(text: str) -> None:
    assert policy().refusal(ip_address(text), 443) is None


@pytest.mark.parametrize("text", ["4000::1", "::2", "5f00::1", "fe00::1", "::7f00:1"])
def test_of_ipv6_only_global_unicast_is_public(text: str) -> None:
    assert policy().refusal(ip_address(text), 443) in ("reserved-address", "embedded-address")


def test_own_addresses_and_ports() -> None:
    assert policy().refusal(ip_address("8.8.4.4"), 443) == "own-address"
    assert policy().refusal(ip_address("8.8.8.8"), 25) == "port"
    assert policy().may_use(80)
    assert not policy().may_use(25)


def test_the_operator_decides_and_deny_wins() -> None:
    opened = policy(allow=("10.1.0.0/16", "10.2.0.1:5432", "[fd00::1]:8080", "8.8.4.4"))
    assert opened.refusal(ip_address("10.1.2.3"), 443) is None
    assert opened.refusal(ip_address("10.1.2.3"), 5432) == "private-address"
    assert opened.refusal(ip_address("10.2.0.1"), 5432) is None
    assert opened.refusal(ip_address("10.2.0.1"), 443) == "private-address"
    assert opened.refusal(ip_address("fd00::1"), 8080) is None
    assert opened.refusal(ip_address("8.8.4.4"), 443) is None
    assert opened.may_use(5432)
    closed = policy(allow=("10.1.0.0/16",), deny=("10.1.2.0/24", "8.8.8.8"))
    assert closed.refusal(ip_address("10.1.2.3"), 443) == "denied-by-operator"
    assert closed.refusal(ip_address("8.8.8.8"), 443) == "denied-by-operator"
    assert closed.refusal(ip_address("10.1.3.3"), 443) is None


@pytest.mark.parametrize("text", ["::ffff:10.1.2.3", "2002:a01:203::1", "64:ff9b::a01:203", "64:ff9b:1::a01:203"])
def test_what_is_denied_is_denied_in_every_form(text: str) -> None:
    """An operator without IPv4 of its own allows NAT64, which leads to all of IPv4."""
    opened = ("::ffff:0:0/96", "2002::/16", "64:ff9b::/96", "64:ff9b:1::/48")
    assert policy(allow=opened).refusal(ip_address(text), 443) is None
    assert policy(allow=opened, deny=("10.0.0.0/8",)).refusal(ip_address(text), 443) == "denied-by-operator"


@pytest.mark.parametrize(
    "text", ["", "example.com", "10.0.0.1/8", "10.0.0.1:x", "10.0.0.1:70000", "[fd00::1]", "[fd00::1"]
)
def test_entries_that_cannot_be_meant_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        exemption(text)
