"""A customer with members, keys and functions, made as one is: sign-up, invitations, uploads. For tests and ``demo``.

``places`` fills the paths of ``pages``: it has the ids of what was made.
"""

import re
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import httpx

from tests.browser.conftest import mailed_link
from tests.control_plane.test_people import totp
from tests.support.server import HANG_S, Server, bundle

PASSWORD = "seven wooden boats"


class Customer:
    def __init__(self, server: Server, email: str, name: str, tenant: str, functions: Mapping[str, str]) -> None:
        self.server = server
        self.tenant = tenant
        self.places: dict[str, str] = {}
        owner = self.sign_up(email, name, tenant=tenant)
        self.api = self._client(owner)
        self._members(email.partition("@")[2])
        self.versions = {function: self._deploy(function, source) for function, source in functions.items()}
        self.key = self._keys()
        self._pieces(next(iter(functions)), email.partition("@")[2])

    def _pieces(self, function: str, domain: str) -> None:
        """What pages are about that is not a whole function."""
        self.done(self.api.put(f"/v1/functions/{function}/secrets/API_TOKEN", json={"value": "quiet"}))
        path = f"/v1/functions/{function}/aliases/canary"
        self.done(self.api.put(path, json={"version": self.versions[function]}))
        members = self.done(self.api.get("/v1/members"))["items"]
        self.places |= {
            "function": function,
            "key": next(each["id"] for each in self.done(self.api.get("/v1/keys"))["items"] if not each["revoked_at"]),
            "invitation": self._mailed_token(f"accounts@{domain}"),
            "sign_up": self._began(f"alan@{domain}"),
            "member": next(each["id"] for each in members if each["role"] == "developer"),
            "tenant": str(self.done(self.api.get("/v1/tenant"))["id"]),
        }

    def _client(self, token: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}", "Tailcut-Tenant": self.tenant}
        return httpx.Client(base_url=self.server.control_plane_url, headers=headers, timeout=HANG_S, trust_env=False)

    def done(self, answer: httpx.Response) -> Any:
        assert answer.is_success, f"{answer.request.url}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def _mailed_token(self, email: str) -> str:
        return re.sub(r".*token=", "", mailed_link(self.server, email))

    def _began(self, email: str, tenant: str = "bletchley") -> str:
        """A sign-up that waits for the person. → the token of its link"""
        with self._client("") as anybody:
            del anybody.headers["Authorization"]
            self.done(anybody.post("/v1/sign-up", json={"email": email, "tenant": tenant}))
        return self._mailed_token(email)

    def sign_up(self, email: str, name: str, *, tenant: str) -> str:
        form = {"token": self._began(email, tenant), "password": PASSWORD, "name": name}
        with self._client("") as anybody:
            del anybody.headers["Authorization"]
            return str(self.done(anybody.post("/v1/sign-up/finish", json=form))["token"])

    def _members(self, domain: str) -> None:
        for who, role, joins in (
            ("grace", "admin", "Grace Hopper"),
            ("edsger", "developer", "Edsger Dijkstra"),
            ("accounts", "billing", ""),
        ):
            email = f"{who}@{domain}"
            self.done(self.api.post("/v1/invitations", json={"email": email, "role": role}))
            if joins:
                form = {"token": self._mailed_token(email), "password": PASSWORD, "name": joins}
                with self._client("") as anybody:
                    del anybody.headers["Authorization"]
                    self.done(anybody.post("/v1/invitations/finish", json=form))

    def _deploy(self, name: str, source: str) -> str:
        files = {"bundle": ("bundle.zip", bundle({"main.py": source}), "application/zip")}
        data = {"public": "true" if name == "webhook" else "false"}
        return str(self.done(self.api.post(f"/v1/functions/{name}/versions", files=files, data=data))["version"])

    def _keys(self) -> str:
        made = ""
        for name, scopes in (("shop website", ["invoke"]), ("deployments", ["deploy"]), ("old script", ["read"])):
            key = self.done(self.api.post("/v1/keys", json={"name": name, "scopes": scopes}))
            made = made or str(key["token"])
            if name == "old script":
                self.done(self.api.delete(f"/v1/keys/{key['id']}"))
        return made

    def operator(self) -> tuple[str, list[str]]:
        """Somebody who may open /admin. → the address, and recovery codes, one for each sign-in"""
        email = "operator@example.com"
        token = self.sign_up(email, "Margaret Hamilton", tenant="operations")
        command = [sys.executable, "-m", "gateway.supervisor", "operator", "add", email]
        arguments = ["--data-dir", str(self.server.data_dir)]
        subprocess.run([*command, *arguments], check=True, capture_output=True, env=self.server.environment)
        self.places["node"] = self._node()
        with self._client(token) as person:
            del person.headers["Tailcut-Tenant"]
            secret = self.done(person.post("/v1/person/second-factor"))["secret"]
            code = {"code": totp(secret, time.time() - 30)}
            return email, list(self.done(person.post("/v1/person/second-factor/confirm", json=code))["recovery_codes"])

    def _node(self) -> str:
        machine = {"Authorization": f"Bearer {(self.server.data_dir / 'operator-token').read_text().strip()}"}
        with httpx.Client(base_url=self.server.control_plane_url, timeout=HANG_S, trust_env=False) as anybody:
            return str(self.done(anybody.get("/v1/admin/nodes", headers=machine))["items"][0]["node"])
