"""Installs the Debian packages that the tests start (a server, a browser), where they are missing and we are root.

Called by `make test`, after setup.py. Under whatever Python 3 (>= 3.6) runs setup.py: old syntax only.
"""

import glob
import os
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import setup

NEEDED = {
    "postgresql": ("the control plane's tests run on a real PostgreSQL too", "/usr/lib/postgresql/*/bin/postgres"),
    "chromium": ("the browser tests drive it; Playwright's own downloads are not used", "/usr/bin/chromium"),
}
"""Package → (what for, a file that it brings)"""


def main() -> int:
    missing = [name for name, (_, pattern) in NEEDED.items() if not glob.glob(pattern) and not shutil.which(name)]
    for name in missing:
        reason = NEEDED[name][0]
        if not setup.apt_install([name], reason):
            print("packages: please install the Debian package %s: %s" % (name, reason), file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
