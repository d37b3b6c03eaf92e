"""A tenant that is suspended or deleted: a running gateway refuses its calls, and serves them again when it may."""

import httpx

from tests.host.test_purchase import client, upload
from tests.support.server import HANG_S, Server


def test_a_suspended_and_a_deleted_tenant_is_not_served(server: Server) -> None:
    token = (server.data_dir / "operator-token").read_text().strip()
    with client(server, token) as operator:
        created = operator.post("/v1/tenants", json={"name": "leaver"}).json()
        with client(server, created["key"]["token"]) as owner:
            assert upload(owner, "nap", timeout_ms=2_000).status_code == 201
            headers = dict(owner.headers)
        path = f"/v1/tenants/{created['id']}"

        def call(*, as_owner: bool = True) -> int:
            url = f"{server.gateway_url}/leaver/nap"
            sent = headers if as_owner else {}
            return httpx.post(url, json={"seconds": 0}, headers=sent, timeout=HANG_S, trust_env=False).status_code

        server.wait_for(lambda: call() == 200, what="the function, served")  # the control
        assert operator.patch(path, json={"status": "suspended", "reason": "a test"}).is_success
        server.wait_for(lambda: call() == 403, what="403 for the owner of a suspended tenant")
        assert {call() for _ in range(20)} == {403}
        assert call(as_owner=False) in (401, 503)
        assert operator.patch(path, json={"status": "active"}).is_success
        server.wait_for(lambda: call() == 200, what="the function, served again")
        assert operator.delete(path).is_success
        server.wait_for(lambda: call() != 200, what="the end")
        # Its key and its name are gone with it, at the latest when the table without it is there.
        assert {call() for _ in range(20)} <= {401, 403, 404}
