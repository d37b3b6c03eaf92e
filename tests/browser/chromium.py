"""Debian's Chromium under Playwright, shut off from everything but this machine.

Used by the fixtures of this folder and by ``screenshots``. deploy/local/packages.py installs the package; Playwright's
own downloads are not used. What always holds: a request to another host than loopback is stopped before it is made,
and remembered, so that a test can assert that there was none.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Route, sync_playwright

PATIENCE_MS = 30_000
"""Only against hanging; nothing is asserted about time."""
_ARGUMENTS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-features=OptimizationHints,MediaRouter",
    "--disable-sync",
    "--no-first-run",
    "--no-pings",
    # Names are not even looked up.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    # Text must look the same whatever the machine's screen is.
    "--font-render-hinting=none",
    "--force-color-profile=srgb",
)


@contextmanager
def launched() -> Iterator[Browser]:
    program = shutil.which("chromium")
    assert program, "no Chromium here: `make test` installs Debian's package, see deploy/local/packages.py"
    with sync_playwright() as playwright:
        # Chromium's own sandbox refuses to run as root.
        browser = playwright.chromium.launch(
            executable_path=program, args=list(_ARGUMENTS), chromium_sandbox=os.geteuid() != 0
        )
        try:
            yield browser
        finally:
            browser.close()


class Fence:
    """Around one context: lets requests to loopback through and remembers the others."""

    def __init__(self, context: BrowserContext) -> None:
        self.stopped: list[str] = []
        self.allowed = 0
        context.set_default_timeout(PATIENCE_MS)
        context.route("**/*", self._look)

    def _look(self, route: Route) -> None:
        if is_loopback(route.request.url):
            self.allowed += 1
            route.continue_()
        else:
            self.stopped.append(route.request.url)
            route.abort()


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
