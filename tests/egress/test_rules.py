"""Where functions may connect to. Each refused address has a server on it, and a control that reaches it."""

from pathlib import Path

import pytest

from tests.egress.conftest import LOCAL_6, OWN, OWN_BY_ROUTE, OWN_SECOND, PUBLIC_6, Egress, World
from tests.egress.outside import METADATA, PRIVATE, PUBLIC

ADDRESSES = {
    "127.0.0.1": "loopback",
    "127.9.9.9": "loopback",
    "0.0.0.0": "reserved-address",
    METADATA: "cloud-metadata",
    "168.63.129.16": "cloud-metadata",
    "169.254.7.7": "link-local",
    PRIVATE: "private-address",
    "172.20.0.1": "private-address",
    "192.168.9.9": "private-address",
    "100.64.1.1": "private-address",
    "198.18.0.1": "reserved-address",
    "203.0.113.10": "reserved-address",
    OWN: "own-address",
    OWN_SECOND: "own-address",
    OWN_BY_ROUTE: "own-address",
    "[::ffff:10.77.0.1]": "embedded-address",
    f"[{LOCAL_6}]": "private-address",
    "[64:ff9b::a4d:1]": "embedded-address",
    "[2002:a4d:1::1]": "embedded-address",
}
SPELLINGS = {
    "2130706433": "loopback",
    "0x7f.1": "loopback",
    "0251.0376.0251.0376": "cloud-metadata",
    "127.1": "loopback",
}
NAMES = {
    "private.test": "private-address",
    "metadata.test": "cloud-metadata",
    "loopback.test": "loopback",
    "localhost": "loopback",
    "hosts.test": "cloud-metadata",
}


@pytest.mark.parametrize("host", [PUBLIC, f"[{PUBLIC_6}]", "public.test"])
def test_public_addresses_are_reached(egress: Egress, host: str) -> None:
    answer = egress.door().get(f"http://{host}/some/path?and=query")
    assert (answer.status, answer.rule) == (200, "")
    assert answer.json["target"] == "/some/path?and=query"
    assert answer.json["reached"] in (PUBLIC, PUBLIC_6)
    worker, said = egress.door().tunnel(f"{host}:443")
    with worker:
        assert said.status == 200
        worker.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert worker.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(("host", "rule"), (ADDRESSES | SPELLINGS | NAMES).items())
def test_other_addresses_are_refused_by_rule(egress: Egress, host: str, rule: str) -> None:
    door = egress.door()
    answer = door.get(f"http://{host}/")
    assert (answer.status, answer.rule) == (403, rule)
    assert rule in answer.reason
    assert answer.headers["proxy-status"] == f'tailcut-egress; error=destination_ip_prohibited; details="{rule}"'
    worker, said = door.tunnel(f"{host}:443")
    worker.close()
    assert (said.status, said.rule) == (403, rule)


@pytest.mark.parametrize("host", [*ADDRESSES, *SPELLINGS, *NAMES])
def test_control_without_the_rules_they_are_reached(lax: Egress, host: str) -> None:
    assert lax.door().get(f"http://{host}/").json["reached"]


def test_a_refusal_does_not_tell_the_address_of_a_name(egress: Egress) -> None:
    answer = egress.door().get("http://private.test/")
    assert answer.json["host"] == "private.test"
    assert PRIVATE.encode() not in answer.raw


def test_what_is_connected_to_is_what_was_judged(egress: Egress) -> None:
    """The name server says the public address first and the private one next. Resolved twice for one connection, the
    first answer would come from the private one."""
    door = egress.door()
    assert door.get("http://rebind.test/").json["reached"] == PUBLIC
    assert door.get("http://rebind.test/").rule == "private-address"
    assert door.get("http://rebind.test/").json["reached"] == PUBLIC


def test_of_several_addresses_only_the_allowed_ones_are_used(egress: Egress) -> None:
    for _ in range(4):
        assert egress.door().get("http://mixed.test/").json["reached"] == PUBLIC


def test_redirects_are_judged_like_everything_else(egress: Egress) -> None:
    door = egress.door()
    answer = door.get(f"http://{PUBLIC}/?to=http://{METADATA}/latest/meta-data/")
    assert answer.status == 302
    assert door.get(answer.headers["location"]).rule == "cloud-metadata"


@pytest.mark.parametrize("port", [22, 25, 2375, 6379, 8080])
def test_other_ports_are_refused(egress: Egress, port: int) -> None:
    worker, said = egress.door().tunnel(f"{PUBLIC}:{port}")
    worker.close()
    assert (said.status, said.rule) == (403, "port")
    assert "80, 443" in said.json["detail"]
    assert egress.door().get(f"http://{PUBLIC}:{port}/").rule == "port"


def test_control_an_allowed_port_is_reached(lax: Egress) -> None:
    assert lax.door().get(f"http://{PUBLIC}:2375/").status == 200


def test_the_operators_lists_and_our_own_services_elsewhere(world: World, tmp_path: Path) -> None:
    made = Egress(tmp_path, world, own_hosts="public.test", deny="20.0.0.53", allow=f"{PRIVATE}:2375,{METADATA}")
    door = made.door()
    try:
        assert door.get(f"http://{PUBLIC}/").rule == "own-address"
        assert door.get("http://20.0.0.53/").rule == "denied-by-operator"
        assert door.get(f"http://{PRIVATE}:2375/").status == 200
        assert door.get(f"http://{PRIVATE}/").rule == "private-address"
        assert door.get(f"http://{METADATA}/").status == 200
    finally:
        made.end()


def test_a_name_that_does_not_exist_and_a_port_where_nobody_answers(egress: Egress, lax: Egress) -> None:
    missing = egress.door().get("http://nobody.test/")
    assert (missing.status, missing.rule) == (502, "name-not-found")
    # Nobody in the namespaces has that address; the cable answers that nobody is there.
    assert lax.door().get("http://10.99.99.99/").rule in ("connect-failed", "connect-timeout")
