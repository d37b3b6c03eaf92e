"""What a node runs for itself, on its loopback and on its own address. Run as a program in the inner namespace."""

import sys
import threading
from http.server import ThreadingHTTPServer

from tests.egress.outside import Web

if __name__ == "__main__":
    # Every address of this namespace, loopback included.
    for port in (80, 6379):
        threading.Thread(target=ThreadingHTTPServer(("0.0.0.0", port), Web).serve_forever, daemon=True).start()
    sys.stdout.write("ready")
    sys.stdout.flush()
    sys.stdin.read()
