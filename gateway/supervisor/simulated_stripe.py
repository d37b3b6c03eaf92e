"""The Stripe that stands in for Stripe when there is no key: its port, its secrets, its command line.

Called by ``tree``. Everything lies in ``data_dir/simulated-stripe``: with it gone, what was "bought" is gone too. The
port is kept from one start to the next, so that links of old invoices stay good; if somebody took it, another is found.
"""

import json
import os
import secrets
import socket
from dataclasses import dataclass, field
from pathlib import Path

from gateway.supervisor.problems import EXIT_PORT_TAKEN, CannotStart

HOST = "127.0.0.1"
_FOLDER = "simulated-stripe"


@dataclass(frozen=True, slots=True)
class SimulatedStripe:
    folder: Path
    port: int
    api_key: str = field(repr=False)
    webhook_secret: str = field(repr=False)
    reserved: socket.socket = field(repr=False)
    """Bound, never listening: nobody else gets the port while the child restarts."""

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def secrets(self) -> dict[str, str]:
        return {"STRIPE_API_KEY": self.api_key, "STRIPE_WEBHOOK_SECRET": self.webhook_secret}

    def arguments(self, webhook_url: str) -> tuple[str, ...]:
        file = str(self.folder / "stripe.sqlite")
        return ("--port", str(self.port), "--file", file, "--webhook-url", webhook_url)

    def close(self) -> None:
        self.reserved.close()


def find(data_dir: Path) -> SimulatedStripe:
    """Raises CannotStart."""
    folder = data_dir / _FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / "settings.json"
    try:
        known = json.loads(path.read_text())
        port, api_key, webhook_secret = int(known["port"]), str(known["api_key"]), str(known["webhook_secret"])
    except (OSError, ValueError, KeyError, TypeError):
        port, api_key, webhook_secret = (
            0,
            f"sk_test_simulated_{secrets.token_hex(16)}",
            f"whsec_{secrets.token_hex(32)}",
        )
    reserved = _bind(port)
    port = int(reserved.getsockname()[1])
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({"port": port, "api_key": api_key, "webhook_secret": webhook_secret}, file)
    return SimulatedStripe(folder, port, api_key, webhook_secret, reserved)


def _bind(port: int) -> socket.socket:
    for wanted in (port, 0):
        one = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((HOST, wanted))
        except OSError:
            one.close()
            continue
        return one
    raise CannotStart(f"no port is free on {HOST} for the simulated Stripe", EXIT_PORT_TAKEN)
