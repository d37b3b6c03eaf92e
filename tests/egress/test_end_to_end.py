"""The whole server: deployed with ``--network``, called over HTTP, refused and metered. All of it on loopback."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import OwnServer
from tests.egress.outside import Web
from tests.support.server import Server

TOLD = {
    *("PATH", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "LD_LIBRARY_PATH"),
    *("TAILCUT_PROBLEM_BASE_URL", "TAILCUT_READY_FD"),
}
FUNCTION = """
import urllib.error, urllib.request
def handler(url: str):
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.headers["Proxy-Status"]
    except OSError as error:
        return str(error)
"""


@pytest.fixture
def service() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Web) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{web.server_port}"
        web.shutdown()


def test_a_function_with_a_network_reaches_what_is_allowed_and_nothing_else(
    own_server: OwnServer, service: str, tmp_path: Path
) -> None:
    server = own_server(egress_allow=service)
    control_plane = urlsplit(server.control_plane_url).netloc
    deploy(server, tmp_path / "outgoing", "--network")
    deploy(server, tmp_path / "alone")
    assert server.invoke("outgoing", url=f"http://{service}/").json() == 200
    # The control plane lives on the same address, and is not reached.
    assert "loopback" in server.invoke("outgoing", url=f"http://{control_plane.split(':')[0]}/").json()
    assert 'details="port"' in server.invoke("outgoing", url=f"http://{control_plane}/healthz").json()
    assert "Operation not permitted" in server.invoke("alone", url=f"http://{service}/").json()
    page = server.metrics()
    assert 'tailcut_egress_bytes_total{direction="received",tenant="dev"}' in page
    assert 'tailcut_egress_refused_total{rule="loopback",tenant="dev"} 1.0' in page
    told = Path(f"/proc/{server.pid('egress')}/environ").read_text().split("\0")
    names = {line.partition("=")[0] for line in told if line}
    assert {name for name in names if not name.startswith("TAILCUT_EGRESS_")} <= TOLD
    # Calls go on over the death of the egress.
    server.kill(server.pid("egress"))
    server.wait_for(
        lambda: server.invoke("outgoing", url=f"http://{service}/").json() == 200, what="the next egress to serve"
    )


def deploy(server: Server, folder: Path, *options: str) -> None:
    """As a person does it."""
    folder.mkdir()
    (folder / "main.py").write_text(FUNCTION)
    access = ("--server", server.control_plane_url, "--key", server.key)
    done = subprocess.run(
        [sys.executable, "-m", "tailcut", "deploy", str(folder), *options, *access],
        capture_output=True, text=True, env=os.environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
