"""How long until gateways act: a tier bought, a tier changed, a key revoked. `python -m tests.host.delays`

Prints the distribution of 20 each on a server of its own. A program, not a test: nothing is asserted about time.
The first is counted from the click, before the checkout's form is sent: what lies between are the simulated Stripe, its
signed webhook, the look at what Stripe says, SQL, Redis and the gateway's new table. The second is counted from the
answer of the control plane to an operator's change of the tier, the third from the answer that revokes the key; all of
them until the first call that is answered by the new rule.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.conftest import FREE_PORTS, server_environment
from tests.host.test_purchase import client, offered, upload
from tests.support.server import HANG_S, Server


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--times", type=int, default=20)
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory(prefix="tailcut-delays-") as folder:
        server = Server(Path(folder) / "server", server_environment(), *FREE_PORTS, "--no-example")
        try:
            show("click on Pay → enforced", purchases(server, times))
            show("tier changed → enforced", tier_changes(server, times))
            show("key revoked → refused", revocations(server, times))
        finally:
            server.stop()
    return 0


def purchases(server: Server, times: int) -> list[float]:
    """Each by a tenant of its own, from Free to Pro, through the checkout's page."""
    token = (server.data_dir / "operator-token").read_text().strip()
    taken = []
    with client(server, token) as operator:
        for number in range(times):
            created = operator.post("/v1/tenants", json={"name": f"buyer-{number}"}).json()
            buyer = client(server, created["key"]["token"])
            assert upload(buyer, "nap", timeout_ms=2_000).status_code == 201
            call = caller(server, f"buyer-{number}/nap", dict(buyer.headers))
            server.wait_for(lambda call=call: call().status_code == 200, what="the function, served")
            offer = server.wait_for(lambda buyer=buyer: offered(buyer), what="prices in the simulated Stripe")
            with httpx.Client(timeout=HANG_S, trust_env=False) as browser:
                assert browser.get(offer["url"]).status_code == 200
                before = policy(call())
                began = time.monotonic()
                assert browser.post(offer["url"], data={"action": "pay"}).status_code == 303
                until(lambda call=call, before=before: policy(call()) not in ("", before))
                taken.append(time.monotonic() - began)
            buyer.close()
    return taken


def tier_changes(server: Server, times: int) -> list[float]:
    """Between Free and Pro, to and fro; each answer, 429 too, says which burst holds."""
    token = (server.data_dir / "operator-token").read_text().strip()
    taken = []
    with client(server, token) as operator:
        created = operator.post("/v1/tenants", json={"name": "mover"}).json()
        owner = client(server, created["key"]["token"])
        assert upload(owner, "nap", timeout_ms=2_000).status_code == 201
        call = caller(server, "mover/nap", dict(owner.headers))
        server.wait_for(lambda: call().status_code == 200, what="the function, served")
        path = f"/v1/tenants/{created['id']}/subscription"
        for number in range(times):
            tier, burst = (("pro", 1_000), ("free", 40))[number % 2]
            assert operator.put(path, json={"tier": tier}).is_success
            taken.append(until(lambda burst=burst: f"q={burst};" in policy(call())))
        owner.close()
    return taken


def revocations(server: Server, times: int) -> list[float]:
    taken = []
    server.deploy("hello", "def handler() -> str:\n    return 'hello'\n")
    for _ in range(times):
        key = server.create_key(scopes=["invoke"])
        call = caller(server, f"{server.tenant}/hello", {"Authorization": f"Bearer {key.token}"})
        server.wait_for(lambda call=call: call().status_code == 200, what="the key, known")
        server.revoke_key(key.id)
        taken.append(until(lambda call=call: call().status_code == 401))
    return taken


def caller(server: Server, path: str, headers: dict[str, str]) -> Callable[[], httpx.Response]:
    http = httpx.Client(timeout=HANG_S, trust_env=False, headers=headers)
    return lambda: http.post(f"{server.gateway_url}/{path}", json={"seconds": 0} if "nap" in path else {})


def policy(answer: httpx.Response) -> str:
    return answer.headers.get("RateLimit-Policy", "")


def until(condition: Callable[[], bool]) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < HANG_S, "it never happened"
    return time.monotonic() - began


def show(what: str, taken_s: list[float]) -> None:
    ordered = sorted(taken * 1000 for taken in taken_s)
    p90 = ordered[min(len(ordered) - 1, round(len(ordered) * 0.9))]
    print(
        f"{what}: {len(ordered)} times, median {statistics.median(ordered):.0f} ms, p90 {p90:.0f} ms, "
        f"least {ordered[0]:.0f} ms, most {ordered[-1]:.0f} ms"
    )


if __name__ == "__main__":
    sys.exit(main())
