"""Requests made up from the OpenAPI document: nothing answers 5xx, and what is answered is as documented.

By nobody, by somebody signed in and by the operator, on SQLite and on PostgreSQL. A key reaches fewer endpoints than a
person, and the same code.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.control_plane.bundles import bundle
from tests.control_plane.running import ControlPlane, Tenant, Valkey, sign_up

CALLERS = (("nobody", "sqlite"), ("person", "postgresql"), ("operator", "sqlite"))


def token_of(running: ControlPlane, caller: str) -> str:
    """Of somebody with a function to look at."""
    owner = sign_up(running, "owner@example.com", "acme")
    admin = owner.http.post("/v1/keys", json={"scopes": ["admin"]}).json()
    Tenant(running, {"id": "", "name": "acme", "key": admin}).deploy("hello", bundle(1))
    # The person's own session is left out below.
    return {"nobody": "", "person": owner.token, "operator": running.operator_token}[caller]


@pytest.mark.parametrize(("caller", "kind"), CALLERS)
@pytest.mark.timeout(600)
def test_made_up_requests(
    caller: str, kind: str, own_valkey: Valkey, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("postgres").new_database() if kind == "postgresql" else ""
    running = ControlPlane(tmp_path / "var", own_valkey.url, DATABASE_URL=url)
    try:
        token = token_of(running, caller)
        header = ("--header", f"Authorization: Bearer {token}") if token else ()
        result = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"{running.url}/v1/openapi.json"),
                *(
                    *header,
                    "--max-examples",
                    "4",
                    "--seed",
                    "1",
                    "--no-color",
                    "--exclude-path",
                    "/v1/sessions/current",
                ),
                *("--phases", "examples,coverage,fuzzing", "--workers", "1", "--generation-database", "none"),
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
        assert '"status": 20' in log
        assert running.stop() == 0
    finally:
        if running.process.poll() is None:
            running.kill()
