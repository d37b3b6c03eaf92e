"""``make soak-books``: a hundred thousand calls and fifty faults, then the checker. Some minutes, then a report."""

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

from tests.conftest import FREE_PORTS, server_environment
from tests.support.server import Server
from tests.usage import soak


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.usage", description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="tailcut-soak-") as folder:
        server = Server(Path(folder), server_environment(**soak.SETTINGS), *FREE_PORTS, "--no-example")
        try:
            report = soak.run(server, calls=arguments.calls, faults=arguments.faults, seed=arguments.seed)
        except AssertionError as error:
            print(f"{error}\n{server.tails()}", file=sys.stderr)
            return 1
        finally:
            server.stop()
    print(report.text())
    print("the books balance")
    return 0


if __name__ == "__main__":
    sys.exit(main())
