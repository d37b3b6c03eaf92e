"""Requests made up from the OpenAPI document: nothing answers 5xx, and what is answered is as documented.

Each endpoint with much by somebody whom it serves (somebody signed in with a function to look at, an operator), and
every endpoint with a little by nobody; on SQLite and on PostgreSQL. A key reaches fewer endpoints than a person, and
the same code.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.control_plane.bundles import bundle
from tests.control_plane.running import ControlPlane, Tenant, Valkey, sign_up
from tests.control_plane.test_scopes import OPEN, OPERATORS, PERSONAL, TABLE

MUCH = ("--phases", "examples,coverage,fuzzing", "--max-examples", "4")
LITTLE = ("--phases", "examples,fuzzing", "--max-examples", "2")
"""Behind every refusal for want of a credential is the same code: test_scopes tries each endpoint without one."""
CALLERS = (("nobody", "sqlite"), ("person", "postgresql"), ("operator", "sqlite"))
LEFT_OUT = {
    # After these all others would be refused; schemathesis learns ids from answers, the own session's as well.
    ("DELETE", "/v1/sessions/current"),
    ("DELETE", "/v1/sessions/{session_id}"),
    # Answers until one hangs up. Its parameters are those of /v1/logs.
    ("GET", "/v1/logs/follow"),
}
CONFIGURATION = """\
parameters = { "path.name" = "hello", "path.alias" = "live", "path.version_id" = "VERSION" }

[[operations]]
include-name = "DELETE /v1/functions/{name}"
parameters = { "path.name" = "spare" }
"""
"""What is in the path is there, so that requests get as far as they can."""


def asked_of(caller: str) -> list[str]:
    """Which endpoints the caller tries, as arguments."""
    if caller == "nobody":
        return list(LITTLE)
    served = {"person": set(TABLE) | PERSONAL | OPEN, "operator": OPERATORS}[caller] - LEFT_OUT
    return [*MUCH, *(part for method, path in sorted(served) for part in ("--include-name", f"{method} {path}"))]


def token_of(running: ControlPlane, caller: str, folder: Path) -> str:
    """Of somebody with two functions to look at, which the configuration in ``folder`` names."""
    owner = sign_up(running, "owner@example.com", "acme")
    admin = owner.http.post("/v1/keys", json={"scopes": ["admin"]}).json()
    tenant = Tenant(running, {"id": "", "name": "acme", "key": admin})
    version = tenant.deploy("hello", bundle(1))["version"]
    tenant.deploy("spare", bundle(1))
    if caller == "person":
        (folder / "schemathesis.toml").write_text(CONFIGURATION.replace("VERSION", version))
    return {"nobody": "", "person": owner.token, "operator": running.operator_token}[caller]


@pytest.mark.parametrize(("caller", "kind"), CALLERS)
@pytest.mark.timeout(600)
def test_made_up_requests(
    caller: str, kind: str, own_valkey: Valkey, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("postgres").new_database() if kind == "postgresql" else ""
    running = ControlPlane(tmp_path / "var", own_valkey.url, DATABASE_URL=url)
    try:
        token = token_of(running, caller, tmp_path)
        header = ["--header", f"Authorization: Bearer {token}"] if token else []
        if caller == "person":
            header += ["--header", "Tailcut-Tenant: acme"]  # among the requests is one that makes another tenant
        result = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"{running.url}/v1/openapi.json"),
                *(*header, *asked_of(caller), "--seed", "1", "--no-color"),
                *("--workers", "1", "--generation-database", "none"),
                *("--checks", "not_a_server_error,content_type_conformance,response_schema_conformance"),
                *("--suppress-health-check", "all"),
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONUTF8": "1"},
        )
        assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
        assert "No issues found" in result.stdout or "passed" in result.stdout, result.stdout[-2000:]
        log = running.log.read_text()
        assert '"status": 500' not in log
        assert log.count('"event": "request"') > 100  # the control: it did ask
        if caller == "person":  # … and was let in to the end
            last = [json.loads(line) for line in log.splitlines() if '"event": "request"' in line][-200:]
            assert sum(line["status"] == 401 for line in last) < len(last) / 2
        assert '"status": 20' in log
        print(f"{caller}: {log.count('"event": "request"')} requests, {log.count('"status": 20')} of them successful")
        assert running.stop() == 0
    finally:
        if running.process.poll() is None:
            running.kill()
