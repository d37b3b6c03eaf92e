"""``python -m control_plane.simulated_stripe --port P --file F --webhook-url U`` with the secrets in the environment.

Started by the supervisor when there is no Stripe key, and by tests. Listens on loopback only.
"""

import argparse
import json
import signal
import sys
from pathlib import Path

from control_plane.simulated_stripe.server import listen, serve
from control_plane.simulated_stripe.settings import secrets_of_environment
from control_plane.simulated_stripe.store import Store

_HOST = "127.0.0.1"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m control_plane.simulated_stripe", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="0: any; the line on stderr tells which")
    parser.add_argument("--file", type=Path, required=True, help="where everything is kept")
    parser.add_argument("--webhook-url", required=True)
    arguments = parser.parse_args()
    secrets = secrets_of_environment()
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    listener = listen(_HOST, arguments.port)
    base_url = f"http://{_HOST}:{listener.server_address[1]}"
    print(json.dumps({"event": "listening", "url": base_url}), file=sys.stderr, flush=True)
    serve(
        listener,
        Store(arguments.file),
        base_url=base_url,
        api_key=secrets.api_key,
        url=arguments.webhook_url,
        secret=secrets.webhook_secret,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
