"""Requests made up from the OpenAPI document: nothing answers 5xx, and what is answered is as documented."""

import os
import subprocess
import sys
from pathlib import Path

from tests.control_plane.bundles import bundle
from tests.control_plane.running import ControlPlane


def test_made_up_requests(tmp_path: Path) -> None:
    running = ControlPlane(tmp_path / "var")
    try:
        tenant = running.new_tenant("acme")
        tenant.deploy("hello", bundle(1))
        key = tenant.new_key("deploy", "read")["token"]  # not admin: it shall not revoke itself
        result = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"{running.url}/v1/openapi.json"),
                *("--header", f"Authorization: Bearer {key}", "--max-examples", "8", "--seed", "1", "--no-color"),
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
        assert running.stop() == 0
    finally:
        if running.process.poll() is None:
            running.kill()
